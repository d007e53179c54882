"""The networks of scMODAL: an encoder and a decoder a modality, a discriminator a pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

__all__ = ["Networks"]

_LOGIT_LIMIT = 50.0


class Networks(nn.Module):
    """Hold all networks; built with a generator so that the same seed gives the same weights.

    Shapes: B cells, P input coordinates, M latent dimensions, H hidden units.
    """

    def __init__(
        self,
        *,
        widths: Mapping[str, int],
        pairs: Sequence[tuple[str, str]],
        n_latent: int,
        n_hidden: int,
        n_discriminator: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        names = list(widths)
        self.encoders = nn.ModuleDict(
            {n: _two_layers(widths[n], n_hidden, n_latent) for n in names}
        )
        self.decoders = nn.ModuleDict(
            {n: _two_layers(n_latent, n_hidden, widths[n]) for n in names}
        )
        self.discriminators = nn.ModuleDict(
            {_key(a, b): _three_layers(n_latent, n_discriminator) for a, b in pairs}
        )
        _draw_weights(self, generator)

    def encode(self, name: str, x_BP: torch.Tensor) -> torch.Tensor:
        """Return latent coordinates ``(B, M)``."""
        z_BM: torch.Tensor = self.encoders[name](x_BP)
        return z_BM

    def decode(self, name: str, z_BM: torch.Tensor) -> torch.Tensor:
        """Return input coordinates ``(B, P)`` of a modality."""
        x_BP: torch.Tensor = self.decoders[name](z_BM)
        return x_BP

    def judge(self, pair: tuple[str, str], z_BM: torch.Tensor) -> torch.Tensor:
        """Return the logit ``(B,)`` that a cell is of the pair's first modality."""
        logit: torch.Tensor = self.discriminators[_key(*pair)](z_BM).squeeze(1)
        return logit.clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)

    def generator_parameters(self) -> list[nn.Parameter]:
        """List the parameters of encoders and decoders."""
        return [*self.encoders.parameters(), *self.decoders.parameters()]


def _linear(n_in: int, n_out: int) -> nn.Linear:
    # torch would draw first weights from the global generator; ours come from the seed alone.
    made: nn.Linear = torch.nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
    return made


def _two_layers(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(_linear(n_in, n_hidden), nn.ReLU(), _linear(n_hidden, n_out))


def _three_layers(n_in: int, n_hidden: int) -> nn.Sequential:
    return nn.Sequential(
        _linear(n_in, n_hidden),
        nn.ReLU(),
        _linear(n_hidden, n_hidden),
        nn.ReLU(),
        _linear(n_hidden, 1),
    )


def _draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    # Scaled to the width of each layer: the paper's N(0, 0.1) suits 512 inputs and no other number.
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 2:
                scale = (2.0 / parameter.shape[1]) ** 0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            else:
                parameter.zero_()


def _key(a: str, b: str) -> str:
    return f"{a}--{b}"
