"""New cells into a fitted joint space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave.kernels.neighbours import nearest
from cellweave_maxfuse.fitting import placed
from cellweave_maxfuse.spatial import Surroundings, composition_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import ComponentState
    from cellweave_maxfuse.settings import Settings

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
    key = known[name]
    if key not in adata.obsm:
        return (
            f"mdata[{name!r}].obsm has no {key!r}, which the fit used; it has: "
            f"{one_of(adata.obsm)}. Project the new cells onto the fitted components."
        )
    width = state.arrays[f"{name}/means"].shape[1]
    values = np.asarray(adata.obsm[key])
    if values.ndim != 2 or values.shape[1] != width:
        return (
            f"mdata[{name!r}].obsm[{key!r}] has shape {values.shape}; the fit had {width} "
            "columns. Project the new cells onto the fitted components."
        )
    if not np.isfinite(values).all():
        return (
            f"mdata[{name!r}].obsm[{key!r}] holds NaN or infinity. Expected numbers: compute it "
            "again or drop these cells."
        )
    return None


def _placed(name: str, adata: AnnData, state: ComponentState, settings: Settings) -> np.ndarray:
    arrays = state.arrays
    values = np.asarray(adata.obsm[state.extra["keys"][name]], dtype=np.float32)
    batch = _batch(name, adata, state, settings)
    means = arrays[f"{name}/means"]
    centre = np.vstack([means, means.mean(axis=0)])
    representation = values - centre[batch]
    if name in state.extra["surroundings"]:
        representation = _with_surroundings(name, adata, representation, batch, state, settings)
    fitted = arrays[f"{name}/representation"]
    found, _ = nearest(representation, fitted, k=min(settings.n_neighbors, len(fitted)))
    linked = arrays[f"{name}/linked"][found].mean(axis=1)
    return placed(representation, arrays[f"{name}/loadings"], arrays[f"{name}/shift"], linked)


def _batch(name: str, adata: AnnData, state: ComponentState, settings: Settings) -> np.ndarray:
    """Return the code of each cell's batch; one beyond the last for a batch that was not fitted."""
    known = state.extra["batches"][name]
    if settings.batch_key is None or settings.batch_key not in adata.obs:
        return np.full(adata.n_obs, 0 if len(known) == 1 else len(known))
    at = {b: i for i, b in enumerate(known)}
    names = adata.obs[settings.batch_key].to_numpy(dtype=str)
    unique, codes = np.unique(names, return_inverse=True)
    return np.array([at.get(str(b), len(known)) for b in unique])[codes]


def _with_surroundings(
    name: str,
    adata: AnnData,
    representation: np.ndarray,
    batch: np.ndarray,
    state: ComponentState,
    settings: Settings,
) -> np.ndarray:
    if settings.spatial_key not in adata.obsm:
        msg = (
            f"mdata[{name!r}].obsm has no {settings.spatial_key!r}; the fit used the surroundings "
            "of cells. Expected coordinates of the new cells there."
        )
        raise DataError(msg)
    fitted = Surroundings(
        kinds=state.arrays[f"{name}/kinds"],
        mean=state.arrays[f"{name}/shares"],
        scale=float(state.extra["surroundings"][name]),
    )
    places = np.asarray(adata.obsm[settings.spatial_key], dtype=np.float32)
    return composition_of(
        representation, places, fitted, n_neighbors=settings.spatial_neighbors, batch=batch
    )
