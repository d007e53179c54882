"""The contract of a tokenizer: cells to ragged tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import ComponentState, Tokens, Vocabulary

__all__ = ["Tokenizer"]


@runtime_checkable
class Tokenizer(Protocol):
    """Turn cells into tokens.

    The constructor takes keyword arguments only and stores them; ``seed`` is one of them where
    anything is random. Randomness is drawn per cell from (seed, cell name, purpose), so that the
    tokens of a cell do not depend on its neighbours, its position or the batch it came in.

    Attributes
    ----------
    modality
        Modality whose data it reads, or ``"*"``.
    """

    modality: str

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens; raises ``NotFittedError`` before ``fit``."""
        ...

    def fit(self, adata: AnnData) -> Self:
        """Learn what encoding needs (vocabulary, scaling factors) and return ``self``."""
        ...

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed.

        Sparse input is never made dense. Features outside the vocabulary are left out.
        """
        ...

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        ...

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted tokenizer from :meth:`state`; refuse a state of another component."""
        ...
