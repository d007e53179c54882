"""New cells into a fitted space: the linked values of the fit, and its linear maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.weaving import Basis, LinkedPair, batch_codes, new_cells_problem
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
    bases = {m: Basis.from_json(b) for m, b in state.extra["bases"].items()}
    if name in bases:
        fitted = np.asarray(state.extra["feature_names"][name], dtype=str)
        given = adata.var_names.to_numpy(dtype=str)
        if not np.array_equal(fitted, given):
            return (
                f"mdata[{name!r}] has {len(given)} features that are not the {len(fitted)} fitted "
                "ones in their order. Bring them into it: adata[:, fitted_names]."
            )
        if name != state.extra["other"]:
            return None  # linked values suffice, whatever its representation
    return new_cells_problem(name, adata, bases)


def _placed(name: str, adata: AnnData, state: ComponentState, settings: Settings) -> np.ndarray:
    arrays = state.arrays
    batch = batch_codes(adata, settings.batch_key, state.extra["batches"][name])
    scaling = Scaling(means=arrays[f"{name}/linked_means"], spread=arrays[f"{name}/linked_spread"])
    linked = scaled(_pair(state).values(name, adata).copy(), batch, scaling)
    inputs = linked @ arrays[f"{name}/reduction"]
    if name == state.extra["other"]:
        means = arrays[f"{name}/means"]
        centre = np.vstack([means, means.mean(axis=0)])
        key = state.extra["bases"][name]["key"]
        own = np.asarray(adata.obsm[key], dtype=np.float32) - centre[batch]
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
