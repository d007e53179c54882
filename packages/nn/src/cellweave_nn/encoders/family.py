"""The network of a published family as an encoder, so that the engine can train it further.

It is built by the family's name, which the registry knows as a model; the folder of the trained
model then names nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.layers.block import Stack
from cellweave_nn.outputs import EncoderOutput

if TYPE_CHECKING:
    from cellweave_nn.batch import TokenBatch
    from cellweave_nn.checkpoints.family import FamilyModel

__all__ = ["FamilyEncoder"]


class FamilyEncoder(nn.Module):
    """Run the network of a family; a cell's state is what the family makes of its tokens'.

    Parameters
    ----------
    family
        The class of the family's models.
    network
        Its network.
    """

    def __init__(self, family: type[FamilyModel], network: nn.Module) -> None:
        super().__init__()
        self.family = family
        self.network = network

    @classmethod
    def from_parameters(cls, family: type[FamilyModel], parameters: Mapping[str, Any]) -> Self:
        """Build the network with random weights from :attr:`config`."""
        family.notify(licensed=bool(parameters["settings"].get("licence")))
        settings = family.config_type.from_dict(parameters["settings"])
        return cls(family, family.network_type(settings))

    @property
    def config(self) -> dict[str, Any]:
        """Give what :meth:`from_parameters` takes."""
        settings: Any = self.network.config
        return {"settings": settings.to_dict(), "n_ids": settings.n_ids}

    @property
    def token_width(self) -> int:
        """Give the width of the states of tokens."""
        settings: Any = self.network.config
        return int(settings.width)

    @property
    def cell_width(self) -> int:
        """Give the width of the states of cells."""
        settings: Any = self.network.config
        return int(getattr(settings, "cell_width", settings.width))

    @property
    def stack(self) -> Stack:
        """Give the blocks, of which the last may be trained alone."""
        blocks: Any = self.network.blocks
        return Stack(blocks)

    def forward(
        self, batch: TokenBatch, *, keep_hidden: bool = False, keep_attention: bool = False
    ) -> EncoderOutput:
        """Encode some cells."""
        if keep_hidden:
            msg = f"A {self.family.family} that was trained further gives its last layer alone. "
            raise ConfigError(msg + "Use layer=-1, or ask the published model for other layers.")
        states = self.network(batch)
        network: Any = self.network
        return EncoderOutput(
            token_states=states,
            cell_state=self.family.cells_of(states, batch),
            attention=tuple(network.attention(batch)) if keep_attention else (),
        )
