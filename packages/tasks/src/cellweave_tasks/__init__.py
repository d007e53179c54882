"""Tasks: what biologists ask of an embedding, each beside its baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_tasks.annotation import AnnotationTask as AnnotationTask
    from cellweave_tasks.ontology import Ontology as Ontology
    from cellweave_tasks.splits import Split as Split
    from cellweave_tasks.splits import by_fraction as by_fraction
    from cellweave_tasks.splits import by_group as by_group
    from cellweave_tasks.splits import grouped_folds as grouped_folds

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AnnotationTask": "cellweave_tasks.annotation",
        "Ontology": "cellweave_tasks.ontology",
        "Split": "cellweave_tasks.splits",
        "by_fraction": "cellweave_tasks.splits",
        "by_group": "cellweave_tasks.splits",
        "grouped_folds": "cellweave_tasks.splits",
    },
)
