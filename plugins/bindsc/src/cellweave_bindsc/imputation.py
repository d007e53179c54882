"""One modality's features in the other's cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave_bindsc.features import imputed

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import ComponentState

__all__ = ["impute_features"]


def impute_features(
    mdata: MuData,
    state: ComponentState,
    source: str,
    target: str,
    features: Sequence[str] | None,
) -> np.ndarray:
    """Return features of ``target`` in the cells of ``source``, in the units of its ``X``."""
    known = state.extra["bases"]
    for name in (source, target):
        if name not in known or name not in mdata.mod:
            msg = (
                f"There is no modality {name!r} in both fit and data.{closest(name, known)} "
                f"Expected one of: {one_of(known)}."
            )
            raise DataError(msg)
    adata = mdata.mod[target]
    fitted = np.asarray(state.extra["obs_names"][target], dtype=str)
    if not np.array_equal(adata.obs_names.to_numpy(dtype=str), fitted):
        msg = (
            f"mdata[{target!r}] holds {adata.n_obs} cells that are not the {len(fitted)} fitted "
            "ones in their order. Give the data of the fit."
        )
        raise DataError(msg)
    at = np.arange(adata.n_vars) if features is None else _positions(adata.var_names, features)
    whole: Any = adata.X
    return imputed(whole[:, at], state.arrays[f"{target}/scores"], state.arrays[f"{source}/scores"])


def _positions(names: Any, features: Sequence[str]) -> np.ndarray:
    import pandas as pd

    index = pd.Index(names).astype(str)
    at = index.get_indexer([str(f) for f in features])
    if (at < 0).any():
        missing = [str(f) for f, i in zip(features, at, strict=True) if i < 0]
        msg = (
            f"No feature is called {missing[0]!r} ({len(missing)} of {len(features)} are unknown)."
            f"{closest(missing[0], list(index))} Name features of the target modality."
        )
        raise DataError(msg)
    return np.asarray(at)
