"""The whole fit: linked matrices, reduction, parameters by rule, the turns, linear ways in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.records import Progress
from cellweave.weaving import LinkedPair, link_agreement, linked_pair, product_svd, unit_rows
from cellweave_bindsc.biorder import BiOrder, BiOrderSettings, bi_order_cca
from cellweave_bindsc.features import correlation_with
from cellweave_bindsc.rules import Chosen, choose
from cellweave_bindsc.scaling import Scaling, fitted_scaling, scaled

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback
    from cellweave.weaving import Cells
    from cellweave_bindsc.settings import Settings

__all__ = ["Fit", "Place", "coordinates", "fit_all"]

_REDUCE_ABOVE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Hold one modality's cells in the common space and the linear way there.

    Parameters
    ----------
    scaling
        Scaling of its linked values.
    reduction
        ``(s, d)`` from scaled linked values to the reduced ones.
    loadings
        ``(d, k)`` from these to canonical scores; for the other side ``(d + p, k)``, with its
        representation appended.
    scores
        ``(n, k)`` canonical scores of unit variance, canonical order.
    features
        ``(n_features, k)`` unit-length coordinates of all features.
    """

    cells: Cells
    scaling: Scaling
    reduction: np.ndarray
    loadings: np.ndarray
    scores: np.ndarray
    features: np.ndarray
    feature_names: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Hold everything a fit gives."""

    pair: LinkedPair
    places: dict[str, Place]
    weights: np.ndarray
    chosen: Chosen
    history: dict[str, np.ndarray]
    quality: dict[str, float]


def fit_all(
    mdata: MuData,
    cells: Mapping[str, Cells],
    link: FeatureLinks,
    settings: Settings,
    progress: ProgressCallback | None,
) -> Fit:
    """Run bindSC on checked data."""
    pair = linked_pair(link, mdata.mod)
    values, scalings = {}, {}
    for name in (pair.anchor, pair.other):
        own = pair.values(name, mdata.mod[name])[cells[name].order]
        scalings[name] = fitted_scaling(own, cells[name].batch)
        values[name] = scaled(own, cells[name].batch, scalings[name])
    _require_variation(pair, scalings)
    agreement = link_agreement(values[pair.anchor], values[pair.other])
    reductions, sizes = _reduced(values[pair.anchor], values[pair.other], settings)
    x, z0 = (values[n] @ r for n, r in zip((pair.anchor, pair.other), reductions, strict=True))
    y = cells[pair.other].representation
    given = Chosen(
        alpha=-1 if settings.alpha is None else settings.alpha,
        lam=-1 if settings.lam is None else settings.lam,
        n_components=settings.n_components,
    )
    chosen = choose(x, z0, y, sizes, given)
    found = bi_order_cca(x, z0, y, _turns(chosen, settings), _reporter(progress, settings))
    weights = np.sqrt(found.sizes / max(float(found.sizes[0]), 1e-30)).astype(np.float32)
    inputs = {pair.anchor: x, pair.other: np.concatenate([z0, y], axis=1)}
    canonical = {pair.anchor: found.left, pair.other: found.right}
    places = {
        name: _place(
            cells[name], mdata.mod[name], scalings[name], reduction, inputs[name],
            canonical[name], weights,
        )
        for name, reduction in zip((pair.anchor, pair.other), reductions, strict=True)
    }  # fmt: skip
    return Fit(
        pair=pair,
        places=places,
        weights=weights,
        chosen=chosen,
        history={k: np.asarray(v) for k, v in found.history.items()},
        quality=_quality(pair, agreement, found, chosen),
    )


def coordinates(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the co-embedding: scores weighted by the root of their singular value, length 1."""
    return unit_rows(scores * weights).astype(np.float32)


def _require_variation(pair: LinkedPair, scalings: Mapping[str, Scaling]) -> None:
    varies = np.all([np.isfinite(s.spread) for s in scalings.values()], axis=0)
    if varies.sum() < 2:
        msg = (
            f"Links {pair.anchor!r} to {pair.other!r}: {int(varies.sum())} of {len(varies)} linked "
            "features vary among the cells of both modalities. Expected tens: check that the links "
            "name expressed features, or link more."
        )
        raise DataError(msg)


def _reduced(
    x: np.ndarray, z0: np.ndarray, settings: Settings
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return linear maps of both sides to a common reduced space, and singular values.

    ``XᵀZ0 ≈ U S V'``; the reduced sides are ``U S^½`` and ``V S^½``. Up to 100 linked features
    stay as they are.
    """
    u, s, v = product_svd(x, z0, min(settings.n_reduced, x.shape[1]))
    if x.shape[1] <= _REDUCE_ABOVE:
        same = np.eye(x.shape[1], dtype=np.float32)
        return (same, same), s
    kept = s > s[0] * 1e-6
    root = np.sqrt(s[kept] / s[0]) / s[kept]
    left, right = z0.T @ (v[:, kept] * root), x.T @ (u[:, kept] * root)
    return (left.astype(np.float32), right.astype(np.float32)), s


def _turns(chosen: Chosen, settings: Settings) -> BiOrderSettings:
    return BiOrderSettings(
        alpha=chosen.alpha,
        lam=chosen.lam,
        n_components=chosen.n_components,
        max_iterations=settings.max_iterations,
        tolerance=settings.tolerance,
    )


def _reporter(progress: ProgressCallback | None, settings: Settings) -> _Report | None:
    return None if progress is None else _Report(progress, settings.max_iterations)


class _Report:
    def __init__(self, progress: ProgressCallback, total: int) -> None:
        self._progress, self._total = progress, total

    def __call__(self, turn: int, values: dict[str, float]) -> None:
        self._progress(Progress(stage="turns", step=turn, total=self._total, metrics=values))


def _place(
    cells: Cells,
    adata: AnnData,
    scaling: Scaling,
    reduction: np.ndarray,
    inputs: np.ndarray,
    canonical: np.ndarray,
    weights: np.ndarray,
) -> Place:
    # Canonical vectors are linear in these inputs, so least squares finds the map itself.
    scores = canonical * np.float32(np.sqrt(len(canonical)))
    gram = inputs.T.astype(np.float64) @ inputs
    ridge = 1e-7 * float(np.trace(gram)) / len(gram)
    loadings = np.linalg.solve(gram + ridge * np.eye(len(gram)), inputs.T @ scores)
    ordered = cells.in_input_order(scores)
    values = adata.X if sp.issparse(adata.X) else np.asarray(adata.X)
    return Place(
        cells=cells,
        scaling=scaling,
        reduction=reduction,
        loadings=loadings.astype(np.float32),
        scores=scores,
        features=coordinates(correlation_with(values, ordered), weights),
        feature_names=adata.var_names.to_numpy(dtype=str),
    )


def _quality(
    pair: LinkedPair, agreement: tuple[float, float], found: BiOrder, chosen: Chosen
) -> dict[str, float]:
    values = {
        "linked_features": float(len(pair.columns)),
        "link_agreement": agreement[0],
        "link_z": agreement[1],
        "alpha": chosen.alpha,
        "lambda": chosen.lam,
        "rank": float(chosen.n_components),
        "last_change": found.history["change"][-1],
    }
    return {k: float(v) for k, v in values.items() if np.isfinite(v)}
