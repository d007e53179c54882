"""Every task against the contract."""

from __future__ import annotations

from cellweave.testing import TaskSuite
from cellweave_tasks.annotation import AnnotationTask


class TestAnnotation(TaskSuite):
    tags = frozenset({"labels"})

    def create(self, **arguments):
        return AnnotationTask(**arguments)
