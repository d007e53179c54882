"""Every task against the contract."""

from __future__ import annotations

from cellweave.testing import TaskSuite
from cellweave_tasks.annotation import AnnotationTask
from cellweave_tasks.cross_modality import CrossModalityTask
from cellweave_tasks.generation import GenerationTask
from cellweave_tasks.genes import GeneTask
from cellweave_tasks.imputation import ImputationTask
from cellweave_tasks.integration import IntegrationTask
from cellweave_tasks.perturbation import PerturbationTask
from cellweave_tasks.spatial import SpatialTask

from .planted_perturbations import perturbed_cells
from .test_genes import genes
from .test_imputation import programmes
from .test_spatial import tissue


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


class TestCrossModality(TaskSuite):
    def create(self, **arguments):
        return CrossModalityTask(**{"method": "ridge"} | arguments)

    def train_data(self):
        return programmes()

    def held_out_data(self):
        return programmes(seed=1)


class TestImputation(TaskSuite):
    def create(self, **arguments):
        return ImputationTask(**{"method": "ridge", "n_components": 8} | arguments)

    def train_data(self):
        return programmes()

    def held_out_data(self):
        return programmes(seed=1)


class TestIntegration(TaskSuite):
    tags = frozenset({"transductive"})

    def create(self, **arguments):
        return IntegrationTask(**arguments)


class TestSpatial(TaskSuite):
    tags = frozenset({"labels"})

    def create(self, **arguments):
        return SpatialTask(**arguments)

    def train_data(self):
        return tissue()

    def held_out_data(self):
        return tissue(seed=1)


class TestGenes(TaskSuite):
    tags = frozenset({"features"})

    def create(self, **arguments):
        return GeneTask(**arguments)

    def train_data(self):
        # The suite fits on the first half of the cells too: genes are the same.
        return genes()

    def held_out_data(self):
        return genes(seed=1)


class TestGeneration(TaskSuite):
    # What is drawn depends on the label asked for, which is no answer but the question; the order
    # of cells of a label is that of the draws.
    tags = frozenset({"needs_truth", "features"})

    def create(self, **arguments):
        return GenerationTask(**arguments)
