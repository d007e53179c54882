"""scBERT's tokens: every gene of its list in a fixed order, zeros included.

Yang et al., Nature Machine Intelligence 2022: values are log2(1 + CP10K), the total taken over
the list; a token is the value cut to a whole number, 5 at most; one zero token ends the sequence.
Here a token's id is its place in the list (the row of the gene table) and its value the bin.
Binning is ``cellweave_rna``'s.

Departure: upstream drops cells with fewer than 200 genes; filtering is the caller's here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cellweave.errors import ConfigError
from cellweave.records import Tokens
from cellweave.tokenizing.table import TokenTable, table_from_ids
from cellweave_rna.tokenizers import FixedTokenizer
from cellweave_rna.tokenizers.naming import encode_known

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["LAST", "ScbertTokenizer"]

LAST = "<last>"


@dataclass(kw_only=True, eq=False)
class ScbertTokenizer(FixedTokenizer):
    """Encode raw counts as scBERT does.

    Parameters
    ----------
    n_bins
        The largest bin.
    names_from
        Column of ``var`` with gene symbols; ``var_names``, or a usual column, when not given.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "scbert"
    framing: ClassVar[int] = 1
    positioned: ClassVar[bool] = False

    end: bool = True

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.end or self.start or self.context:
            problems.append("start, end or context; scBERT ends with one zero token, no other")
        return problems

    @classmethod
    def from_genes(cls, genes: Sequence[str], **parameters: Any) -> Self:
        """Build on the published order of genes."""
        return cls.from_table(_table(genes), **parameters)

    def _finish(self) -> TokenTable:
        return _table([str(name) for name in self._learning["features"]])

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        return encode_known(self, adata)


def _table(genes: Sequence[str]) -> TokenTable:
    ids = {name: i for i, name in enumerate([*genes, LAST])}
    if len(ids) <= len(genes):
        twice = next(g for i, g in enumerate(genes) if ids[g] != i)
        msg = f"The list of genes names {twice!r} twice. Give the published list of unique symbols."
        raise ConfigError(msg)
    return table_from_ids(ids, special={"eos": LAST})
