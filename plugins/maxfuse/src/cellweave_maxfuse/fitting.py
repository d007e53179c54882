"""The whole fit: graphs, linked spaces, rounds, joint space, matches, quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.records import Progress
from cellweave.weaving import (
    batch_means,
    link_agreement,
    linked_pair,
    one_per_pair,
    standardised,
    unit_rows,
)
from cellweave_maxfuse.cca import whitening
from cellweave_maxfuse.cellmatches import CellMatches, match_cells
from cellweave_maxfuse.initial import linked_space
from cellweave_maxfuse.joint import Joint, joint_space, linked_coordinates
from cellweave_maxfuse.matching import SoftMatching
from cellweave_maxfuse.metacells import averaging, metacells
from cellweave_maxfuse.pairing import PairFit, RoundSettings, Side, fuse_pair
from cellweave_maxfuse.quality import PairQuality, poorly_matched
from cellweave_maxfuse.smoothing import neighbour_graph, neighbours, smooth
from cellweave_maxfuse.spatial import Surroundings, with_surroundings

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback
    from cellweave.weaving import Cells
    from cellweave_maxfuse.settings import Settings

__all__ = ["Fit", "Place", "fit_all", "placed"]

_MAX_WIDTH = 100
_UNITS_BEFORE_METACELLS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Hold one modality's way into the joint space, and its fitted cells.

    Parameters
    ----------
    cells
        The cells, their representation centred.
    loadings
        ``(k, c)`` from centred representation to weighted canonical variates.
    shift
        ``(c,)`` variates of the matched mean, to be taken off.
    linked
        ``(n, d)`` weighted linked coordinates of the fitted cells, canonical order.
    embedding
        ``(n, c + d)`` float32, canonical order.
    surroundings
        How neighbourhood composition was appended, where it was.
    """

    cells: Cells
    representation: np.ndarray
    loadings: np.ndarray
    shift: np.ndarray
    linked: np.ndarray
    embedding: np.ndarray
    surroundings: Surroundings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Hold everything a fit gives: places by modality, matches and quality by pair."""

    places: dict[str, Place]
    matches: dict[tuple[str, str], CellMatches]
    history: dict[str, np.ndarray]
    qualities: tuple[PairQuality, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """One modality before any matching."""

    cells: Cells
    representation: np.ndarray
    surroundings: Surroundings | None
    graph: sp.csr_matrix
    whitening: np.ndarray
    white: np.ndarray
    average: sp.csr_matrix | None
    mass: np.ndarray


def fit_all(
    mdata: MuData,
    cells: Mapping[str, Cells],
    links: tuple[FeatureLinks, ...],
    settings: Settings,
    progress: ProgressCallback | None,
) -> Fit:
    """Run MaxFuse on checked data."""
    pairs = one_per_pair(links)
    total = len(cells) + len(pairs) * (settings.rounds + 1)
    report = _Reporter(progress, total)
    grounds: dict[str, _Ground] = {}
    for name in sorted(cells):
        grounds[name] = _ground(cells[name], mdata.mod[name], settings)
        report("neighbours", {f"cells_{name}": float(len(cells[name].order))})
    spaces: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    fits, evidence = [], {}
    for pair, link in pairs.items():
        spaces[pair], evidence[pair] = _linked(link, mdata, grounds, settings)
        left, right = (_side(m, grounds[m], spaces[pair][m]) for m in pair)
        fits.append(fuse_pair(left, right, _rounds(settings), lambda _, v: report("rounds", v)))
    joint = joint_space(
        fits,
        {m: g.white.shape[1] for m, g in grounds.items()},
        n_components=settings.n_components,
        power=settings.power,
    )
    places = {m: _place(m, grounds, spaces, joint, settings) for m in grounds}
    matches, qualities = {}, []
    for fit in fits:
        pair = fit.left, fit.right
        matches[pair], quality = _matched(pair, fit, places, grounds, evidence[pair], settings)
        qualities.append(quality)
        report("matches", {"match_score": quality.score})
    return Fit(places=places, matches=matches, history=_history(fits), qualities=tuple(qualities))


class _Reporter:
    """Count the steps that were reported."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self._progress, self._total, self._step = progress, total, 0

    def __call__(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Report one more step."""
        self._step += 1
        if self._progress is not None:
            step = min(self._step, self._total)
            self._progress(Progress(stage=stage, step=step, total=self._total, metrics=metrics))


def _rounds(settings: Settings) -> RoundSettings:
    return RoundSettings(
        rounds=settings.rounds,
        n_components=settings.n_components,
        anchor=settings.anchor,
        smoothing=settings.smoothing,
        power=settings.power,
        batch_size=settings.batch_size,
        soft=SoftMatching(epsilon=settings.epsilon, rho=settings.rho),
    )


def _ground(cells: Cells, adata: AnnData, settings: Settings) -> _Ground:
    representation, surroundings = _denoised(cells.representation), None
    if settings.spatial_neighbors and settings.spatial_key in adata.obsm:
        representation, surroundings = with_surroundings(
            representation,
            np.asarray(adata.obsm[settings.spatial_key], dtype=np.float32)[cells.order],
            n_neighbors=settings.spatial_neighbors,
            share=0.25,
            batch=cells.batch,
        )
    to_white = whitening(representation, settings.ridge)
    size = settings.metacell_size or -(-len(representation) // _UNITS_BEFORE_METACELLS)
    average, mass = None, np.ones(len(representation), dtype=np.float32)
    found = neighbours(representation, max(settings.n_neighbors, round(1.5 * size)))
    if size > 1:
        average, counts = averaging(metacells(found, size))
        mass = counts.astype(np.float32)
    return _Ground(
        cells=cells,
        representation=representation,
        surroundings=surroundings,
        graph=neighbour_graph(found, settings.n_neighbors),
        whitening=to_white,
        white=(representation @ to_white).astype(np.float32),
        average=average,
        mass=mass,
    )


def _denoised(representation: np.ndarray) -> np.ndarray:
    """Return the leading components of a wide representation, as an own basis of its space."""
    if representation.shape[1] <= _MAX_WIDTH:
        return representation
    wide = representation.astype(np.float64)
    axes = np.linalg.eigh(wide.T @ wide)[1][:, ::-1][:, :_MAX_WIDTH]
    # Projected but kept in the given coordinates, so that new cells need no other basis.
    return ((wide @ axes) @ axes.T).astype(np.float32)


def _linked(
    link: FeatureLinks, mdata: MuData, grounds: Mapping[str, _Ground], settings: Settings
) -> tuple[dict[str, np.ndarray], tuple[int, float, float]]:
    pair = linked_pair(link, mdata.mod)
    values = {}
    for name in (link.source, link.target):
        ground = grounds[name]
        own = pair.values(name, mdata.mod[name])[ground.cells.order]
        own -= batch_means(own, ground.cells.batch)[ground.cells.batch]
        values[name] = smooth(
            ground.graph,
            standardised(own),
            weight=settings.smoothing,
            steps=settings.smoothing_steps,
        )
    left, right = values[link.source], values[link.target]
    if not (left.std(axis=0) * right.std(axis=0) > 0).sum() > 1:
        msg = (
            f"Links {link.source!r} to {link.target!r}: fewer than two of {len(pair.columns)} "
            "linked features vary among the cells of both modalities. Expected tens: check that "
            "the links name expressed features, or link more."
        )
        raise DataError(msg)
    agreement = link_agreement(left, right)
    space = linked_space(left, right, settings.linked_components)
    spaces = {link.source: space.left, link.target: space.right}
    return spaces, (len(pair.columns), *agreement)


def _side(name: str, ground: _Ground, linked: np.ndarray) -> Side:
    return Side(
        name=name,
        white=ground.white,
        graph=ground.graph,
        linked=linked,
        average=ground.average,
        mass=ground.mass,
    )


def _place(
    name: str,
    grounds: Mapping[str, _Ground],
    spaces: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    joint: Joint,
    settings: Settings,
) -> Place:
    ground = grounds[name]
    whites = {m: g.white for m, g in grounds.items()}
    linked = linked_coordinates(name, ground.white, spaces, whites, joint)
    linked = (linked * np.float32(settings.linked_weight)).astype(np.float32)
    loadings = ground.whitening @ joint.axes[name]
    shift = joint.means[name] @ joint.axes[name]
    return Place(
        cells=ground.cells,
        representation=ground.representation,
        loadings=loadings,
        shift=shift,
        linked=linked,
        embedding=placed(ground.representation, loadings, shift, linked),
        surroundings=ground.surroundings,
    )


def placed(
    representation: np.ndarray,
    loadings: np.ndarray,
    shift: np.ndarray,
    linked: np.ndarray,
    graph: sp.csr_matrix | None = None,
    smoothing: float = 1.0,
) -> np.ndarray:
    """Return joint coordinates: canonical variates of length 1 beside linked ones."""
    along = (representation @ loadings - shift).astype(np.float32)
    if graph is not None:
        along = smooth(graph, along, weight=smoothing)
    both = np.concatenate([unit_rows(along), linked], axis=1)
    return unit_rows(both).astype(np.float32)


def _matched(
    pair: tuple[str, str],
    fit: PairFit,
    places: Mapping[str, Place],
    grounds: Mapping[str, _Ground],
    evidence: tuple[int, float, float],
    settings: Settings,
) -> tuple[CellMatches, PairQuality]:
    left, right = (
        placed(
            places[m].representation,
            places[m].loadings,
            places[m].shift,
            places[m].linked,
            grounds[m].graph,
            settings.smoothing,
        )
        for m in pair
    )
    found = match_cells(
        (left, right),
        (places[pair[0]].representation, places[pair[1]].representation),
        screen=settings.screen,
    )
    columns, agreement, above_chance = evidence
    best = _best(found.rows, found.scores, len(left)), _best(found.cols, found.scores, len(right))
    quality = PairQuality(
        left=pair[0],
        right=pair[1],
        columns=columns,
        link_agreement=agreement,
        link_z=above_chance,
        correlation=fit.correlation,
        score=float(np.median(found.scores)),
        poor_left=poorly_matched(best[0]),
        poor_right=poorly_matched(best[1]),
    )
    return found, quality


def _best(at: np.ndarray, scores: np.ndarray, n: int) -> np.ndarray:
    """Return the score of the best match of each cell."""
    best = np.zeros(n, dtype=np.float32)
    np.maximum.at(best, at, scores)
    return best


def _history(fits: list[PairFit]) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for fit in fits:
        suffix = "" if len(fits) == 1 else f"_{fit.left}_{fit.right}"
        out |= {f"{name}{suffix}": np.asarray(values) for name, values in fit.history.items()}
    return out
