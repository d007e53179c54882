"""The contract of an encoder: token batches to token and cell states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from cellweave.contracts.batch import EncoderOutput, TokenBatch

__all__ = ["Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """Turn a ragged batch of tokens into states; a ``torch.nn.Module``.

    It is built from a config record whose fields are JSON values, and gives the same numbers
    whether the batch is packed or padded.
    """

    @property
    def config(self) -> Mapping[str, Any]:
        """Give the JSON values it was built from."""
        ...

    def forward(self, batch: TokenBatch) -> EncoderOutput:
        """Return token states (ragged, as the batch) and one state a cell."""
        ...
