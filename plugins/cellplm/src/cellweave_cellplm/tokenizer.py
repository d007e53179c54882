"""CellPLM's cells: the genes and log1p counts whose sum is one token.

Wen et al., ICLR 2024: a cell's token is ``Σ_g log1p(x_g) · E_g`` over 19 374 genes known by Ensembl
id; raw counts, not normalised. Which cells form a sequence is said when they are embedded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cellweave.errors import ConfigError
from cellweave.records import Tokens
from cellweave.tokenizing.table import TokenTable, table_from_ids
from cellweave_rna.tokenizers import CellTokenizer
from cellweave_rna.tokenizers.naming import ENSEMBL_COLUMNS, encode_known, without_version

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CellplmTokenizer"]


@dataclass(kw_only=True, eq=False)
class CellplmTokenizer(CellTokenizer):
    """Give each cell its genes and log1p counts.

    Parameters
    ----------
    names_from
        Column of ``var`` with Ensembl ids; ``var_names``, or a usual column, when not given.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "cellplm"
    framing: ClassVar[int] = 0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.start or self.end or self.context or self.max_length or self.sample_key:
            problems.append("framing, max_length or sample_key; a cell of CellPLM is its genes")
        return problems

    @classmethod
    def from_genes(
        cls, genes: Sequence[str], *, symbols: Mapping[str, str] | None = None, **parameters: Any
    ) -> Self:
        """Build on the published list.

        Parameters
        ----------
        genes
            Ensembl ids, in the order of the rows.
        symbols
            Gene symbol to Ensembl id, for data that carry symbols.
        parameters
            Arguments of the tokenizer.
        """
        return cls.from_table(_table(genes, symbols or {}), **parameters)

    def _finish(self) -> TokenTable:
        return _table([str(name) for name in self._learning["features"]], {})

    def encode(self, adata: AnnData) -> Tokens:
        """Return genes and values of every cell, in input order; ``adata`` is not changed."""
        symbols: Mapping[str, str] = self.table.facts.get("symbols", {})

        def spelling(name: str) -> str:
            return symbols.get(name, without_version(name))

        kind = "human Ensembl ids"
        return encode_known(self, adata, columns=ENSEMBL_COLUMNS, kind=kind, spelling=spelling)


def _table(genes: Sequence[str], symbols: Mapping[str, str]) -> TokenTable:
    ids = {name: i for i, name in enumerate(genes)}
    if len(ids) < len(genes):
        twice = next(g for i, g in enumerate(genes) if ids[g] != i)
        msg = f"The list of genes names {twice!r} twice. Give the published list of unique ids."
        raise ConfigError(msg)
    known = {symbol: gene for symbol, gene in symbols.items() if gene in ids}
    return table_from_ids(ids, special={}, facts={"symbols": known})
