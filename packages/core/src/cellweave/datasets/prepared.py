"""The prepared form of simulated data, by plain numpy and scipy, without any modality plugin.

This is a stand-in that lets integrators and tasks be tested alone. Real data are prepared by the
modality plugins, which know far more about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.datasets.joining import joined
from cellweave.records import Preparation, PreparationStep, Provenance

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["prepare_simulated"]

_HIGHLY_VARIABLE = 2000
_COMPONENTS = 50


def prepare_simulated(mdata: MuData, *, seed: int = 0) -> MuData:
    """Return the prepared form of every modality of simulated data, as a new object."""
    makers = {
        "rna": _prepare_counts,
        "atac": _prepare_peaks,
        "prot": _prepare_proteins,
        "spatial": _prepare_panel,
        "metab": _prepare_metabolites,
    }
    parts = {}
    for modality, adata in mdata.mod.items():
        part = adata.copy()
        part.layers["counts"] = part.X.copy()
        makers[modality](part, seed)
        part.uns["preparation"] = _record_of(modality, seed)
        parts[modality] = part
    return joined(parts, dict(mdata.uns))


def _prepare_counts(adata: AnnData, seed: int) -> None:
    adata.X = _log_normalised(adata.X)
    adata.var["highly_variable"] = _most_variable(adata.layers["counts"])
    chosen = adata.X[:, adata.var["highly_variable"].to_numpy()].toarray()
    adata.obsm["X_pca"] = _components(_standardised(chosen), seed)


def _prepare_panel(adata: AnnData, seed: int) -> None:
    _prepare_counts(adata, seed)
    adata.obsp["spatial_connectivities"] = _neighbourhood(adata.obsm["spatial"])


def _prepare_peaks(adata: AnnData, seed: int) -> None:
    counts = adata.X
    frequency = _row_scaled(counts) @ sp.diags(
        counts.shape[0] / np.maximum(np.asarray(counts.sum(axis=0)).ravel(), 1e-12)
    )
    normalised = sp.csr_matrix(_row_scaled(sp.csr_matrix(frequency)) * 1e4)
    normalised.data = np.log1p(normalised.data)
    adata.X = normalised.astype(np.float32)
    adata.var["highly_variable"] = np.asarray((counts > 0).sum(axis=0)).ravel() > 0
    left = _left_vectors(adata.X, seed)
    left -= left.mean(axis=1, keepdims=True)
    spread = left.std(axis=1, ddof=1, keepdims=True)
    adata.obsm["X_lsi"] = (left / np.where(spread > 0, spread, 1)).astype(np.float32)


def _prepare_proteins(adata: AnnData, seed: int) -> None:
    logs = np.log1p(adata.X.toarray())
    adata.X = (logs - logs.mean(axis=1, keepdims=True)).astype(np.float32)
    adata.var["highly_variable"] = ~adata.var["isotype_control"].to_numpy(dtype=bool)
    chosen = adata.X[:, adata.var["highly_variable"].to_numpy()]
    adata.obsm["X_pca"] = _components(_standardised(chosen), seed)


def _prepare_metabolites(adata: AnnData, seed: int) -> None:
    adata.X = _log_normalised(adata.X)
    adata.var["highly_variable"] = np.asarray((adata.X > 0).sum(axis=0)).ravel() > 0
    adata.obsm["X_pca"] = _components(_standardised(adata.X.toarray()), seed)


def _log_normalised(counts: sp.csr_matrix) -> sp.csr_matrix:
    normalised = sp.csr_matrix(_row_scaled(counts) * 1e4)
    normalised.data = np.log1p(normalised.data)
    return normalised.astype(np.float32)


def _row_scaled(matrix: sp.csr_matrix) -> sp.csr_matrix:
    totals = np.asarray(matrix.sum(axis=1), dtype=float).ravel()
    return sp.csr_matrix(sp.diags(1 / np.where(totals > 0, totals, 1)) @ matrix)


def _most_variable(counts: sp.csr_matrix) -> np.ndarray:
    """Mark the genes whose variance most exceeds that of a Poisson count of their mean."""
    mean = np.asarray(counts.mean(axis=0)).ravel()
    square = np.asarray(counts.multiply(counts).mean(axis=0)).ravel()
    excess = (square - mean**2) / np.maximum(mean, 1e-12)
    chosen = np.zeros(len(mean), dtype=bool)
    chosen[np.argsort(-excess, kind="stable")[:_HIGHLY_VARIABLE]] = True
    return chosen


def _standardised(values: np.ndarray) -> np.ndarray:
    spread = values.std(axis=0, ddof=1 if len(values) > 1 else 0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return np.clip(scaled, -10, 10)


def _components(values: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.utils.extmath import randomized_svd

    k = min(_COMPONENTS, *values.shape)
    left, singular, _ = randomized_svd(values, k, n_iter=4, random_state=seed)
    return (left * singular).astype(np.float32)


def _left_vectors(values: sp.csr_matrix, seed: int) -> np.ndarray:
    from sklearn.utils.extmath import randomized_svd

    k = min(_COMPONENTS, *values.shape)
    left, _, _ = randomized_svd(values, k, n_iter=15, random_state=seed)
    return np.asarray(left)


def _neighbourhood(positions: np.ndarray, k: int = 6) -> sp.csr_matrix:
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(positions, min(k, len(positions) - 1))
    return sp.csr_matrix(graph.maximum(graph.T)).astype(np.float32)


def _record_of(modality: str, seed: int) -> str:
    step = PreparationStep(name="simulated", parameters={"seed": seed})
    provenance = Provenance(component="datasets.prepare_simulated", version="1", seed=seed)
    return Preparation(modality=modality, steps=(step,), provenance=provenance).to_json()
