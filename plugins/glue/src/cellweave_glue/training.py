"""The optimisation: two phases of adversarial training that can be killed and taken up again.

A step minimises ``objective.py``'s terms less ``lam_align CE(D(u), modality)`` over encoders,
decoders and graph, and the discriminator D minimises its cross entropy.

Every random number of an epoch comes from one generator seeded by (seed, phase, epoch), so what a
checkpoint must hold is weights, optimiser moments and counters, and a resumed run gives the bytes
of an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch.nn import functional

from cellweave.errors import NumericalError
from cellweave_glue.cells import (
    CellData,
    minibatches,
    network_of,
    partners_of,
    shapes_of,
    validation_cells,
)
from cellweave_glue.model import Discriminator
from cellweave_glue.objective import Encoded, Objective, total
from cellweave_glue.optimizing import RmsProp
from cellweave_glue.schedule import Annealing
from cellweave_glue.settings import Phase, TrainingSettings, seed_of

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import Tensor

    from cellweave_glue.graph import GuidanceGraph
    from cellweave_glue.inputs import ModalityInput

__all__ = ["Trainer", "burn_in_noise"]

_LARGEST_STEP = 10.0
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class _Sums:
    """Running sums of what is optimised, for the history."""

    values: dict[str, float] = field(default_factory=dict)
    n: int = 0

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            self.values[name] = self.values.get(name, 0.0) + float(value.detach())
        self.n += 1

    def means(self) -> dict[str, float]:
        return {name: value / max(self.n, 1) for name, value in self.values.items()}


def burn_in_noise(epoch: int, *, burnin: int, aligned: bool) -> float:
    """Return how much noise blurs the discriminator's input: 1 at first, 0 after burn-in."""
    return max(1 - epoch / burnin, 0.0) if aligned else 1.0


