"""The training loop of scMODAL.

One step: a batch of every modality, some discriminator updates on fixed latent coordinates, one
update of encoders and decoders on

    1·adversarial + 10·autoencoder + 10·latent cycle + 1·mutual neighbours + 3·geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from cellweave.errors import NumericalError
from cellweave.records import Progress, ProgressCallback
from cellweave_scmodal.losses import (
    discriminator_loss,
    geometry_loss,
    mnn_loss,
    mutual_neighbours,
)
from cellweave_scmodal.model import Networks

__all__ = ["Schedule", "Weights", "train"]

_REPORT_EVERY = 50
_GRADIENT_LIMIT = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Weights of the loss terms."""

    adversarial: float = 1.0
    autoencoder: float = 10.0
    cycle: float = 10.0
    neighbours: float = 1.0
    geometry: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast."""

    n_steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    discriminator_steps: int
    n_neighbors: int
    weights: Weights = field(default_factory=Weights)


def train(
    networks: Networks,
    inputs: Mapping[str, torch.Tensor],
    linked: Mapping[tuple[str, str], tuple[torch.Tensor, torch.Tensor]],
    schedule: Schedule,
    *,
    generator: torch.Generator,
    progress: ProgressCallback | None,
) -> dict[str, np.ndarray]:
    """Train in place and return the history of every loss term."""
    tools = _Optimisers(networks, schedule)
    history: dict[str, list[float]] = {}
    summed: dict[str, torch.Tensor] = {}
    for step in range(1, schedule.n_steps + 1):
        rows = _draw_rows(inputs, schedule.batch_size, generator)
        terms = _one_step(networks, inputs, linked, rows, schedule, tools)
        for name, value in terms.items():
            summed[name] = summed.get(name, torch.zeros(())) + value.detach().cpu()
        if step % _REPORT_EVERY == 0 or step == schedule.n_steps:
            count = (step - 1) % _REPORT_EVERY + 1
            means = {name: float(value) / count for name, value in summed.items()}
            _guard(means, networks, step)
            for name, mean in means.items():
                history.setdefault(name, []).append(mean)
            summed = {}
            if progress:
                progress(
                    Progress(stage="scmodal", step=step, total=schedule.n_steps, metrics=means)
                )
    return {name: np.asarray(values) for name, values in history.items()}


class _Optimisers:
    """The two optimisers and their common schedule: cosine decay to a twentieth."""

    def __init__(self, networks: Networks, schedule: Schedule) -> None:
        rate, decay = schedule.learning_rate, schedule.weight_decay
        self.generator = torch.optim.Adam(
            networks.generator_parameters(), lr=rate, weight_decay=decay
        )
        self.discriminator = torch.optim.Adam(
            networks.discriminators.parameters(), lr=rate, weight_decay=decay
        )
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(
                one, schedule.n_steps, eta_min=schedule.learning_rate / 20
            )
            for one in (self.generator, self.discriminator)
        ]


def _draw_rows(
    inputs: Mapping[str, torch.Tensor], batch_size: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    return {
        name: torch.randint(len(x), (min(batch_size, len(x)),), generator=generator).to(x.device)
        for name, x in inputs.items()
    }


def _one_step(
    networks: Networks,
    inputs: Mapping[str, torch.Tensor],
    linked: Mapping[tuple[str, str], tuple[torch.Tensor, torch.Tensor]],
    rows: Mapping[str, torch.Tensor],
    schedule: Schedule,
    tools: _Optimisers,
) -> dict[str, torch.Tensor]:
    x = {name: values[rows[name]] for name, values in inputs.items()}
    z = {name: networks.encode(name, values) for name, values in x.items()}
    _update_discriminators(networks, z, list(linked), schedule, tools)
    terms = {
        "adversarial": _adversarial(networks, z, list(linked)),
        "autoencoder": _autoencoder(networks, x, z),
        "cycle": _cycle(networks, z, list(linked)),
        "neighbours": _neighbours(z, linked, rows, schedule.n_neighbors),
        "geometry": torch.stack([geometry_loss(x[n], z[n]) for n in x]).sum(),
    }
    weights = schedule.weights
    total = torch.stack([getattr(weights, n) * v for n, v in terms.items()]).sum()
    tools.generator.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(networks.generator_parameters(), _GRADIENT_LIMIT)
    tools.generator.step()
    for one in tools.schedules:
        one.step()
    return {"total": total, **terms}


def _update_discriminators(
    networks: Networks,
    z: Mapping[str, torch.Tensor],
    pairs: Sequence[tuple[str, str]],
    schedule: Schedule,
    tools: _Optimisers,
) -> None:
    # Detached: the encoders' gradients are neither computed nor touched here.
    fixed = {name: values.detach() for name, values in z.items()}
    for _ in range(schedule.discriminator_steps):
        loss = torch.stack(
            [
                discriminator_loss(
                    networks.judge(pair, fixed[pair[0]]), networks.judge(pair, fixed[pair[1]])
                )
                for pair in pairs
            ]
        ).sum()
        tools.discriminator.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        tools.discriminator.step()


def _adversarial(
    networks: Networks, z: Mapping[str, torch.Tensor], pairs: Sequence[tuple[str, str]]
) -> torch.Tensor:
    losses = [
        discriminator_loss(networks.judge(p, z[p[0]]), networks.judge(p, z[p[1]])) for p in pairs
    ]
    return -torch.stack(losses).sum()


def _autoencoder(
    networks: Networks, x: Mapping[str, torch.Tensor], z: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    return torch.stack([F.mse_loss(networks.decode(n, z[n]), x[n]) for n in x]).sum()


def _cycle(
    networks: Networks, z: Mapping[str, torch.Tensor], pairs: Sequence[tuple[str, str]]
) -> torch.Tensor:
    losses = []
    for a, b in pairs:
        for here, there in ((a, b), (b, a)):
            back = networks.encode(there, networks.decode(there, z[here]))
            losses.append(F.mse_loss(back, z[here]))
    return torch.stack(losses).sum()


def _neighbours(
    z: Mapping[str, torch.Tensor],
    linked: Mapping[tuple[str, str], tuple[torch.Tensor, torch.Tensor]],
    rows: Mapping[str, torch.Tensor],
    k: int,
) -> torch.Tensor:
    losses = []
    for (a, b), (first, second) in linked.items():
        mutual = mutual_neighbours(first[rows[a]], second[rows[b]], k)
        losses.append(mnn_loss(z[a], z[b], mutual))
    return torch.stack(losses).sum()


def _guard(means: Mapping[str, float], networks: Networks, step: int) -> None:
    wrong = [name for name, value in means.items() if not np.isfinite(value)]
    if not wrong:
        return
    broken = [n for n, p in networks.named_parameters() if not torch.isfinite(p).all()]
    msg = (
        f"scmodal met NaN or infinity by step {step} in the loss {wrong[0]!r}; first parameter "
        f"that is not finite: {broken[0] if broken else 'none'}. "
        "Lower learning_rate, and look for extreme values with `cellweave validate`."
    )
    raise NumericalError(msg)
