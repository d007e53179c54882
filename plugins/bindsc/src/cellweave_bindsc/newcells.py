"""New cells into a fitted space: the linked values of the fit, and its linear maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.weaving import LinkedPair
from cellweave_bindsc.fitting import coordinates
from cellweave_bindsc.scaling import Scaling, scaled

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import ComponentState
    from cellweave_bindsc.settings import Settings

__all__ = ["place_new"]


def place_new(mdata: MuData, state: ComponentState, settings: Settings) -> Mapping[str, np.ndarray]:
    """Return the coordinates of new cells by modality, in input order."""
    problems = [p for m in mdata.mod if (p := _problem(m, mdata.mod[m], state))]
    if problems:
        raise DataError(" ".join(problems))
    return {m: _placed(m, mdata.mod[m], state, settings) for m in mdata.mod}


def _problem(name: str, adata: AnnData, state: ComponentState) -> str | None:
    known = state.extra["keys"]
    if name not in known:
        return (
            f"The fitted space has no modality {name!r}.{closest(name, known)} "
            f"Expected some of: {one_of(known)}."
        )
    fitted = np.asarray(state.extra["feature_names"][name], dtype=str)
    given = adata.var_names.to_numpy(dtype=str)
    if not np.array_equal(fitted, given):
        return (
            f"mdata[{name!r}] has {len(given)} features that are not the {len(fitted)} fitted "
            "ones in their order. Bring them into it: adata[:, fitted_names]."
        )
    if name == state.extra["other"]:
        return _representation_problem(name, adata, state)
    return None


def _representation_problem(name: str, adata: AnnData, state: ComponentState) -> str | None:
    key, width = state.extra["keys"][name], state.arrays[f"{name}/means"].shape[1]
    values: np.ndarray = np.asarray(adata.obsm[key]) if key in adata.obsm else np.empty(())
    if values.ndim != 2 or values.shape[1] != width or not np.isfinite(values).all():
        return (
            f"mdata[{name!r}].obsm[{key!r}] is missing, not finite or not of the {width} columns "
            f"of the fit (found shape {values.shape}). Project the new cells onto the fitted "
            "components."
        )
    return None


def _placed(name: str, adata: AnnData, state: ComponentState, settings: Settings) -> np.ndarray:
    arrays = state.arrays
    batch = _batch(name, adata, state, settings)
    scaling = Scaling(means=arrays[f"{name}/linked_means"], spread=arrays[f"{name}/linked_spread"])
    linked = scaled(_pair(state).values(name, adata).copy(), batch, scaling)
    inputs = linked @ arrays[f"{name}/reduction"]
    if name == state.extra["other"]:
        means = arrays[f"{name}/means"]
        centre = np.vstack([means, means.mean(axis=0)])
        own = np.asarray(adata.obsm[state.extra["keys"][name]], dtype=np.float32) - centre[batch]
        inputs = np.concatenate([inputs, own], axis=1)
    return coordinates(inputs @ arrays[f"{name}/loadings"], arrays["weights"])


def _pair(state: ComponentState) -> LinkedPair:
    extra, arrays = state.extra, state.arrays
    shape = (len(extra["feature_names"][extra["other"]]), len(arrays["columns"]))
    parts = (arrays["links/data"], arrays["links/indices"], arrays["links/indptr"])
    return LinkedPair(
        anchor=extra["anchor"],
        other=extra["other"],
        columns=arrays["columns"],
        weights=sp.csr_matrix(parts, shape=shape),
        names=np.asarray(extra["column_names"], dtype=str),
    )


def _batch(name: str, adata: AnnData, state: ComponentState, settings: Settings) -> np.ndarray:
    """Return the code of each cell's batch; ``-1``, the mean of all, for one not fitted."""
    known = state.extra["batches"][name]
    if settings.batch_key is None or settings.batch_key not in adata.obs:
        return np.full(adata.n_obs, 0 if len(known) == 1 else -1)
    at = {b: i for i, b in enumerate(known)}
    names = adata.obs[settings.batch_key].to_numpy(dtype=str)
    unique, codes = np.unique(names, return_inverse=True)
    return np.array([at.get(str(b), -1) for b in unique])[codes]
