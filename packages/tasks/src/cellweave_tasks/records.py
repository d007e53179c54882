"""What every task needs: where a result came from, and a refusal before `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, TypeVar

import numpy as np
import scipy
import sklearn

from cellweave.errors import NotFittedError
from cellweave.records import Provenance

__all__ = ["arguments_of", "need_fit", "provenance_of"]

Fitted = TypeVar("Fitted")


def arguments_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor from its ``locals()``."""
    return {k: v for k, v in scope.items() if k not in ("self", "__class__")}


def need_fit(fitted: Fitted | None, task: str) -> Fitted:
    """Return what was learnt, or raise when that is nothing."""
    if fitted is None:
        msg = f"{task} has learnt nothing yet. Call `fit(adata)` first."
        raise NotFittedError(msg)
    return fitted


def provenance_of(component: str, parameters: Mapping[str, Any], seed: int) -> Provenance:
    """Return the provenance of a task's result."""
    return Provenance(
        component=component,
        version=version("cellweave-tasks"),
        parameters=parameters,
        seed=seed,
        versions={
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
            "scipy": scipy.__version__,
        },
    )
