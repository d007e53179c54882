"""The networks: an encoder and a decoder for each modality, the graph encoder, the discriminator.

Every layer takes its random numbers from a generator that is handed in, for initial weights as
for dropout: no global state, and the same seed gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from cellweave_glue import fused, likelihoods
from cellweave_glue.sparse import propagate

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import Tensor

    from cellweave_glue.sparse import RowBatch

__all__ = [
    "DataDecoder",
    "DataEncoder",
    "Discriminator",
    "Gaussian",
    "GlueNetwork",
    "GraphEncoder",
    "ModalityShape",
    "seeded_linear",
]

_EPS = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaussian:
    """A diagonal Gaussian for each row."""

    mean: Tensor
    std: Tensor

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw one value for each entry."""
        noise = torch.randn(
            self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype
        )
        return torch.addcmul(self.mean, self.std, noise)

    def divergence(self) -> Tensor:
        """Return KL to the standard normal, summed over all entries."""
        return 0.5 * (self.mean.square() + self.std.square() - 2 * self.std.log() - 1).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityShape:
    """What the networks must know of a modality."""

    n_inputs: int
    n_features: int
    n_batches: int
    likelihood: str


def seeded_linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with PyTorch's usual initial range, drawn from ``generator``."""
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")
    bound = n_in**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def _dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    if generator is None or rate == 0:
        return x
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= rate
    return x * keep / (1 - rate)


