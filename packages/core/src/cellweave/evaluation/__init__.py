"""How good is it: metrics as pure functions on arrays, and the verb that runs them on a MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.evaluation.compare import ComparedRun as ComparedRun
    from cellweave.evaluation.compare import compare_table as compare_table
    from cellweave.evaluation.neighbours import nearest as nearest
    from cellweave.evaluation.running import evaluate as evaluate

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ComparedRun": "cellweave.evaluation.compare",
        "compare_table": "cellweave.evaluation.compare",
        "evaluate": "cellweave.evaluation.running",
        "nearest": "cellweave.evaluation.neighbours",
    },
)
