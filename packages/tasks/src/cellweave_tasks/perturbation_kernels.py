r"""Responses to genes that were never perturbed, from genes like them: a graph, or any embedding.

GEARS carries what it learns of a perturbation along a graph of genes by simple graph convolution;
a probe reads it off a foundation model's gene embedding. Both are one Gaussian process here, with
the perturbations' likeness :math:`K` and the mean of training singles as what is expected before:

.. math:: g_p = \bar g + k_p^\top (K + \lambda S)^{-1} (\Delta - \bar g), \qquad
          \Delta_{AB} = \gamma\,(g_A + g_B)

:math:`S` is diagonal, 1 and what few cells leave unsure, relative to how large true changes are;
:math:`\bar g` weighs by :math:`1/S`.

:math:`K` is of one-hot rows carried 0 to 2 steps over co-expression, shared gene sets or both
(``graph``), or of embeddings (``probe``). Likeness and :math:`\lambda` are those that best predict
each training single from the others, in closed form; unless they beat the mean there by more than
a standard error, the mean comes out. A perturbation that was measured keeps its
own change, drawn towards :math:`g_p` by as much as its few cells leave it unsure. :math:`\gamma` is
fitted on training pairs.

What a perturbation does to its own gene is learnt apart (:mod:`.perturbation_own_effect`).

Departures from GEARS: closed form for the network, no gene-specific decoder, no uncertainty head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellweave_tasks.perturbation_graph import GeneGraph
from cellweave_tasks.perturbation_models import Query, Response, Training
from cellweave_tasks.perturbation_own_effect import OwnEffect

__all__ = ["graph_response", "probe_response"]

_HOPS = ((1.0, 1.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.5, 0.25), (0.3, 1.0, 1.0))
_PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_CONSTANT = 1e3
_GAINS = (0.3, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Singles:
    """Distinct training singles: their mean change, and the variance of that mean."""

    names: list[str]
    deltas: np.ndarray
    noise: np.ndarray


class _Likeness:
    """One way to compare genes; rows of known genes have length 1, of unknown 0."""

    def rows(self, genes: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


class _Hopping(_Likeness):
    def __init__(self, graph: GeneGraph, weights: tuple[float, ...]) -> None:
        self.graph, self.weights = graph, weights

    def rows(self, genes: Sequence[str]) -> np.ndarray:
        hops = self.graph.hops(list(genes), len(self.weights) - 1)
        total = np.zeros(hops[0].shape)
        for weight, hop in zip(self.weights, hops, strict=True):
            total += weight * hop.toarray()
        return _unit(total)


class _Stacked(_Likeness):
    def __init__(self, *parts: _Likeness) -> None:
        self.parts = parts

    def rows(self, genes: Sequence[str]) -> np.ndarray:
        return _unit(np.hstack([p.rows(genes) for p in self.parts]))


class _Embedded(_Likeness):
    def __init__(self, names: np.ndarray, vectors: np.ndarray, n_axes: int | None) -> None:
        centred = vectors - vectors.mean(axis=0)
        if n_axes is not None:
            left, _, _ = np.linalg.svd(centred, full_matrices=False)
            centred = left[:, :n_axes]  # all axes alike: the strongest one is often mere level
        self.at = {str(n): i for i, n in enumerate(names)}
        self.vectors = centred

    def rows(self, genes: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(genes), self.vectors.shape[1]))
        for i, gene in enumerate(genes):
            if gene in self.at:
                out[i] = self.vectors[self.at[gene]]
        return _unit(out)


def graph_response(training: Training) -> Response:
    """Carry changes along the graphs of genes."""
    singles = _singles(training)
    ways: list[_Likeness] = [_Hopping(g, w) for g in training.graphs for w in _HOPS]
    if len(training.graphs) > 1:
        ways += [_Stacked(*(_Hopping(g, w) for g in training.graphs)) for w in _HOPS]
    return _response(training, singles, ways)


def probe_response(training: Training) -> Response:
    """Read changes off an embedding of genes."""
    names, vectors = training.gene_embedding
    most = min(vectors.shape)
    sizes = [None, *(n for n in (10, 30) if n < most)]
    return _response(training, _singles(training), [_Embedded(names, vectors, n) for n in sizes])


def _response(training: Training, singles: _Singles, ways: list[_Likeness]) -> Response:
    if len(singles.names) < 3:
        mean = training.deltas.mean(axis=0)
        own = dict(zip(singles.names, singles.deltas, strict=True))
        return lambda query: _summed([own.get(p, mean) for p in query.unit.perturbations], 1.0)
    process = _Process(singles, ways, OwnEffect.of(training, singles.names, singles.deltas))
    gain = _gain(training, process)
    measured = _measured_pairs(training)

    def respond(query: Query) -> np.ndarray:
        if query.unit.perturbations in measured:
            return measured[query.unit.perturbations]
        parts = [process(p) for p in query.unit.perturbations]
        return _summed(parts, gain if len(parts) > 1 else 1.0)

    return respond


class _Process:
    """The Gaussian process over singles, its likeness and noise chosen by leaving each out."""

    def __init__(self, singles: _Singles, ways: list[_Likeness], own_effect: OwnEffect) -> None:
        self.own_effect = own_effect
        unsure = _unsureness(singles)
        self.mean = np.average(singles.deltas, axis=0, weights=1 / unsure)
        centred = singles.deltas - self.mean
        flat = _left_out(np.zeros((len(centred), len(centred))), singles.deltas, unsure)
        self.way, penalty = _best_way(singles, ways, flat, unsure)
        residual = singles.deltas - flat
        if self.way is not None:
            self.rows = self.way.rows(singles.names)
            kernel = self.rows @ self.rows.T
            residual = singles.deltas - _left_out(kernel, singles.deltas, penalty * unsure)
            self.dual = np.linalg.solve(kernel + penalty * np.diag(unsure), centred)
        # What likeness cannot tell, over that and what few cells leave unsure.
        unexplained = np.maximum((residual**2).mean(axis=1).mean() - singles.noise.mean(), 1e-12)
        self.trust = unexplained / (unexplained + singles.noise)
        self.own = {n: i for i, n in enumerate(singles.names)}
        self.deltas = singles.deltas

    def expected(self, gene: str) -> np.ndarray:
        """Return the change expected from genes like it."""
        found = self.mean
        if self.way is not None:
            found = self.mean + (self.way.rows([gene]) @ self.rows.T)[0] @ self.dual
        return self.own_effect.on(gene, found)

    def __call__(self, gene: str) -> np.ndarray:
        if gene not in self.own:
            return self.expected(gene)
        at = self.own[gene]
        return self.trust[at] * self.deltas[at] + (1 - self.trust[at]) * self.expected(gene)


def _unsureness(singles: _Singles) -> np.ndarray:
    """Return the variance of each change, true and of few cells, over the true one."""
    true = (singles.deltas**2).mean() - singles.noise.mean()
    return np.asarray(1 + singles.noise / max(float(true), 1e-2 * singles.noise.mean(), 1e-12))


def _best_way(
    singles: _Singles, ways: list[_Likeness], flat: np.ndarray, unsure: np.ndarray
) -> tuple[_Likeness | None, float]:
    """Choose likeness and noise; none, unless better than the mean by a standard error."""
    plain = _agreements(flat, singles.deltas)
    best: tuple[float, _Likeness | None, float, np.ndarray] = (-np.inf, None, 1.0, plain)
    for way in ways:
        rows = way.rows(singles.names)
        for penalty in _PENALTIES:
            left_out = _left_out(rows @ rows.T, singles.deltas, penalty * unsure)
            found = _agreements(left_out, singles.deltas)
            if found.mean() > best[0]:
                best = (float(found.mean()), way, penalty, found)
    gain = best[3] - plain
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    return (best[1], best[2]) if gain.mean() > error else (None, 1.0)


def _singles(training: Training) -> _Singles:
    found: dict[str, list[int]] = {}
    for i, unit in enumerate(training.units):
        if len(unit.perturbations) == 1:
            found.setdefault(unit.perturbations[0], []).append(i)
    return _Singles(
        names=list(found),
        deltas=np.array([training.deltas[rows].mean(axis=0) for rows in found.values()]),
        noise=np.array([training.noise[rows].mean() / len(rows) for rows in found.values()]),
    )


def _measured_pairs(training: Training) -> dict[tuple[str, ...], np.ndarray]:
    pairs = {u.perturbations for u in training.units if len(u.perturbations) > 1}
    rows = {p: [i for i, u in enumerate(training.units) if u.perturbations == p] for p in pairs}
    return {p: training.deltas[at].mean(axis=0) for p, at in rows.items()}


def _left_out(kernel: np.ndarray, deltas: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Predict each row from the others; a large constant stands for their free mean."""
    whole = kernel + np.diag(penalty) + _CONSTANT
    inverse = np.linalg.inv(whole)
    return deltas - (inverse @ deltas) / np.diag(inverse)[:, None]


def _agreements(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    a = found - found.mean(axis=1, keepdims=True)
    b = true - true.mean(axis=1, keepdims=True)
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 0)


def _gain(training: Training, process: _Process) -> float:
    pairs = [i for i, u in enumerate(training.units) if len(u.perturbations) > 1]
    if not pairs:
        return 1.0
    sums = np.stack([_summed([process(p) for p in training.units[i].perturbations], 1.0)
                     for i in pairs])  # fmt: skip
    size = float((sums**2).sum())
    gain = float((sums * training.deltas[pairs]).sum()) / size if size > 0 else 1.0
    return float(np.clip(gain, *_GAINS))


def _summed(parts: list[np.ndarray], gain: float) -> np.ndarray:
    return gain * np.sum(parts, axis=0)


def _unit(rows: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 1e-12)
