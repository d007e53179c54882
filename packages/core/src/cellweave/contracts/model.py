"""The contract of a model: a tokenizer, an encoder and weights that embed cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.contracts.tokenizer import Tokenizer
    from cellweave.records import Embedding

__all__ = ["Model"]


@runtime_checkable
class Model(Protocol):
    """Embed cells with trained weights; ours, or a published checkpoint.

    Attributes
    ----------
    family
        Registry name of the component that reads it.
    """

    family: str

    @property
    def tokenizer(self) -> Tokenizer:
        """Give the tokenizer the weights were trained with."""
        ...

    def embed(self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu") -> Embedding:
        """Return one vector a cell, in input order, in bounded memory."""
        ...

    def save(self, folder: Path) -> None:
        """Write a model folder: JSON and safetensors, atomically, with a manifest."""
        ...

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell from file names and headers whether ``path`` is of this family; runs no code."""
        ...

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a published checkpoint or a model folder, strictly: every key used or named."""
        ...
