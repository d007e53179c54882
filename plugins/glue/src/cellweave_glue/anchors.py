"""Anchors: pairs of cells of two modalities that are each other's neighbours.

The decoders alone tie modalities through the feature vectors of linked features; with a panel of
tens of proteins that tie is too loose to tell one match of clusters from another. Before the
first phase, anchors are found among linked features themselves: each modality's values are
averaged over the cell's neighbours in its own representation, standardised, and compared by
cosine. An anchor is trusted as far as the anchors of both cells' own neighbours lead to the same
places, and the better half is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.kernels.neighbours import nearest
from cellweave.weaving.linked import linked_pair

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks
    from cellweave_glue.inputs import ModalityInput

__all__ = ["Anchors", "linked_anchors", "mutual_neighbours", "smoothed", "trusted"]

Anchors = Mapping[tuple[str, str], sp.csr_matrix]

_MOST_CELLS = 20_000
_CHUNK = 50_000
_WIDTH = 64


def mutual_neighbours(a: np.ndarray, b: np.ndarray, k: int) -> sp.csr_matrix:
    """Return the boolean ``(n_a, n_b)`` matrix of mutual ``k``-nearest neighbours by cosine."""
    forth = _memberships(a, b, k)
    back = _memberships(b, a, k)
    both = forth.multiply(back.T).tocsr()
    both.sort_indices()
    return both


def trusted(
    anchors: sp.csr_matrix, a: np.ndarray, b: np.ndarray, k: int, *, share: float = 0.5
) -> sp.csr_matrix:
    """Keep the ``share`` of anchors that agree best with those of their cells' neighbours.

    The agreement of (i, j) is the part of the anchors of i's ``k`` neighbours that end among the
    neighbours of j, or the same from j to i where that is less.
    """
    graph_a = _memberships(a, a, k)
    graph_b = _memberships(b, b, k)
    spread = (graph_a @ anchors).tocsr()
    coo = anchors.tocoo()
    if not coo.nnz:
        return anchors
    agreeing = _entries(spread, graph_b, coo.row, coo.col)
    forth = agreeing / np.asarray(spread.sum(1)).ravel()[coo.row]
    back = agreeing / np.asarray((graph_b @ anchors.T).sum(1)).ravel()[coo.col]
    score = np.minimum(forth, back)
    keep = score >= np.quantile(score, 1 - share)
    kept = (np.ones(int(keep.sum()), dtype=np.float32), (coo.row[keep], coo.col[keep]))
    return sp.csr_matrix(kept, shape=anchors.shape)


def _entries(
    left: sp.csr_matrix, right: sp.csr_matrix, rows: np.ndarray, cols: np.ndarray
) -> np.ndarray:
    """Return ``(left @ right.T)[rows, cols]`` without the whole product, in chunks."""
    out = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = np.asarray(left[rows[part]].multiply(right[cols[part]]).sum(1)).ravel()
    return out


def _memberships(a: np.ndarray, b: np.ndarray, k: int) -> sp.csr_matrix:
    k = min(k, len(b))
    found, _ = nearest(a, b, k, metric="cosine")
    indptr = np.arange(0, found.size + 1, k)
    values = np.ones(found.size, dtype=np.float32)
    return sp.csr_matrix((values, found.ravel(), indptr), shape=(len(a), len(b)))


def smoothed(values: np.ndarray, representation: np.ndarray, k: int) -> np.ndarray:
    """Average each cell's values over itself and its neighbours in its own representation."""
    k = min(k, len(values))
    graph = _memberships(representation, representation, k)
    out: np.ndarray = np.asarray(graph @ values) / k
    return out


def linked_anchors(
    mdata: MuData,
    data: Mapping[str, ModalityInput],
    links: Sequence[FeatureLinks],
    *,
    n_neighbours: int,
    n_smooth: int,
    seed: int,
) -> dict[tuple[str, str], sp.csr_matrix]:
    """Return mutual neighbours in the space of linked features, for each pair that has links.

    Of a modality with more than 20 000 cells that many are drawn: anchors guide, they need not
    cover every cell.
    """
    rng = np.random.default_rng(seed)
    rows = {m: _chosen(data[m].n_cells, rng) for m in sorted(data)}
    out: dict[tuple[str, str], sp.csr_matrix] = {}
    for link in links:
        if not len(link):
            continue
        given = link if link.source < link.target else link.reversed()
        pair = (given.source, given.target)
        parts = {m: mdata.mod[m][rows[m]] for m in pair}
        own = {m: data[m].representation[rows[m]] for m in pair}
        a, b = _linked_space(given, parts, own, n_smooth)
        mutual = trusted(
            mutual_neighbours(a, b, n_neighbours), own[pair[0]], own[pair[1]], n_smooth
        )
        shape = (data[pair[0]].n_cells, data[pair[1]].n_cells)
        found = _placed(mutual, rows[pair[0]], rows[pair[1]], shape)
        out[pair] = found.maximum(out[pair]) if pair in out else found
    return out


def _chosen(n: int, rng: np.random.Generator) -> np.ndarray:
    if n <= _MOST_CELLS:
        return np.arange(n)
    return np.sort(rng.choice(n, _MOST_CELLS, replace=False))


def _linked_space(
    link: FeatureLinks,
    parts: Mapping[str, AnnData],
    representations: Mapping[str, np.ndarray],
    n_smooth: int,
) -> tuple[np.ndarray, np.ndarray]:
    pair = linked_pair(link, parts)
    a, b = (
        _standardised(smoothed(pair.values(m, parts[m]), representations[m], n_smooth))
        for m in (link.source, link.target)
    )
    if a.shape[1] > 2 * _WIDTH:
        axes = _common_axes(a, b)
        a, b = a @ axes, b @ axes
    return a, b


def _standardised(values: np.ndarray) -> np.ndarray:
    out: np.ndarray = (values - values.mean(0)) / (values.std(0) + 1e-6)
    return out.astype(np.float32)


def _common_axes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the leading axes of both sets of rows together, each set weighing the same."""
    gram = a.T @ a / len(a) + b.T @ b / len(b)
    return np.linalg.eigh(gram.astype(np.float64))[1][:, -_WIDTH:].astype(np.float32)


def _placed(
    found: sp.csr_matrix, rows: np.ndarray, cols: np.ndarray, shape: tuple[int, int]
) -> sp.csr_matrix:
    coo = found.tocoo()
    out = sp.csr_matrix((coo.data, (rows[coo.row], cols[coo.col])), shape=shape)
    out.sort_indices()
    return out
