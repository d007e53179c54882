"""Anchors: pairs of cells of two modalities that are each other's neighbours.

The decoders alone tie modalities through the feature vectors of linked features; with a panel of
tens of proteins that tie is too loose to tell one match of clusters from another. Before the
first phase, anchors are found among linked features themselves: each modality's values are
averaged over the cell's neighbours in its own representation, standardised, and compared by
cosine. Before the second phase they are found anew in the learned space.
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

__all__ = ["Anchors", "linked_anchors", "mutual_neighbours", "smoothed"]

Anchors = Mapping[tuple[str, str], sp.csr_matrix]

_MOST_CELLS = 20_000
_WIDTH = 64


def mutual_neighbours(a: np.ndarray, b: np.ndarray, k: int) -> sp.csr_matrix:
    """Return the boolean ``(n_a, n_b)`` matrix of mutual ``k``-nearest neighbours by cosine."""
    forth = _memberships(a, b, k)
    back = _memberships(b, a, k)
    both = forth.multiply(back.T).tocsr()
    both.sort_indices()
    return both


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
        a, b = _linked_space(given, parts, {m: data[m].representation[rows[m]] for m in pair}, n_smooth)
        shape = (data[pair[0]].n_cells, data[pair[1]].n_cells)
        found = _placed(mutual_neighbours(a, b, n_neighbours), rows[pair[0]], rows[pair[1]], shape)
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
