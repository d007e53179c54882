"""The optimisation: two phases of adversarial training that can be killed and taken up again.

With n_k features of modality k and N_k = max(n_k, floor), a step minimises

    sum_k w_k [ sum_features -log p(x_k | u_k, V) + KL(q(u_k) | N(0, 1)) ] / N_k
      + lam_graph K [ g_nll + KL(q(V) | N(0, 1)) / |V|^2 ]
      + lam_anchor mean_anchors max(1 - cos(u_a, u_b) - margin, 0) - lam_align CE(D(u), modality)

over encoders, decoders and graph, and the discriminator D minimises its cross entropy.

Every random number of an epoch comes from one generator seeded by (seed, phase, epoch), so what a
checkpoint must hold is weights, optimiser moments and counters, and a resumed run gives the bytes
of an unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from cellweave_glue.graph import EdgeSampler, GuidanceGraph, torch_sparse
from cellweave_glue.model import Discriminator, Gaussian
from cellweave_glue.schedule import Plateau
from cellweave_glue.settings import Phase, TrainingSettings, seed_of
from cellweave_glue.sparse import RowBatch, SparseRows

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import Tensor

    from cellweave_glue.inputs import ModalityInput

__all__ = ["Trainer", "burn_in_noise"]

_LARGEST_STEP = 10.0


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
        self.graph = graph
        self.names = graph.modalities
        device = settings.device
        held_out = validation_cells(data, pairs, settings)
        self.cells = {
            m: CellData.of(data[m], held_out=held_out[m], device=device) for m in self.names
        }
        self.partners = partners_of(pairs, self.names, device)
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
        adjacency = graph.adjacency()
        self._adjacency = torch_sparse(adjacency, device=device)
        self._transposed = torch_sparse(adjacency.T.tocsr(), device=device)
        self._edges = EdgeSampler(
            graph, n_negatives=settings.n_negatives, n_batches=32, device=device
        )
        self._anchors: dict[tuple[str, str], SparseRows] = {}
        self.weights = {m: torch.ones(len(self.cells[m].inputs), device=device) for m in self.names}
        self.optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer] = self._new_optimizers(
            1.0
        )

    def set_anchors(self, anchors: Mapping[tuple[str, str], sp.csr_matrix]) -> None:
        """Take the pairs of cells that the next epochs hold together."""
        device = self.settings.device
        self._anchors = {}
        for (a, b), matrix in anchors.items():
            self._anchors[a, b] = SparseRows.from_matrix(matrix, device=device)
            self._anchors[b, a] = SparseRows.from_matrix(matrix.T, device=device)

    def set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """Take the weight of each cell for the discriminator."""
        device = self.settings.device
        self.weights = {m: torch.as_tensor(w, device=device) for m, w in weights.items()}

    # -- a phase ------------------------------------------------------------------------------

    def start(self, phase: Phase) -> Plateau:
        """Return a fresh schedule and forget the optimisers' moments."""
        self.optimizers = self._new_optimizers(self.settings.learning_rate)
        return Plateau(schedule=phase.schedule)

    def train_epoch(self, phase: Phase, epoch: int, plateau: Plateau) -> dict[str, float]:
        """Run one epoch, validate, and return the means of what was optimised."""
        rate = self.settings.learning_rate * plateau.rate(epoch)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
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
            sums.add(self._step(rows, noise, generator))
        means = sums.means()
        self._refuse_nan(phase, epoch, means)
        if len(self.cells[self.names[0]].validation):
            means["validation"] = self._validate(phase, epoch)
        plateau.observe(
            means.get("validation", means["loss"]), epoch, burning_in=phase.aligned and noise > 0
        )
        return means

    def _step(
        self, rows: Mapping[str, Tensor], noise: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Teach the discriminator, then everything else, on one minibatch encoded once."""
        posteriors = {m: self._encode_rows(m, rows[m], generator) for m in self.names}
        means = torch.cat([posteriors[m].mean for m in self.names])
        adversary = self._adversary_loss(means.detach(), rows, noise, generator)
        self.optimizers[1].zero_grad()
        scaled = self.settings.lam_align * adversary
        scaled.backward()  # type: ignore[no-untyped-call]
        self.optimizers[1].step()
        terms = self._terms(rows, posteriors, generator)
        confusion = self._adversary_loss(means, rows, noise, generator)
        loss = _total(terms) - self.settings.lam_align * confusion
        self.optimizers[0].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_STEP)
        self.optimizers[0].step()
        return {**terms, "discriminator": adversary, "loss": loss}

    def _encode_rows(
        self, modality: str, rows: Tensor, generator: torch.Generator | None
    ) -> Gaussian:
        posterior: Gaussian = self.network.encoder(modality)(
            self.cells[modality].inputs[rows], generator
        )
        return posterior

    # -- the terms ----------------------------------------------------------------------------

    def _terms(
        self,
        rows: Mapping[str, Tensor],
        posteriors: Mapping[str, Gaussian],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return every weighted term of the generator's loss but the adversary's."""
        s = self.settings
        feature_posterior: Gaussian = self.network.graph(self._adjacency, self._transposed)
        v = feature_posterior.sample(generator)
        g_nll = self._graph_loss(v, generator)
        n = self.graph.n_vertices
        scale = s.lam_graph * len(self.names)
        terms = {
            "graph": scale * g_nll,
            "graph_kl": scale * s.lam_kl * feature_posterior.divergence() / n**2,
        }
        offsets = self.graph.offsets
        samples = {m: posteriors[m].sample(generator) for m in self.names}
        for m in self.names:
            nll = self._data_loss(m, samples[m], v[offsets[m]], rows[m])
            n_k = offsets[m].stop - offsets[m].start
            floor = max(n_k, s.feature_floor)
            kl = posteriors[m].divergence() / len(rows[m])
            terms[f"{m}_nll"] = nll * (n_k / floor)
            terms[f"{m}_kl"] = s.lam_kl * kl / floor
        terms |= self._label_term(rows, samples)
        terms |= self._pair_terms(rows, v, generator)
        return terms | self._anchor_term(rows, posteriors, generator)

    def _graph_loss(self, v: Tensor, generator: torch.Generator) -> Tensor:
        edges = self._edges.draw(generator)
        logits = (v[edges.sources] * v[edges.targets]).sum(1) * edges.signs
        positive, negative = logits[: edges.n_positive], logits[edges.n_positive :]
        loss = functional.softplus(-positive).mean()
        if len(negative):
            loss = 0.5 * (loss + functional.softplus(negative).mean())
        return loss

    def _data_loss(self, modality: str, u: Tensor, v: Tensor, rows: Tensor) -> Tensor:
        cells = self.cells[modality]
        values: RowBatch = cells.values.take(rows)
        loss: Tensor = self.network.decoder(modality).loss(
            u, v, cells.batch[rows], values, cells.log_library[rows]
        )
        return loss

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

    def _label_term(
        self, rows: Mapping[str, Tensor], samples: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the loss of the classifier on cells whose label is known."""
        if self.network.classifier is None:
            return {}
        labels = torch.cat([self.cells[m].label[rows[m]] for m in self.names])
        known = labels >= 0
        if not known.any():
            return {}
        logits = self.network.classifier(torch.cat([samples[m] for m in self.names])[known])
        loss = functional.cross_entropy(logits, labels[known])
        return {"label": self.settings.lam_label * loss}

    def _pair_terms(
        self, rows: Mapping[str, Tensor], v: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Return the terms of cells measured in two modalities.

        Each explains the other's values from its own vector, and their vectors point one way.
        """
        if not self.partners:
            return {}
        offsets = self.graph.offsets
        cross, apart = [], []
        for (a, b), partner in self.partners.items():
            mine = rows[a][partner[rows[a]] >= 0]
            if len(mine) < 2:
                continue
            theirs = partner[mine]
            q_a = self._encode_rows(a, mine, generator)
            q_b = self._encode_rows(b, theirs, generator)
            cross.append(self._data_loss(b, q_a.sample(generator), v[offsets[b]], theirs))
            cross.append(self._data_loss(a, q_b.sample(generator), v[offsets[a]], mine))
            apart.append(1 - functional.cosine_similarity(q_a.mean, q_b.mean).mean())
        if not cross:
            return {}
        lam = self.settings.lam_pair
        return {"cross": lam * torch.stack(cross).sum(), "apart": lam * torch.stack(apart).sum()}

    def _anchor_term(
        self,
        rows: Mapping[str, Tensor],
        posteriors: Mapping[str, Gaussian],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Return how far cells point away from an anchor drawn for each, beyond the margin.

        The margin leaves the fine match to the decoders: anchors are noisy one by one.
        """
        if not self._anchors or not self.network.training:
            return {}
        slack = self.settings.anchor_margin
        apart = []
        for (a, b), anchors in self._anchors.items():
            has, partner = anchors.draw(rows[a], generator)
            if len(has) < 2:
                continue
            other = self._encode_rows(b, partner, generator).mean
            gap = 1 - functional.cosine_similarity(posteriors[a].mean[has], other)
            apart.append(functional.relu(gap - slack))
        if not apart:
            return {}
        return {"anchor": self.settings.lam_anchor * torch.cat(apart).mean()}

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
        total = 0.0
        for step in range(n_steps):
            rows = {m: streams[m][step] for m in self.names}
            posteriors = {m: self._encode_rows(m, rows[m], None) for m in self.names}
            total += float(_total(self._terms(rows, posteriors, generator)))
        return total / n_steps

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
        mean: Tensor = self.network.graph(self._adjacency, self._transposed).mean
        return mean.cpu().numpy().astype(np.float32)

    # -- state --------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything that changes while training, as named arrays."""
        out = {f"network/{k}": _array(v) for k, v in self.network.state_dict().items()}
        out |= {f"adversary/{k}": _array(v) for k, v in self.discriminator.state_dict().items()}
        out |= {f"weights/{m}": _array(w) for m, w in self.weights.items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, moments in optimizer.state_dict()["state"].items():
                out |= {f"optimizer{i}/{j}/{k}": _array(v) for k, v in moments.items()}
        return out

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back :meth:`arrays`; optimisers must be those of the phase."""
        tensors = {k: torch.as_tensor(np.array(v)) for k, v in arrays.items()}
        self.network.load_state_dict(_under(tensors, "network/"))
        self.discriminator.load_state_dict(_under(tensors, "adversary/"))
        device = self.settings.device
        self.weights = {m: t.to(device) for m, t in _under(tensors, "weights/").items()}
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _under(tensors, f"optimizer{i}/").items():
                j, _, name = key.partition("/")
                state.setdefault(int(j), {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})

    # -- inside -------------------------------------------------------------------------------

    def _new_optimizers(self, rate: float) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return (
            torch.optim.RMSprop(self.network.parameters(), lr=rate),
            torch.optim.RMSprop(self.discriminator.parameters(), lr=rate),
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


def _total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([term.reshape(()) for term in terms.values()]).sum()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
