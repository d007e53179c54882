"""scGPT's tokens on its published vocabulary.

Cui et al., Nature Methods 2024, as their zero-shot embedding does it: raw values of the genes that
are not zero, ``<cls>`` first with the padding value, 51 quantile bins within the cell over all its
genes, then at most ``max_length`` tokens, sampled at random. Binning is ``cellweave_rna``'s.

Departure: what is random (bins of a value that several edges equal; which genes of a long cell)
belongs to the seed, the cell's name and the gene, so a cell's tokens are the same in any batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from cellweave.errors import StateMismatchError
from cellweave.records import ComponentState, Tokens, Vocabulary
from cellweave.tokenizing.rows import unchecked_csr_of
from cellweave.tokenizing.table import TokenTable
from cellweave_rna.tokenizers import BinTokenizer
from cellweave_rna.tokenizers.naming import SYMBOL_COLUMNS, known_places

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ScgptTokenizer"]


class ScgptTokenizer:
    """Encode raw counts as scGPT does.

    Parameters
    ----------
    n_bins
        Bins, zero's among them.
    max_length
        Most tokens of a cell, ``<cls>`` among them.
    start_value
        Value at ``<cls>``.
    ties
        Bin of a value that several edges equal: ``random`` (the authors'), ``lowest``,
        ``highest``.
    overflow
        ``sample`` (the authors') or ``truncate``.
    names_from
        Column of ``var`` with gene symbols; ``var_names``, or a usual column, when not given.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    seed
        Of everything random.
    """

    component: ClassVar[str] = "scgpt"
    modality: ClassVar[str] = "rna"
    framing: ClassVar[int] = 1

    def __init__(
        self,
        *,
        n_bins: int = 51,
        max_length: int = 1200,
        start_value: float = -2.0,
        ties: Literal["random", "lowest", "highest"] = "random",
        overflow: Literal["truncate", "sample"] = "sample",
        names_from: str | None = None,
        layer: str | None = None,
        seed: int = 0,
    ) -> None:
        self.names_from = names_from
        self.layer = layer
        self.bins = BinTokenizer(
            rule="quantile",
            n_bins=n_bins,
            max_length=max_length,
            start=True,
            start_value=start_value,
            ties=ties,
            overflow=overflow,
            seed=seed,
        )

    @classmethod
    def from_vocabulary(
        cls, token_ids: Mapping[str, int], *, pad_token: str = "<pad>", **parameters: Any
    ) -> Self:
        """Build on a published ``vocab.json`` (symbol → id)."""
        made = cls(**parameters)
        special = {"pad": pad_token, "cls": "<cls>", "eoc": "<eoc>"}
        made.bins = BinTokenizer.from_tables(token_ids, special=special, **made.bins.parameters())
        return made

    @property
    def table(self) -> TokenTable:
        """Give genes and their ids; ``NotFittedError`` when there are none."""
        return self.bins.table

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens."""
        return self.bins.vocabulary

    def fit(self, adata: AnnData) -> Self:
        """Take the genes of ``adata`` as a vocabulary of your own."""
        self.bins.names_from, self.bins.layer = self.names_from, self.layer
        self.bins.fit(adata)
        return self

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        matrix, layer = unchecked_csr_of(adata, self.layer)
        names = np.asarray(adata.obs_names, dtype=str)
        places = self._places(adata)
        return self.bins.encode_matrix(matrix, places, names=names, obs=adata.obs, layer=layer)

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        inner, kept = self.bins.state(), self.bins
        return ComponentState(
            component=self.component,
            parameters={
                "n_bins": kept.n_bins,
                "max_length": kept.max_length,
                "start_value": kept.start_value,
                "ties": kept.ties,
                "overflow": kept.overflow,
                "names_from": self.names_from,
                "layer": self.layer,
                "seed": kept.seed,
            },
            arrays=inner.arrays,
            extra={"table": dict(inner.extra)},
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild from :meth:`state`; a state of another component is refused."""
        if state.component != cls.component:
            msg = f"This is a state of {state.component!r}, expected {cls.component!r}."
            raise StateMismatchError(msg + " Load it with the tokenizer that wrote it.")
        made = cls(**dict(state.parameters))
        table = TokenTable.from_parts(state.extra["table"], state.arrays)
        made.bins = BinTokenizer.from_table(table, **made.bins.parameters())
        return made

    def _places(self, adata: AnnData) -> np.ndarray:
        """Return the place of each column in the vocabulary; the best column of names is taken."""
        columns = [self.names_from] if self.names_from else [None, *SYMBOL_COLUMNS]
        return known_places(
            adata, self.table.features, columns=columns, kind="human symbols", memo=self.bins.memo
        )
