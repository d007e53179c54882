"""Every task against the contract."""

from __future__ import annotations

from cellweave.testing import TaskSuite
from cellweave_tasks.annotation import AnnotationTask
from cellweave_tasks.perturbation import PerturbationTask

from .planted_perturbations import perturbed_cells


class TestAnnotation(TaskSuite):
    tags = frozenset({"labels"})

    def create(self, **arguments):
        return AnnotationTask(**arguments)


class TestPerturbation(TaskSuite):
    tags = frozenset({"features", "needs_truth"})
    truth_columns = ("condition",)

    def create(self, **arguments):
        return PerturbationTask(**arguments)

    def train_data(self):
        return perturbed_cells(["ctrl", "G0+ctrl", "G1+ctrl", "G2+ctrl"], contexts=("t0", "t1"))

    def held_out_data(self):
        return perturbed_cells(["G0+G1", "G3+ctrl"], contexts=("t0",), seed=1)
