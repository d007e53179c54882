"""Lay out what the networks take: each modality's coordinates, and the features two share.

The linked features of a pair are few and noisy one by one. Three things, none of them tuned to a
data set, let them carry: they are aggregated (a gene's peaks are summed before the logarithm),
averaged over each cell's neighbours within its own modality, where all features speak, and weighted
by the share of their variance that survives that averaging (a feature that its neighbours do not
share is noise).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.kernels.neighbours import nearest

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = ["LinkedPair", "coordinates_of", "linked_pair", "spanning_pairs"]

_REPRESENTATIONS = ("X_pca", "X_lsi")
_CLIP = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedPair:
    """Hold the coordinates in which the cells of two modalities can be compared directly.

    Parameters
    ----------
    source, target
        Modality names.
    source_linked, target_linked
        ``(n, s)`` float32, column by column about the same thing.
    n_features
        Linked features that were used, before any reduction.
    agreement
        Mean weight of the features: the share of variance that neighbours share, 0 to 1.
    """

    source: str
    target: str
    source_linked: np.ndarray
    target_linked: np.ndarray
    n_features: int
    agreement: float


def coordinates_of(
    adata: AnnData, name: str, *, use_rep: str | None, batch_key: str | None
) -> np.ndarray:
    """Return the modality's representation, centred per batch, with unit mean variance."""
    candidates = [use_rep] if use_rep else [k for k in _REPRESENTATIONS if k in adata.obsm]
    if not candidates or candidates[0] not in adata.obsm:
        wanted = use_rep or " or ".join(_REPRESENTATIONS)
        hint = closest(use_rep, adata.obsm) if use_rep else ""
        msg = (
            f"`mdata[{name!r}].obsm` has no {wanted!r}.{hint} It has: {one_of(adata.obsm)}. "
            "Run `cellweave.prepare(mdata)` first, or name another with `use_rep`."
        )
        raise DataError(msg)
    values = np.array(adata.obsm[candidates[0]], dtype=np.float32)
    if values.ndim != 2 or not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        msg = (
            f"`mdata[{name!r}].obsm[{candidates[0]!r}]` has shape {values.shape} and {bad} "
            "values that are NaN or infinite. Expected finite rows, one a cell: prepare again."
        )
        raise DataError(msg)
    for rows in _batches(adata, name, batch_key):
        values[rows] -= values[rows].mean(axis=0)
    return values / np.float32(np.sqrt(values.var(axis=0).mean()) + 1e-8)


def _batches(adata: AnnData, name: str, batch_key: str | None) -> list[np.ndarray]:
    if batch_key is None:
        return [np.arange(adata.n_obs)]
    if batch_key not in adata.obs:
        msg = (
            f"`mdata[{name!r}].obs` has no {batch_key!r}.{closest(batch_key, adata.obs)} "
            f"It has: {one_of(map(str, adata.obs))}. Set batch_key to one of them or leave it out."
        )
        raise DataError(msg)
    codes = adata.obs[batch_key].astype("category").cat.codes.to_numpy()
    return [np.flatnonzero(codes == code) for code in np.unique(codes)]


def spanning_pairs(names: Sequence[str], links: Sequence[FeatureLinks]) -> list[FeatureLinks]:
    """Choose the links that connect all modalities as a tree, those with most links first."""
    inside = [k for k in links if k.source in names and k.target in names and len(k)]
    group = {name: i for i, name in enumerate(sorted(names))}
    chosen = []
    for one in sorted(inside, key=lambda k: (-_n_anchors(k), *sorted((k.source, k.target)))):
        a, b = group[one.source], group[one.target]
        if a != b:
            chosen.append(one)
            group = {n: a if g == b else g for n, g in group.items()}
    if len(set(group.values())) > 1:
        msg = (
            f"The links do not connect the modalities {one_of(names)}: {len(inside)} of "
            f"{len(links)} link records join two of them. Add links with `cellweave.link(mdata)`."
        )
        raise DataError(msg)
    return chosen


def _n_anchors(links: FeatureLinks) -> int:
    return min(len(np.unique(links.rows)), len(np.unique(links.cols)))


