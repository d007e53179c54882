r"""Models of the response to a perturbation, and the plain ones that each must beat.

All see units (what, where), the mean change :math:`\Delta_u` of each training unit, and the state
of each context's control cells. Each gives the change it expects of a new unit:

- ``no_change``: :math:`0`; ``mean``: :math:`\bar\Delta` over training units;
- ``additive``: the sum over what is perturbed of its mean single change;
- ``ridge``: :math:`\Delta = \bar\Delta + W f(u)`, :math:`f`: which, the genes' loadings, the state;
- ``latent_shift``: changes averaged in a latent space with equal weight for every context, and
  decoded linearly (scGen, Lotfollahi et al. 2019, with a closed-form decoder for the network);
- ``context_shift``: the same, weighing contexts by how alike their control cells are: a Gaussian
  process over states, its width and noise chosen by leaving contexts out;
- ``auto``: ``context_shift`` for what training saw perturbed elsewhere, ``graph`` for what is new;
- ``graph``, ``probe``: unseen genes from those like them on graphs of genes, or in an embedding of
  genes (:mod:`cellweave_tasks.perturbation_kernels`);
- ``generator``: scGPT's network, asked of its plugin
  (:mod:`cellweave_tasks.perturbation_generator`);
- ``linear``: :math:`\Delta \approx G W P^\top`, genes and perturbations by loadings of the training
  cells, or by a model's gene embedding (Ahlmann-Eltze, Huber and Anders 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, closest, one_of
from cellweave_tasks.perturbation_data import Unit

if TYPE_CHECKING:
    from cellweave_tasks.perturbation_graph import GeneGraph

__all__ = ["BASELINES", "MODELS", "Query", "Response", "Training", "make_response"]

BASELINES = ("no_change", "mean", "additive", "ridge")
MODELS = ("auto", "latent_shift", "context_shift", "linear", "graph", "probe", "generator")
_PENALTIES = (0.01, 0.1, 1.0, 10.0)
_WIDTHS = (0.3, 0.6, 1.0, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What models learn from, one row a training unit.

    ``deltas`` are changes of features, ``latent`` of the representation, ``states`` the controls'
    mean representation of the unit's context; ``decoder`` maps the representation to features;
    ``loadings`` describe each feature by its principal axes. ``noise`` is the sampling variance of
    each row of ``deltas``, mean over features; ``graphs`` and ``gene_embedding`` (names, vectors)
    are what the models of unseen genes go by; ``controls`` are the control cells by context.
    """

    units: tuple[Unit, ...]
    deltas: np.ndarray
    latent: np.ndarray
    states: np.ndarray
    decoder: np.ndarray
    loadings: np.ndarray
    names: np.ndarray
    noise: np.ndarray
    graphs: tuple[GeneGraph, ...]
    gene_embedding: tuple[np.ndarray, np.ndarray]
    controls: Mapping[str, np.ndarray | sp.csr_matrix]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One unit to predict, with its context's control cells and their mean representation."""

    unit: Unit
    state: np.ndarray
    control: np.ndarray | sp.csr_matrix


Response = Callable[[Query], np.ndarray]


def make_response(name: str, training: Training) -> Response:
    """Fit a model by name."""
    from cellweave_tasks.perturbation_kernels import graph_response, probe_response

    makers: dict[str, Callable[[Training], Response]] = {
        "no_change": _no_change,
        "mean": _mean,
        "additive": lambda t: _additive(t, t.deltas),
        "ridge": _ridge,
        "auto": lambda t: _by_what_is_new(_context_shift(t), graph_response(t), t),
        "latent_shift": _latent_shift,
        "context_shift": _context_shift,
        "linear": _linear,
        "graph": graph_response,
        "probe": probe_response,
    }
    if name not in makers:
        msg = f"Unknown method {name!r}.{closest(name, makers)} Available: {one_of(makers)}."
        raise ConfigError(msg)
    return makers[name](training)


def _no_change(training: Training) -> Response:
    zero = np.zeros(training.deltas.shape[1])
    return lambda query: zero


def _mean(training: Training) -> Response:
    mean = training.deltas.mean(axis=0)
    return lambda query: mean


def _additive(training: Training, deltas: np.ndarray) -> Response:
    mean = deltas.mean(axis=0)

    def respond(query: Query) -> np.ndarray:
        same = _rows(training.units, query.unit.perturbations)
        if len(same):
            return deltas[same].mean(axis=0)
        singles = [_rows(training.units, (p,)) for p in query.unit.perturbations]
        if not any(len(rows) for rows in singles):
            return mean
        return np.sum([deltas[r].mean(axis=0) for r in singles if len(r)], axis=0)

    return respond


def _latent_shift(training: Training) -> Response:
    shift = _additive(training, training.latent)
    return lambda query: shift(query) @ training.decoder


def _context_shift(training: Training) -> Response:
    """Weigh the contexts in which the same was perturbed; sum over what is perturbed."""
    deltas = training.latent @ training.decoder
    mean = deltas.mean(axis=0)
    spread = _spread(training.states)
    width, noise = _best_kernel(training, deltas, spread)

    def of(rows: np.ndarray, state: np.ndarray) -> np.ndarray:
        return _process(training.states[rows], deltas[rows], state, spread * width, noise)

    def respond(query: Query) -> np.ndarray:
        same = _rows(training.units, query.unit.perturbations)
        if len(same):
            return of(same, query.state)
        singles = [_rows(training.units, (p,)) for p in query.unit.perturbations]
        if not any(len(rows) for rows in singles):
            return mean
        return np.sum([of(rows, query.state) for rows in singles if len(rows)], axis=0)

    return respond