class Trainer:
    """Own the networks and their optimisers, and run phases over the data.

    Parameters
    ----------
    data
        Modalities in the order of the graph.
    graph
        The guidance graph over their features.
    pairs
        For each modality the id of each cell, equal ids being one cell; ``None`` when the cells
        are not paired.
    n_labels
        Number of labels; 0 trains no classifier.
    """

    def __init__(
        self,
        data: Mapping[str, ModalityInput],
        graph: GuidanceGraph,
        settings: TrainingSettings,
        *,
        pairs: Mapping[str, np.ndarray] | None,
        n_labels: int,
    ) -> None:
        self.settings = settings
        self.names = graph.modalities
        device = settings.device
        held_out = validation_cells(data, pairs, settings)
        self.cells = {
            m: CellData.of(data[m], held_out=held_out[m], device=device) for m in self.names
        }
        generator = torch.Generator().manual_seed(seed_of(settings.seed, 101))
        self.shapes = shapes_of(data, graph)
        self.network = network_of(self.shapes, data, graph, settings, n_labels, generator).to(
            device
        )
        self.discriminator = Discriminator(
            n_inputs=settings.n_latent,
            n_hidden=settings.n_hidden,
            depth=settings.depth,
            n_modalities=len(self.names),
            dropout=settings.dropout,
            generator=generator,
        ).to(device)
        self.objective = Objective(
            self.network,
            self.cells,
            graph,
            settings,
            partners=partners_of(pairs, self.names, device),
        )
        self.weights = {m: torch.ones(len(self.cells[m].inputs), device=device) for m in self.names}
        self._forget_moments()

    def set_anchors(self, anchors: Mapping[tuple[str, str], sp.csr_matrix]) -> None:
        """Take the pairs of cells that the next epochs hold together."""
        self.objective.set_anchors(anchors)

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take the weight of each cell for the discriminator."""
        device = self.settings.device
        self.weights = {m: torch.as_tensor(w, device=device) for m, w in weights.items()}

    # -- a phase ------------------------------------------------------------------------------

    def start(self, phase: Phase) -> Annealing:
        """Return a fresh schedule; moments go on, for without them the first steps leap."""
        return Annealing(schedule=phase.schedule)

    def train_epoch(self, phase: Phase, epoch: int, annealing: Annealing) -> dict[str, float]:
        """Run one epoch, validate, and return the means of what was optimised."""
        rate = self.settings.learning_rate * annealing.rate(epoch)
        generator = self._generator(phase, epoch, 0)
        noise = burn_in_noise(epoch, burnin=phase.schedule.align_burnin, aligned=phase.aligned)
        sums = _Sums()
        self._set_training(on=True)
        streams = {
            m: minibatches(
                c.train, self.settings.batch_size, phase.schedule.steps_per_epoch, generator
            )
            for m, c in self.cells.items()
        }
        for step in range(phase.schedule.steps_per_epoch):
            rows = {m: streams[m][step] for m in self.names}
            sums.add(self._step(rows, noise, rate, generator))
        means = sums.means()
        self._refuse_nan(phase, epoch, means)
        if len(self.cells[self.names[0]].validation):
            means["validation"] = self._validate(phase, epoch)
        annealing.observe(
            means.get("validation", means["loss"]), epoch, burning_in=phase.aligned and noise > 0
        )
        return means

    def _step(
        self, rows: Mapping[str, Tensor], noise: float, rate: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Teach the discriminator, then everything else, on one minibatch encoded once."""
        for optimizer in self.optimizers:
            optimizer.forget_gradients()
        encoded = self.objective.encode_minibatch(rows, generator)
        means = encoded.means()
        adversary = self._adversary_loss(means.detach(), rows, noise, generator)
        scaled = self.settings.lam_align * adversary
        scaled.backward()  # type: ignore[no-untyped-call]
        self.optimizers[1].step(rate)
        terms = self.objective.terms(rows, encoded, generator)
        with _fixed(self.discriminator):
            confusion = self._adversary_loss(means, rows, noise, generator)
        loss = total(terms) - self.settings.lam_align * confusion
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step(rate)
        return {**terms, "discriminator": adversary, "loss": loss}

    def _adversary_loss(
        self, means: Tensor, rows: Mapping[str, Tensor], noise: float, generator: torch.Generator
    ) -> Tensor:
        if noise > 0:
            blur = torch.randn(means.shape, generator=generator, device=means.device)
            means = means + noise * 1.5 * means.detach().std(0) * blur
        truth = torch.cat([torch.full_like(rows[m], k) for k, m in enumerate(self.names)])
        weights = torch.cat([self.weights[m][rows[m]] for m in self.names])
        losses = functional.cross_entropy(
            self.discriminator(means, generator), truth, reduction="none"
        )
        return (losses * weights).mean()

    # -- looking ------------------------------------------------------------------------------

    @torch.no_grad()
    def _validate(self, phase: Phase, epoch: int) -> float:
        """Return the loss without the adversary's on held-out cells."""
        self._set_training(on=False)
        generator = self._generator(phase, epoch, 1)
        size = self.settings.batch_size
        n_steps = max(1, math.ceil(max(len(c.validation) for c in self.cells.values()) / size))
        streams = {
            m: minibatches(c.validation, size, n_steps, generator) for m, c in self.cells.items()
        }
        found = 0.0
        for step in range(n_steps):
            rows = {m: streams[m][step] for m in self.names}
            posteriors = {m: self.objective.encode(m, rows[m]) for m in self.names}
            encoded = Encoded(posteriors=posteriors, anchored=())
            found += float(total(self.objective.terms(rows, encoded, generator)))
        return found / n_steps

    @torch.no_grad()
    def encode(self, modality: str, inputs: Tensor, *, chunk: int = 8192) -> np.ndarray:
        """Return posterior means of cells, in chunks."""
        self._set_training(on=False)
        encoder = self.network.encoder(modality)
        parts = [encoder(inputs[i : i + chunk]).mean.cpu() for i in range(0, len(inputs), chunk)]
        return torch.cat(parts).numpy().astype(np.float32)

    def latents(self) -> dict[str, np.ndarray]:
        """Return posterior means of all cells."""
        return {m: self.encode(m, self.cells[m].inputs) for m in self.names}

    @torch.no_grad()
    def feature_vectors(self) -> np.ndarray:
        """Return posterior means of all features, in vertex order."""
        mean = self.objective.feature_posterior().mean
        return mean.cpu().numpy().astype(np.float32)

    # -- state --------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything that changes while training, as named arrays."""
        out = {f"network/{k}": _array(v) for k, v in self.network.state_dict().items()}
        out |= {f"adversary/{k}": _array(v) for k, v in self.discriminator.state_dict().items()}
        out |= {f"weights/{m}": _array(w) for m, w in self.weights.items()}
        for i, optimizer in enumerate(self.optimizers):
            out |= {f"optimizer{i}/{k}": v for k, v in optimizer.arrays().items()}
        return out

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back :meth:`arrays`; optimisers must be those of the phase."""
        tensors = {k: torch.as_tensor(np.array(v)) for k, v in arrays.items()}
        self.network.load_state_dict(_under(tensors, "network/"))
        self.discriminator.load_state_dict(_under(tensors, "adversary/"))
        device = self.settings.device
        self.weights = {m: t.to(device) for m, t in _under(tensors, "weights/").items()}
        for i, optimizer in enumerate(self.optimizers):
            optimizer.restore(_under(arrays, f"optimizer{i}/"))

    # -- inside -------------------------------------------------------------------------------

    def _forget_moments(self) -> None:
        self.optimizers = (
            RmsProp(self.network.parameters(), largest=_LARGEST_STEP),
            RmsProp(self.discriminator.parameters()),
        )

    def _generator(self, phase: Phase, epoch: int, purpose: int) -> torch.Generator:
        generator = torch.Generator(device=self.settings.device)
        return generator.manual_seed(seed_of(self.settings.seed, phase.number, epoch, purpose))

    def _set_training(self, *, on: bool) -> None:
        self.network.train(on)
        self.discriminator.train(on)

    def _refuse_nan(self, phase: Phase, epoch: int, means: Mapping[str, float]) -> None:
        bad = {name: value for name, value in means.items() if not math.isfinite(value)}
        parameters = [
            name for name, p in self.network.named_parameters() if not torch.isfinite(p).all()
        ]
        if not bad and not parameters:
            return
        where = f"{phase.name}, epoch {epoch + 1}"
        msg = (
            f"Training ran into NaN or infinity in {where}: terms {bad!r}, parameters "
            f"{parameters[:5]!r}. The data passed all checks, so the step is too long: set "
            f"learning_rate below {self.settings.learning_rate:g}."
        )
        raise NumericalError(msg)


@contextmanager
def _fixed(network: torch.nn.Module) -> Iterator[None]:
    """Let gradients pass through a network without forming those of its own weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def _under(values: Mapping[str, _T], prefix: str) -> dict[str, _T]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