class DataEncoder(nn.Module):
    """q(u | x): depth x [linear, leaky ReLU, batch norm, dropout], then mean and deviation."""

    def __init__(
        self,
        *,
        n_inputs: int,
        n_hidden: int,
        depth: int,
        n_latent: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = [n_inputs, *[n_hidden] * depth]
        self.linears = nn.ModuleList(seeded_linear(a, b, generator) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in sizes[1:])
        self.mean = seeded_linear(sizes[-1], n_latent, generator)
        self.spread = seeded_linear(sizes[-1], n_latent, generator)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Gaussian:
        """Return the posterior; dropout only where a generator is given."""
        for linear, norm in zip(self.linears, self.norms):
            x = norm(functional.leaky_relu(linear(x), 0.2))
            x = _dropout(x, self.dropout, generator)
        return Gaussian(mean=self.mean(x), std=functional.softplus(self.spread(x)) + _EPS)


class GraphEncoder(nn.Module):
    """q(V | graph): one propagation of the vertex parameters, then mean and deviation."""

    def __init__(
        self,
        *,
        n_vertices: int,
        n_latent: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.vertices = nn.Parameter(torch.zeros(n_vertices, n_latent))
        self.mean = seeded_linear(n_latent, n_latent, generator)
        self.spread = seeded_linear(n_latent, n_latent, generator)

    def forward(self, adjacency: Tensor, transposed: Tensor) -> Gaussian:
        """Return the posterior of all feature vectors."""
        hidden = propagate(adjacency, transposed, self.vertices)
        std = functional.softplus(self.spread(hidden)) + _EPS
        return Gaussian(mean=self.mean(hidden), std=std)

    def sample(
        self, adjacency: Tensor, transposed: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return a draw of all feature vectors and the divergence of their posterior."""
        if not fused.applies(self.vertices):
            posterior = self.forward(adjacency, transposed)
            return posterior.sample(generator), posterior.divergence()
        return fused.sampled_posterior(
            propagate(adjacency, transposed, self.vertices),
            torch.cat([self.mean.weight, self.spread.weight]),
            torch.cat([self.mean.bias, self.spread.bias]),
            torch.randn(self.vertices.shape, generator=generator),
            floor=_EPS,
        )


class DataDecoder(nn.Module):
    """p(x | u, V): linear in the feature vectors, with a scale, bias and dispersion a batch."""

    centre: Tensor
    width: Tensor

    def __init__(self, shape: ModalityShape) -> None:
        super().__init__()
        self.likelihood = shape.likelihood
        size = (shape.n_batches, shape.n_features)
        self.scale = nn.Parameter(torch.zeros(size))
        self.bias = nn.Parameter(torch.zeros(size))
        if shape.likelihood != "bernoulli":
            self.spread = nn.Parameter(torch.zeros(size))
        if shape.likelihood in ("zinb", "nb_mixture"):
            self.second = nn.Parameter(torch.zeros(size))
        if shape.likelihood == "normal":
            self.register_buffer("centre", torch.zeros(shape.n_features))
            self.register_buffer("width", torch.ones(shape.n_features))

    def start_at(self, values: sp.csr_matrix) -> None:
        """Start the biases at the data's own means, which a small learning rate reaches late.

        Normal values are modelled in units of their standard deviation.
        """
        mean = np.asarray(values.mean(0), dtype=np.float64).ravel()
        with torch.no_grad():
            if self.likelihood == "normal":
                second = np.asarray(values.multiply(values).mean(0), dtype=np.float64).ravel()
                width = np.sqrt(np.maximum(second - mean**2, 0.0))
                self.centre.copy_(torch.as_tensor(mean))
                self.width.copy_(torch.as_tensor(np.where(width > 1e-6, width, 1.0)))
            elif self.likelihood == "bernoulli":
                share = np.clip(np.asarray((values > 0).mean(0)).ravel(), 1e-4, 1 - 1e-4)
                self.bias.copy_(torch.as_tensor(np.log(share / (1 - share))).expand_as(self.bias))
            else:
                level = np.log(mean + 0.5 / values.shape[0])
                start = torch.as_tensor(level - level.mean()).expand_as(self.bias)
                self.bias.copy_(start)
                if self.likelihood == "nb_mixture":
                    # background below, foreground above: equal starts would never part
                    self.second.copy_(start + 0.5)

    def logits(self, u: Tensor, v: Tensor, batch: Tensor) -> Tensor:
        """Return ``scale * (u v^T) + bias`` of each cell's batch."""
        if len(self.bias) == 1:
            return torch.addmm(self.bias, u, (functional.softplus(self.scale[0])[:, None] * v).T)
        return functional.softplus(self.scale)[batch] * (u @ v.T) + self.bias[batch]

    def loss(self, u: Tensor, v: Tensor, batch: Tensor, data: RowBatch, values: Tensor) -> Tensor:
        """Return the mean negative log-likelihood over cells and features.

        Parameters
        ----------
        u, v
            Cell and feature vectors.
        batch
            Batch of each cell.
        data
            Counts of the cells.
        values
            ``log`` of the library size for counts, else unused.
        """
        if self.likelihood == "nb" and fused.applies(u, v):
            return fused.nb_loss(
                u,
                v,
                scale=functional.softplus(self.scale),
                bias=self.bias,
                log_theta=likelihoods.bounded(self.spread),
                batch=batch,
                log_library=values,
                counts=data,
            )
        logits = self.logits(u, v, batch)
        if self.likelihood == "bernoulli":
            return likelihoods.bernoulli_loss(logits, data.dense())
        spread = self._of_batch(self.spread, batch)
        if self.likelihood == "normal":
            scaled = (data.dense() - self.centre) / self.width
            return likelihoods.normal_loss(logits, spread, scaled)
        if self.likelihood == "nb":
            return likelihoods.nb_loss(logits, spread, values, data)
        second = self._of_batch(self.second, batch)
        if self.likelihood == "zinb":
            return likelihoods.zinb_loss(logits, spread, values, second, data)
        other = logits - self._of_batch(self.bias, batch) + second
        return likelihoods.mixture_loss(logits, other, spread, values, data)

    def expected(self, u: Tensor, v: Tensor, batch: Tensor) -> Tensor:
        """Return the mean of each feature, for counts as shares of a library of 1."""
        logits = self.logits(u, v, batch)
        if self.likelihood == "normal":
            return logits * self.width + self.centre
        if self.likelihood == "bernoulli":
            return logits.sigmoid()
        share = logits.softmax(1)
        if self.likelihood == "zinb":
            return share * torch.sigmoid(-self._of_batch(self.second, batch))
        if self.likelihood == "nb_mixture":
            other = logits - self._of_batch(self.bias, batch) + self._of_batch(self.second, batch)
            first = torch.sigmoid(logits - other)
            return first * share + (1 - first) * other.softmax(1)
        return share

    @staticmethod
    def _of_batch(parameter: Tensor, batch: Tensor) -> Tensor:
        return parameter[0] if len(parameter) == 1 else parameter[batch]


class Discriminator(nn.Module):
    """Tells from which modality a cell vector comes."""

    def __init__(
        self,
        *,
        n_inputs: int,
        n_hidden: int,
        depth: int,
        n_modalities: int,
        dropout: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = [n_inputs, *[n_hidden] * depth]
        self.linears = nn.ModuleList(seeded_linear(a, b, generator) for a, b in pairwise(sizes))
        self.out = seeded_linear(sizes[-1], n_modalities, generator)

    def forward(self, u: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return one logit a modality."""
        for linear in self.linears:
            u = _dropout(functional.leaky_relu(linear(u), 0.2), self.dropout, generator)
        out: Tensor = self.out(u)
        return out


class GlueNetwork(nn.Module):
    """All networks of a fit; the discriminator stands apart, since another optimiser owns it."""

    def __init__(
        self,
        *,
        shapes: Mapping[str, ModalityShape],
        n_vertices: int,
        n_latent: int,
        n_hidden: int,
        depth: int,
        dropout: float,
        n_labels: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                m: DataEncoder(
                    n_inputs=shape.n_inputs,
                    n_hidden=n_hidden,
                    depth=depth,
                    n_latent=n_latent,
                    dropout=dropout,
                    generator=generator,
                )
                for m, shape in shapes.items()
            }
        )
        self.decoders = nn.ModuleDict({m: DataDecoder(shape) for m, shape in shapes.items()})
        self.graph = GraphEncoder(n_vertices=n_vertices, n_latent=n_latent, generator=generator)
        self.classifier = seeded_linear(n_latent, n_labels, generator) if n_labels else None

    def encoder(self, modality: str) -> DataEncoder:
        """Return the encoder of a modality."""
        return cast("DataEncoder", self.encoders[modality])

    def decoder(self, modality: str) -> DataDecoder:
        """Return the decoder of a modality."""
        return cast("DataDecoder", self.decoders[modality])
