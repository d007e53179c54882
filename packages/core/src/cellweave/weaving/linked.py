"""Two matrices whose columns correspond: what links say, one column a feature of the smaller side.

The side with fewer linked features gives the columns (proteins rather than genes, genes rather
than peaks). Of it the prepared values are taken. The other side is added up onto these columns:
its counts times the links, scaled to the cell's total over *all* features and logged, so that a
protein meets all its genes, and a gene all its peaks (a gene activity). Links of negative sign are
added up by themselves and subtracted on the log scale.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from cellweave.records import FeatureLinks

__all__ = ["LinkedPair", "linked_pair", "one_per_pair"]

_TOTAL = 1e4
MAX_COLUMNS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedPair:
    """Say how both modalities give values of the same columns.

    Parameters
    ----------
    anchor, other
        The modality whose features name the columns, and the one that is added up.
    columns
        ``(s,)`` positions of these features in the anchor.
    weights
        ``(n_features_of_other, s)`` signed CSR.
    names
        ``(s,)`` names of the columns.
    """

    anchor: str
    other: str
    columns: np.ndarray
    weights: sp.csr_matrix
    names: np.ndarray

    def values(self, name: str, adata: AnnData) -> np.ndarray:
        """Return the ``(n_cells, s)`` float32 linked values of one of the two modalities."""
        if name == self.anchor:
            return _dense(adata.X[:, self.columns])
        return _summed(self.weights, adata)


def linked_pair(
    links: FeatureLinks, data: Mapping[str, AnnData], *, max_columns: int = MAX_COLUMNS
) -> LinkedPair:
    """Return how two modalities meet; links are in the order of the data.

    Parameters
    ----------
    links
        Links, restricted to the features of the data.
    data
        Modality to prepared data; only ``var`` is read.
    max_columns
        With more linked features than this, only the highly variable ones make columns.
    """
    few = _turned(links)
    columns = _columns(few, data[few.target], max_columns)
    return LinkedPair(
        anchor=few.target,
        other=few.source,
        columns=columns,
        weights=few.matrix(signed=True)[:, columns],
        names=few.target_features[columns].astype(str),
    )


def one_per_pair(links: Sequence[FeatureLinks]) -> dict[tuple[str, str], FeatureLinks]:
    """Return all links by pair of modalities, names sorted; empty records are left out.

    Several records of one pair (two kinds of evidence) are joined; of links that several of them
    give the one of the largest weight is kept, the earlier where weights are equal.

    Parameters
    ----------
    links
        Links, restricted to the features of the data.
    """
    turned = [k if k.source < k.target else k.reversed() for k in links if len(k)]
    groups: dict[tuple[str, str], list[FeatureLinks]] = {}
    for link in sorted(turned, key=lambda k: (k.source, k.target)):
        groups.setdefault((link.source, link.target), []).append(link)
    return {pair: _joined(group) for pair, group in groups.items()}


def _joined(group: Sequence[FeatureLinks]) -> FeatureLinks:
    if len(group) == 1:
        return group[0]
    parts = {
        name: np.concatenate([getattr(link, name) for link in group])
        for name in ("rows", "cols", "weights", "signs", "evidence")
    }
    order = np.lexsort((-parts["weights"], parts["cols"], parts["rows"]))
    code = parts["rows"][order] * np.int64(len(group[0].target_features)) + parts["cols"][order]
    kept = order[np.unique(code, return_index=True)[1]]
    return replace(
        group[0],
        rows=parts["rows"][kept],
        cols=parts["cols"][kept],
        weights=parts["weights"][kept],
        signs=parts["signs"][kept],
        evidence=parts["evidence"][kept],
    )


def _turned(links: FeatureLinks) -> FeatureLinks:
    """Return the links turned so that the target has fewer linked features."""
    n_source, n_target = len(np.unique(links.rows)), len(np.unique(links.cols))
    as_is = n_target < n_source or (n_target == n_source and links.target < links.source)
    return links if as_is else links.reversed()


def _columns(few: FeatureLinks, adata: AnnData, max_columns: int) -> np.ndarray:
    columns = np.unique(few.cols)
    if len(columns) > max_columns and "highly_variable" in adata.var:
        chosen = columns[np.asarray(adata.var["highly_variable"], dtype=bool)[columns]]
        columns = chosen if len(chosen) >= 50 else columns
    return columns


def _summed(links: sp.csr_matrix, adata: AnnData) -> np.ndarray:
    counts = adata.layers["counts"]
    totals = np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()
    scale = (_TOTAL / np.where(totals > 0, totals, 1.0)).astype(np.float32)
    positive = _log(counts, links.maximum(0), scale)
    if not (links.data < 0).any():
        return positive
    negative = _log(counts, (-links).maximum(0), scale)
    difference: np.ndarray = positive - negative
    return difference


def _log(counts: Any, links: sp.csr_matrix, scale: np.ndarray) -> np.ndarray:
    values = _dense(counts @ sp.csc_matrix(links))
    values *= scale[:, None]
    # Intensities of some modalities may lie below zero; the logarithm is made odd for them.
    logged: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return logged


def _dense(values: Any) -> np.ndarray:
    array = cast("Any", values).toarray() if sp.issparse(values) else np.asarray(values)
    return np.ascontiguousarray(array, dtype=np.float32)
