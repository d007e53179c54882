"""TOSICA's input: the log-normalised values of the genes it was trained on.

Chen et al., Nature Communications 2023: cells are normalised to 10 000 and log1p is taken, then
the genes of the training data are kept, in their order; a masked layer makes one token a pathway
of them (in the network). Only genes that are not zero are handed on here.

Departure: genes may stand in any order and be absent (they count as zero); upstream takes columns
as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from cellweave.errors import ConfigError
from cellweave.records import Tokens
from cellweave.tokenizing.table import TokenTable, table_from_ids
from cellweave_rna.tokenizers import ValueTokenizer
from cellweave_rna.tokenizers.naming import ENSEMBL_COLUMNS, SYMBOL_COLUMNS, encode_known

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["TosicaTokenizer"]


@dataclass(kw_only=True, eq=False)
class TosicaTokenizer(ValueTokenizer):
    """Hand on log-normalised values.

    Parameters
    ----------
    total
        What cells are normalised by: ``"all"`` columns (the authors' recipe normalises before it
        chooses genes) or those of the ``"vocabulary"``.
    names_from
        Column of ``var`` with the names of the training data; ``var_names``, or a usual column,
        when not given.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "tosica"
    framing: ClassVar[int] = 0

    total: Literal["all", "vocabulary"] = "all"

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.start or self.end or self.context or self.depth != "none" or self.max_length:
            problems.append("framing, depth or max_length; TOSICA has no tokens but its genes")
        return problems

    @classmethod
    def from_genes(cls, genes: Sequence[str], **parameters: Any) -> Self:
        """Build on the genes of the training data, in their order."""
        return cls.from_table(_table(genes), **parameters)

    def _finish(self) -> TokenTable:
        return _table([str(name) for name in self._learning["features"]])

    def encode(self, adata: AnnData) -> Tokens:
        """Return the values of every cell, in input order; ``adata`` is not changed."""
        columns = (*SYMBOL_COLUMNS, *ENSEMBL_COLUMNS)
        return encode_known(self, adata, columns=columns, kind="names of the training data")

    def as_given(self) -> Self:
        """Return the same for data whose ``X`` is log-normalised already."""
        table, fields = self.table, self.parameters()
        return type(self).from_table(
            table, **{**fields, "target_sum": 0.0, "log1p": False, "layer": "X"}
        )


def _table(genes: Sequence[str]) -> TokenTable:
    ids = {name: i for i, name in enumerate(genes)}
    if len(ids) < len(genes):
        twice = next(g for i, g in enumerate(genes) if ids[g] != i)
        msg = f"The list of genes names {twice!r} twice. Give unique names, as AnnData wants them."
        raise ConfigError(msg)
    return table_from_ids(ids, special={})