def _by_what_is_new(known: Response, new: Response, training: Training) -> Response:
    """Take one model for what was perturbed in another context, another for what never was."""
    seen = {u.perturbations for u in training.units}
    return lambda query: (known if query.unit.perturbations in seen else new)(query)


def _best_kernel(training: Training, deltas: np.ndarray, spread: float) -> tuple[float, float]:
    """Choose width and noise by predicting each training unit from the same in other contexts."""
    groups = {u.perturbations for u in training.units}
    rows = [r for r in (_rows(training.units, g) for g in sorted(groups)) if len(r) > 2]
    grid = [(w, n) for w in _WIDTHS for n in _PENALTIES]
    if not rows:
        return 1.0, 1.0
    errors = np.zeros(len(grid))
    for own in rows:
        for i, left_out in enumerate(own):
            rest = np.delete(own, i)
            states, others = training.states[rest], deltas[rest]
            for g, (width, noise) in enumerate(grid):
                found = _process(states, others, training.states[left_out], spread * width, noise)
                errors[g] += 1 - _correlation(found, training.deltas[left_out])
    return grid[int(errors.argmin())]


def _process(
    states: np.ndarray, deltas: np.ndarray, at: np.ndarray, width: float, noise: float
) -> np.ndarray:
    mean = deltas.mean(axis=0)
    kernel = _kernel(states, states, width) + noise * np.eye(len(states))
    weights = np.linalg.solve(kernel, _kernel(states, at[None], width))[:, 0]
    return mean + weights @ (deltas - mean)


def _kernel(left: np.ndarray, right: np.ndarray, width: float) -> np.ndarray:
    squares = ((left[:, None] - right[None]) ** 2).sum(axis=2)
    return np.exp(-squares / (2 * width**2))


def _spread(states: np.ndarray) -> float:
    squares = ((states[:, None] - states[None]) ** 2).sum(axis=2)
    apart = np.sqrt(squares[squares > 0])
    return float(np.median(apart)) if len(apart) else 1.0


def _ridge(training: Training) -> Response:
    features = _Features(training)
    table = np.stack([features(u, s) for u, s in zip(training.units, training.states, strict=True)])
    mean, offset = training.deltas.mean(axis=0), table.mean(axis=0)
    gram = (table - offset) @ (table - offset).T
    scale = max(float(np.trace(gram)) / len(gram), 1e-12)
    centred = training.deltas - mean
    errors = [_left_out_error(gram, centred, p * scale) for p in _PENALTIES]
    penalty = _PENALTIES[int(np.argmin(errors))] * scale
    dual = np.linalg.solve(gram + penalty * np.eye(len(gram)), centred)

    def respond(query: Query) -> np.ndarray:
        own = (features(query.unit, query.state) - offset) @ (table - offset).T
        return mean + own @ dual

    return respond


def _left_out_error(gram: np.ndarray, targets: np.ndarray, penalty: float) -> float:
    """Return the squared error of leaving each row out, in closed form."""
    hat = gram @ np.linalg.inv(gram + penalty * np.eye(len(gram))) + 1 / len(gram)
    residual = (targets - (hat - 1 / len(gram)) @ targets) / np.maximum(1 - np.diag(hat), 1e-6)[
        :, None
    ]
    return float((residual**2).mean())


class _Features:
    """Describe a unit: which of the known perturbations, loadings of its genes, its state."""

    def __init__(self, training: Training) -> None:
        self.known = sorted({p for u in training.units for p in u.perturbations})
        self.at = {str(name): i for i, name in enumerate(training.names)}
        size = np.abs(training.loadings).max() or 1.0
        self.loadings = training.loadings / size
        self.spread = _spread(training.states)

    def __call__(self, unit: Unit, state: np.ndarray) -> np.ndarray:
        which = np.array([float(p in unit.perturbations) for p in self.known])
        return np.concatenate([which, self.genes(unit), state / self.spread])

    def genes(self, unit: Unit) -> np.ndarray:
        """Return the sum of the loadings of the genes perturbed."""
        total = np.zeros(self.loadings.shape[1])
        for p in unit.perturbations:
            if p in self.at:
                total += self.loadings[self.at[p]]
        return total


def _linear(training: Training) -> Response:
    names, vectors = training.gene_embedding
    features = _Features(replace(training, names=names, loadings=vectors))
    genes = np.stack([features.genes(Unit((str(n),))) for n in training.names])
    perturbed = np.stack([features.genes(u) for u in training.units])
    mean = training.deltas.mean(axis=0)
    left = np.linalg.solve(genes.T @ genes + 0.1 * np.eye(genes.shape[1]), genes.T)
    right = perturbed @ np.linalg.inv(perturbed.T @ perturbed + 0.1 * np.eye(perturbed.shape[1]))
    weights = left @ (training.deltas - mean).T @ right

    def respond(query: Query) -> np.ndarray:
        return mean + genes @ (weights @ features.genes(query.unit))

    return respond


def _rows(units: Sequence[Unit], perturbations: tuple[str, ...]) -> np.ndarray:
    return np.array([i for i, u in enumerate(units) if u.perturbations == perturbations], dtype=int)


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    a, b = left - left.mean(), right - right.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0