def linked_pair(
    mdata: MuData,
    links: FeatureLinks,
    coordinates: Mapping[str, np.ndarray],
    *,
    n_neighbors: int,
    max_dims: int,
    batch_key: str | None,
) -> LinkedPair:
    """Compute the shared coordinates of two linked modalities."""
    used = links
    for side, features in (("source", links.source_features), ("target", links.target_features)):
        name = getattr(links, side)
        if not np.array_equal(features.astype(str), mdata.mod[name].var_names.astype(str)):
            used = used.restricted(
                source_features=mdata.mod[links.source].var_names,
                target_features=mdata.mod[links.target].var_names,
            )
            break
    if not len(used):
        msg = (
            f"None of the {len(links)} links between {links.source!r} and {links.target!r} names "
            "features of these data. Link again with `cellweave.link(mdata)`."
        )
        raise DataError(msg)
    raw = _linked_values(mdata, used)
    smoothed, weights = [], []
    for name, values in zip((links.source, links.target), raw, strict=True):
        batches = _batches(mdata.mod[name], name, batch_key)
        z, weight = _smoothed(values, coordinates[name], batches, n_neighbors)
        smoothed.append(z)
        weights.append(weight)
    weight = np.sqrt(weights[0] * weights[1])
    kept = weight > 0
    if not kept.any():
        weight, kept = np.ones_like(weight), np.ones_like(kept)
    both = [s[:, kept] * weight[kept] for s in smoothed]
    reduced = _jointly_reduced(both, max_dims)
    return LinkedPair(
        source=links.source,
        target=links.target,
        source_linked=reduced[0],
        target_linked=reduced[1],
        n_features=int(kept.sum()),
        agreement=float(weight.mean()),
    )


def _linked_values(mdata: MuData, links: FeatureLinks) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides as ``(n, anchors)``; anchors are the features of the narrower side."""
    matrix = links.matrix()
    narrow_target = len(np.unique(links.cols)) <= len(np.unique(links.rows))
    by_anchor = matrix.tocsc() if narrow_target else matrix.T.tocsc()
    anchors = np.flatnonzero(np.diff(by_anchor.indptr))
    wide = links.source if narrow_target else links.target
    narrow = links.target if narrow_target else links.source
    wide_values = _aggregated(mdata.mod[wide], by_anchor[:, anchors])
    narrow_values = sp.csc_matrix(mdata.mod[narrow].X)[:, anchors].toarray()
    sides = {wide: wide_values, narrow: np.asarray(narrow_values, dtype=np.float32)}
    return sides[links.source], sides[links.target]


def _aggregated(adata: AnnData, weights: sp.csc_matrix) -> np.ndarray:
    counts = sp.csr_matrix(adata.layers["counts"]).astype(np.float32)
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1.0)
    summed = np.asarray((counts @ weights).todense(), dtype=np.float32)
    scaled = summed * (1e4 / total)[:, None].astype(np.float32)
    return np.sign(scaled) * np.log1p(np.abs(scaled))


def _smoothed(
    values: np.ndarray, coordinates: np.ndarray, batches: list[np.ndarray], n_neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scores of neighbourhood means, and the share of variance that neighbours share.

    For white noise the mean over ``k`` other cells has ``1/k`` of the variance; what is above that
    is signal.
    """
    values = values.copy()
    for rows in batches:
        values[rows] -= values[rows].mean(axis=0)
    k = int(min(n_neighbors, len(values) - 1))
    indices, _ = nearest(coordinates, k=k, metric="cosine", exclude_self=True)
    mean = np.zeros_like(values)
    for column in range(k):
        mean += values[indices[:, column]]
    mean /= k
    variance = np.maximum(values.var(axis=0), 1e-12)
    share = np.clip((mean.var(axis=0) / variance - 1.0 / k) / (1.0 - 1.0 / k), 0.0, 1.0)
    smooth = (mean * k + values) / (k + 1)
    z = smooth / np.maximum(smooth.std(axis=0), 1e-6)
    return np.clip(z, -_CLIP, _CLIP), share


def _jointly_reduced(both: list[np.ndarray], max_dims: int) -> list[np.ndarray]:
    if both[0].shape[1] > max_dims:
        gram = sum(b.T.astype(np.float64) @ b / len(b) for b in both)
        largest = [len(gram) - max_dims, len(gram) - 1]
        _, vectors = scipy.linalg.eigh(gram, subset_by_index=largest)
        axes = vectors[:, ::-1].astype(np.float32)
        both = [b @ axes for b in both]
    scale = np.float32(np.sqrt(np.mean([b.var(axis=0).mean() for b in both])) + 1e-8)
    return [np.ascontiguousarray(b / scale, dtype=np.float32) for b in both]
