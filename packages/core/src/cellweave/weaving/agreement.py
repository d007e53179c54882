"""Check a weave against the linked features, cell by cell, whichever method made it.

    agreement_i = mean over i's neighbours j in its own modality of
                  cos( l_j , mean of l over the 15 cells of the other modality that j lies beside )

where ``l`` are the linked coordinates of ``comparing``: smoothed within each modality and not
touched by the weave. A type that the other modality lacks is drawn to another one; its linked
features then disagree with those it lies beside, and the whole type stands apart from the other
cells by its agreement. Cells are called doubtful when the angles fall into two groups (Otsu, IEEE
Transactions on Systems, Man, and Cybernetics 1979) with next to nobody between them.

Cost: neighbours are searched among at most 10 000 cells of each modality, chosen at random by their
content; the others take the mean of the five chosen ones that are nearest in their own modality.
Time and memory are linear in cells beyond that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellweave.kernels.neighbours import nearest
from cellweave.records import Agreement
from cellweave.weaving.cells import cells_of
from cellweave.weaving.checks import aligned_link, representation_key
from cellweave.weaving.comparing import averaging, linked_coordinates
from cellweave.weaving.linalg import unit_rows
from cellweave.weaving.linked import one_per_pair

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks
    from cellweave.weaving.cells import Cells

__all__ = ["advice_on_agreement", "agreements", "doubtful_cells", "quality_of_agreement"]

_MOST_CELLS = 10_000
_SPREAD = 5
_SMOOTHED = 30
_BESIDE = 15
_MOST_DIMS = 30
_FEWEST_CELLS = 50
_FEWEST_FEATURES = 4
# Two groups: means of angles in this ratio, the poor one's agreement below what is good anywhere,
# and few cells in the middle fifth between them.
_RATIO = 1.5
_GOOD = 0.8
_VALLEY = 0.05
_SMALLEST, _LARGEST = 0.02, 0.5
_WEAK = 0.2


def agreements(
    mdata: MuData,
    links: Sequence[FeatureLinks],
    embeddings: Mapping[str, np.ndarray],
    *,
    batch_key: str | None = None,
) -> tuple[Agreement, ...]:
    """Return how well each cell's linked features agree with those of the cells it lies beside.

    Pairs of modalities without links or coordinates, with fewer than 50 cells or 4 linked
    features are left out.

    Parameters
    ----------
    mdata
        Prepared data.
    links
        Links between features of the data.
    embeddings
        Modality to ``(n_cells, d)`` joint coordinates, in input order.
    batch_key
        Column of ``obs``; linked features are centred within each batch.
    """
    rep = _representations(mdata, embeddings)
    known = [k for k in links if {k.source, k.target} <= set(rep)]
    pairs = one_per_pair([aligned_link(k, mdata) for k in known])
    used = sorted({name for pair in pairs for name in pair})
    some = {
        n: _chosen(n, mdata.mod[n], np.asarray(embeddings[n]), rep=rep, batch_key=batch_key)
        for n in used
    }
    cells = {n: one.cells for n, one in some.items()}
    graphs = {n: averaging(c.representation, _SMOOTHED) for n, c in cells.items()}
    found: list[Agreement] = []
    for link in pairs.values():
        parts = {n: some[n].data for n in (link.source, link.target)}
        linked = linked_coordinates(parts, link, cells, graphs, max_dims=_MOST_DIMS)
        if linked.n_features < _FEWEST_FEATURES:
            continue
        sides = (
            (linked.source, linked.target, linked.source_linked, linked.target_linked),
            (linked.target, linked.source, linked.target_linked, linked.source_linked),
        )
        for here, there, own, other in sides:
            scores = _agreement(own, other, some[here].placed, some[there].placed, graphs[here])
            best = _agreement(own, other, unit_rows(own), unit_rows(other), graphs[here])
            told = {"scores": scores, "best": best, "doubtful": doubtful_cells(scores)}
            everywhere = {k: some[here].for_all(v) for k, v in told.items()}
            found.append(Agreement(source=here, target=there, **everywhere))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """Hold the cells of a modality that are looked at, in canonical order, and where they lie.

    Parameters
    ----------
    rows
        Input positions of the chosen cells.
    placed
        Their joint coordinates at unit length.
    nearest_chosen
        ``(n, 5)`` chosen cells nearest to each cell, ``None`` where all are chosen.
    """

    data: AnnData
    cells: Cells
    rows: np.ndarray
    placed: np.ndarray
    nearest_chosen: np.ndarray | None

    def for_all(self, values: np.ndarray) -> np.ndarray:
        """Return values of the chosen cells as values of all cells, in input order."""
        if self.nearest_chosen is None:
            return self.cells.in_input_order(values)
        near = values[self.nearest_chosen].mean(axis=1)
        out = near > 0.5 if values.dtype == bool else near.astype(values.dtype)
        out[self.rows] = values
        return out


def _chosen(
    name: str,
    adata: AnnData,
    embedding: np.ndarray,
    *,
    rep: Mapping[str, str],
    batch_key: str | None,
) -> _Chosen:
    everyone = cells_of(name, adata, use_rep=rep, batch_key=batch_key)
    if adata.n_obs <= _MOST_CELLS:
        rows = everyone.order
        placed = unit_rows(embedding[rows])
        return _Chosen(data=adata, cells=everyone, rows=rows, placed=placed, nearest_chosen=None)
    at = np.random.default_rng(0).permutation(adata.n_obs)[:_MOST_CELLS]
    part = adata[everyone.order[at]]
    cells = cells_of(name, part, use_rep=rep, batch_key=batch_key)
    rows = everyone.order[at][cells.order]
    own = np.asarray(adata.obsm[rep[name]], dtype=np.float32)
    near, _ = nearest(own, own[rows], _SPREAD, metric="cosine")
    return _Chosen(
        data=part, cells=cells, rows=rows, placed=unit_rows(embedding[rows]), nearest_chosen=near
    )


def _representations(mdata: MuData, names: Iterable[str]) -> dict[str, str]:
    """Return where each modality finds its neighbours: in its own coordinates."""
    found = {}
    for name in names:
        adata = mdata.mod.get(name)
        if adata is None or adata.n_obs < _FEWEST_CELLS or "counts" not in adata.layers:
            continue
        key = representation_key(name, adata, {})
        if key is not None and np.isfinite(np.asarray(adata.obsm[key])).all():
            found[name] = key
    return found


def _agreement(
    own: np.ndarray,
    other: np.ndarray,
    placed: np.ndarray,
    placed_other: np.ndarray,
    graph: sp.csr_matrix,
) -> np.ndarray:
    beside, _ = nearest(placed, placed_other, min(_BESIDE, len(placed_other)), metric="cosine")
    met = np.zeros_like(own)
    for column in beside.T:  # one neighbour at a time: no array of cells × neighbours × features
        met += other[column]
    cosine = np.einsum("ij,ij->i", unit_rows(own), unit_rows(met))
    return np.asarray(graph @ cosine, dtype=np.float32)


def doubtful_cells(scores: np.ndarray) -> np.ndarray:
    """Return which cells form a group of their own whose agreement is much poorer; often none.

    Parameters
    ----------
    scores
        ``(n,)`` agreement, between -1 and 1.
    """
    angles = np.arccos(np.clip(scores.astype(np.float64), -1, 1))
    at, low, high = _two_groups(angles)
    poor = angles > at
    between = np.abs(angles - at) < 0.1 * (high - low)
    stands_apart = high > max(_RATIO * low, np.arccos(_GOOD)) and between.mean() <= _VALLEY
    if stands_apart and _SMALLEST <= poor.mean() <= _LARGEST:
        return poor
    return np.zeros(len(scores), dtype=bool)


def _two_groups(values: np.ndarray) -> tuple[float, float, float]:
    """Return where to cut so that two groups are as narrow as can be, and the means of both."""
    ordered = np.sort(values)
    n = len(ordered)
    sizes = np.arange(1, n)
    sums = np.cumsum(ordered)
    low, high = sums[:-1] / sizes, (sums[-1] - sums[:-1]) / (n - sizes)
    i = int(np.argmax(sizes * (n - sizes) * (high - low) ** 2))
    return float(ordered[i] + ordered[i + 1]) / 2, float(low[i]), float(high[i])


def quality_of_agreement(found: Sequence[Agreement]) -> dict[str, float]:
    """Return the median agreement and the share of doubtful cells, each way."""
    middle = {f"agreement_{a.source}_to_{a.target}": float(np.median(a.scores)) for a in found}
    share = {f"doubtful_{a.source}_to_{a.target}": float(a.doubtful.mean()) for a in found}
    return {**middle, **share}


def advice_on_agreement(found: Sequence[Agreement]) -> list[str]:
    """Return what looks poor and what to do about it; nothing when it looks sound."""
    said = []
    for one in found:
        middle = float(np.median(one.scores))
        if middle < _WEAK:
            said.append(
                f"Cells of {one.source!r} lie beside cells of {one.target!r} whose linked features "
                f"hardly agree with theirs (median {middle:.2f}, 0 is chance). Check the links "
                "and the preparation, or compare with another integrator."
            )
        elif one.doubtful.any():
            said.append(_on_doubtful(one))
    return said


def _on_doubtful(one: Agreement) -> str:
    """Say whether the other modality has no such cells, or the weave drew them elsewhere."""
    now, best = (np.arccos(np.clip(v[one.doubtful], -1, 1)) for v in (one.scores, one.best))
    who = (
        f"{one.doubtful.mean():.0%} of the cells of {one.source!r} stand apart: their linked "
        f"features disagree with those of the cells of {one.target!r} that they lie beside"
    )
    if np.median(now) > _RATIO * np.median(best):
        return (
            f"{who}, though others would agree. Types may be confused there, or cells that "
            f"{one.source!r} lacks were drawn to them. Look at them in the report, and compare "
            "with another integrator."
        )
    return (
        f"{who}, and no others agree better: {one.target!r} may lack their type. Labels and "
        "values carried to them mean nothing then; leave them out of what you conclude."
    )
