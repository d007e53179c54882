r"""scGPT's generator of perturbed cells: trained from scratch, or from published weights.

Cui et al., Nature Methods 2024. Every gene of a control cell is a token, zeros too, with its
normalised logarithm and a flag; the perturbed expression of every gene is predicted, by

.. math:: \min_\theta \sum_u w_u \, E_{v \sim control(u)}
          \lVert \hat y_\theta(v, flags_u) - \bar y_u \rVert^2

Departures. A control cell is paired with the mean of the perturbed cells in place of one of them at
random: the gradient is the same on average, and less noisy. Units of few cells weigh less. Cells
without a flag are trained on too, and the change told is that against the same cells without flag,
so that what the network gets wrong of a gene's level cancels. With more genes than ``max_length``
each step sees some of them, the perturbed always among them. What is perturbed and not measured
(a drug, a cytokine) has a token of its own behind the genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
import torch

from cellweave.errors import NotFittedError, NumericalError
from cellweave_nn.training.randomness import torch_seeded
from cellweave_nn.training.schedules import learning_rate
from cellweave_nn.training.settings import TrainingSettings
from cellweave_scgpt.generator_network import GeneratorNetwork, sizes_of, start_from

if TYPE_CHECKING:
    from cellweave_scgpt.model import ScgptModel

__all__ = ["PerturbationGenerator"]

_CELLS = 16
_ASKED = 16
_WITHOUT_FLAG = 0.125
_NAMELESS = 0.3
_UNKNOWN = "<unknown>"


@dataclass(frozen=True, slots=True)
class _Unit:
    """What was perturbed, the rows of its control cells, both means, and what it weighs."""

    perturbed: tuple[str, ...]
    control: np.ndarray
    start: np.ndarray
    goal: np.ndarray
    weight: float = 1.0

    @property
    def left_alone(self) -> _Unit:
        """Return the same control cells with nothing perturbed."""
        return replace(self, perturbed=(), goal=self.start)


class PerturbationGenerator:
    """Predict what a perturbation changes in control cells.

    Parameters
    ----------
    genes
        The measured genes, in the order of the columns.
    model
        Published weights to start from (embeddings of genes and of values, blocks); from scratch
        when not given.
    gene_vectors
        Names and what each is like, e.g. principal loadings.
    width, depth, heads, hidden
        Sizes from scratch.
    max_length
        Most genes of a step; 512 from scratch and 1536 from published weights when not given.
    learning_rate
        The highest; 4e-3 from scratch and 1e-4 from published weights when not given.
    device
        Where.
    seed
        Of weights and of what is drawn.
    """

    def __init__(
        self,
        genes: Sequence[str] | np.ndarray,
        *,
        model: ScgptModel | None = None,
        gene_vectors: tuple[np.ndarray, np.ndarray] | None = None,
        width: int = 48,
        depth: int = 2,
        heads: int = 2,
        hidden: int = 96,
        max_length: int | None = None,
        learning_rate: float | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self.genes = np.asarray(genes, dtype=str)
        self.model, self.gene_vectors = model, gene_vectors
        self.sizes = {"width": width, "depth": depth, "heads": heads, "hidden": hidden}
        self.max_length = max_length or (512 if model is None else 1536)
        self.device, self.seed = device, seed
        self.learning_rate = learning_rate or (4e-3 if model is None else 1e-4)
        self._network: GeneratorNetwork | None = None

    def fit(
        self,
        values: np.ndarray | sp.csr_matrix,
        *,
        perturbed: Sequence[tuple[str, ...]],
        rows: Sequence[np.ndarray],
        starts: np.ndarray,
        goals: np.ndarray,
        weights: np.ndarray | None = None,
        steps: int = 500,
    ) -> Self:
        """Train on control cells and on the means of what was perturbed.

        Parameters
        ----------
        values
            Normalised logarithms of control cells.
        perturbed
            What was perturbed, for each unit.
        rows
            Its control cells.
        starts, goals
            ``(n_units, n_genes)`` mean of its control cells, and of its perturbed cells.
        weights
            What each unit weighs; all the same when not given.
        steps
            How often the weights are updated, from 16 control cells each.
        """
        weighed = np.ones(len(perturbed)) if weights is None else weights / weights.mean()
        units = [
            _Unit(*parts)
            for parts in zip(
                perturbed,
                rows,
                starts.astype(np.float32),
                goals.astype(np.float32),
                weighed.tolist(),
                strict=True,
            )
        ]
        self._seen = {p for u in units for p in u.perturbed}
        agents = sorted(self._seen - set(self.genes.tolist()))
        names = [*self.genes.tolist(), *agents, _UNKNOWN]
        self._at = {name: i for i, name in enumerate(names)}
        network = self._new_network(names).to(self.device).train()
        settings = TrainingSettings(
            steps=steps, learning_rate=self.learning_rate, warmup=min(50, steps // 4), floor=0.02
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.learning_rate)
        rng = np.random.default_rng(self.seed)
        for step in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, settings)
            loss = self._loss(network, values, units, rng)
            if not bool(torch.isfinite(loss)):
                msg = f"The loss of step {step} is {float(loss)!r}. Lower learning_rate."
                raise NumericalError(msg)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
        self._network = network.eval()
        return self

    def changes(self, control: np.ndarray | sp.csr_matrix, perturbed: Sequence[str]) -> np.ndarray:
        """Return the predicted change of each control cell, ``(n_cells, n_genes)``."""
        if self._network is None:
            msg = "The generator has learnt nothing yet. Call `fit` first."
            raise NotFittedError(msg)
        found = np.zeros(control.shape, dtype=np.float32)
        start = np.asarray(control.mean(axis=0), dtype=np.float32).ravel()
        for columns in self._parts(perturbed):
            for first in range(0, control.shape[0], _ASKED):
                rows = np.arange(first, min(first + _ASKED, control.shape[0]))
                cells = _dense(control[rows][:, columns])
                starts = np.repeat(start[None, columns], len(cells), axis=0)
                with torch.inference_mode():
                    told, plain = (
                        self._predicted(self._network, columns, cells, starts, [p] * len(cells))
                        for p in (tuple(perturbed), ())
                    )
                found[np.ix_(rows, columns)] = (told - plain).cpu().numpy()
        return found

    def mean_change(
        self, control: np.ndarray | sp.csr_matrix, perturbed: Sequence[str]
    ) -> np.ndarray:
        """Return the mean predicted change, over at most 16 of the control cells."""
        rows = np.arange(control.shape[0])
        if len(rows) > _ASKED:
            rows = np.sort(np.random.default_rng(self.seed).choice(rows, _ASKED, replace=False))
        return np.asarray(self.changes(control[rows], perturbed).mean(axis=0), dtype=np.float64)

    def _loss(
        self,
        network: GeneratorNetwork,
        values: np.ndarray | sp.csr_matrix,
        units: Sequence[_Unit],
        rng: np.random.Generator,
    ) -> torch.Tensor:
        drawn = [units[i] for i in rng.integers(len(units), size=_CELLS)]
        alone = rng.random(_CELLS) < _WITHOUT_FLAG
        drawn = [u.left_alone if a else u for u, a in zip(drawn, alone, strict=True)]
        columns = self._columns(drawn, rng)
        rows = np.array([rng.choice(u.control) for u in drawn])
        starts, goals = (
            np.stack([getattr(u, k)[columns] for u in drawn]) for k in ("start", "goal")
        )
        found = self._predicted(
            network,
            columns,
            _dense(values[rows][:, columns]),
            starts,
            [u.perturbed for u in drawn],
            rng,
        )
        weights = self._put(np.array([u.weight for u in drawn]))
        return (weights * (found - self._put(goals)).square().mean(dim=1)).mean()

    def _predicted(
        self,
        network: GeneratorNetwork,
        columns: np.ndarray,
        cells: np.ndarray,
        starts: np.ndarray,
        perturbed: Sequence[tuple[str, ...]],
        rng: np.random.Generator | None = None,
    ) -> torch.Tensor:
        """Return the predicted values of some genes; with ``rng`` as in training."""
        tokens = self._tokens(columns, perturbed, rng)
        extra = tokens.ids.shape[1] - len(columns)
        seen = np.pad(cells, ((0, 0), (0, extra)))
        factor, offset = network(
            self._put(tokens.ids),
            self._put(seen),
            self._put(tokens.flags),
            tokens.lengths,
            nameless=self._put(tokens.nameless) if tokens.nameless.any() else None,
        )
        n, start = len(columns), self._put(starts)
        values: torch.Tensor = start + factor[:, :n] * (self._put(cells) - start) + offset[:, :n]
        return values

    def _tokens(
        self,
        columns: np.ndarray,
        perturbed: Sequence[tuple[str, ...]],
        rng: np.random.Generator | None,
    ) -> _Tokens:
        """Lay the genes of each cell out, and behind them what was perturbed and not measured."""
        n_genes, unknown = len(self.genes), self._at[_UNKNOWN]
        codes = [[self._at.get(p, unknown) for p in names] for names in perturbed]
        agents = [[c for c in own if c >= n_genes] for own in codes]
        n, longest = len(columns), max(len(own) for own in agents)
        ids = np.full((len(codes), n + longest), unknown)
        ids[:, :n] = columns
        flags, nameless = np.zeros_like(ids), np.zeros(ids.shape, dtype=bool)
        for i, own in enumerate(agents):
            ids[i, n : n + len(own)] = own
            flags[i, : n + len(own)] = np.isin(ids[i, : n + len(own)], codes[i])
        if rng is not None:
            nameless = (flags == 1) & (rng.random(flags.shape) < _NAMELESS)
        elif self.model is None:
            known = [self._at[p] for p in self._seen]
            nameless = (flags == 1) & ~np.isin(ids, known)
        if self.model is not None:
            nameless &= ids >= n_genes
        return _Tokens(ids, flags, nameless, [n + len(own) for own in agents])

    def _columns(self, drawn: Sequence[_Unit], rng: np.random.Generator) -> np.ndarray:
        """Return all genes, or some with what is perturbed always among them."""
        n_genes = len(self.genes)
        if n_genes <= self.max_length:
            return np.arange(n_genes)
        must = self._measured({p for u in drawn for p in u.perturbed})
        rest = np.setdiff1d(np.arange(n_genes), must)
        n_more = max(self.max_length - len(must), 1)
        return np.sort(np.concatenate([must, rng.choice(rest, n_more, replace=False)]))

    def _parts(self, perturbed: Sequence[str]) -> list[np.ndarray]:
        """Cut the genes into parts of ``max_length``, what is perturbed in each of them."""
        n_genes = len(self.genes)
        if n_genes <= self.max_length:
            return [np.arange(n_genes)]
        must = self._measured(set(perturbed))
        n_parts = -(-n_genes // max(self.max_length - len(must), 1))
        order = np.random.default_rng(self.seed).permutation(n_genes)
        return [np.union1d(part, must) for part in np.array_split(order, n_parts)]

    def _measured(self, names: set[str]) -> np.ndarray:
        found = [self._at[p] for p in names if self._at.get(p, len(self.genes)) < len(self.genes)]
        return np.array(sorted(found), dtype=np.int64)

    def _new_network(self, names: Sequence[str]) -> GeneratorNetwork:
        described = _described(names, self.gene_vectors)
        sizes = self.sizes if self.model is None else sizes_of(self.model)
        with torch_seeded(self.seed, "weights", "scgpt.generator"):
            network = GeneratorNetwork(len(names), **sizes, described=described)
        if self.model is not None:
            start_from(network, self.model, names)
        return network

    def _put(self, array: np.ndarray) -> torch.Tensor:
        kind = {"f": torch.float32, "i": torch.int64, "b": torch.bool}[array.dtype.kind]
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, kind)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of some cells, padded on the right."""

    ids: np.ndarray
    flags: np.ndarray
    nameless: np.ndarray
    lengths: list[int]


def _described(
    names: Sequence[str], gene_vectors: tuple[np.ndarray, np.ndarray] | None
) -> torch.Tensor | None:
    """Return standardised vectors by name, zero where there is none."""
    if gene_vectors is None:
        return None
    known, vectors = gene_vectors
    scaled = vectors - vectors.mean(axis=0)
    scaled /= np.maximum(scaled.std(axis=0), 1e-12)
    at = {str(name): i for i, name in enumerate(known)}
    rows = [scaled[at[n]] if n in at else np.zeros(vectors.shape[1]) for n in names]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _dense(values: Any) -> np.ndarray:
    is_sparse: bool = sp.issparse(values)
    return np.asarray(values.toarray() if is_sparse else values, dtype=np.float32)
