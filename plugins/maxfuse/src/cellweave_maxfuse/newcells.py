"""New cells into a fitted joint space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.kernels.neighbours import nearest
from cellweave.weaving import Basis, batch_codes, new_cells_problem
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
    bases = {m: Basis.from_json(b) for m, b in state.extra["bases"].items()}
    problems = [p for m in mdata.mod if (p := new_cells_problem(m, mdata.mod[m], bases))]
    if problems:
        raise DataError(" ".join(problems))
    return {m: _placed(m, mdata.mod[m], state, settings) for m in mdata.mod}


def _placed(name: str, adata: AnnData, state: ComponentState, settings: Settings) -> np.ndarray:
    arrays = state.arrays
    values = np.asarray(adata.obsm[state.extra["bases"][name]["key"]], dtype=np.float32)
    batch = batch_codes(adata, settings.batch_key, state.extra["batches"][name])
    means = arrays[f"{name}/means"]
    centre = np.vstack([means, means.mean(axis=0)])
    representation = values - centre[batch]
    if name in state.extra["surroundings"]:
        representation = _with_surroundings(name, adata, representation, batch, state, settings)
    fitted = arrays[f"{name}/representation"]
    found, _ = nearest(representation, fitted, k=min(settings.n_neighbors, len(fitted)))
    linked = arrays[f"{name}/linked"][found].mean(axis=1)
    return placed(representation, arrays[f"{name}/loadings"], arrays[f"{name}/shift"], linked)


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
