"""UCE's sentences: genes drawn by expression, written chromosome by chromosome.

Rosen et al. 2023: 1 024 genes are drawn with replacement, p ∝ log1p(count); ``<cls>`` first, then
the chromosomes in a random order, each its own token, its genes by their start, and a closing
token. Genes are known by symbol, upper and lower case alike. The drawing is ``cellweave_rna``'s.

Departures: draws and order belong to the seed and the cell's name, so a cell has the same sentence
in any batch (upstream draws from numpy's global state); genes and cells are not filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from cellweave.records import Tokens, Vocabulary
from cellweave.tokenizing.table import TokenTable
from cellweave_rna.tokenizers import ChromosomeTokenizer
from cellweave_rna.tokenizers.naming import encode_known

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

__all__ = ["SPECIAL", "UceTokenizer"]

# In the order of the published rows: the second opens nothing, it is never used.
SPECIAL = {"pad": "<pad>", "open": "<open>", "end": "<end>", "cls": "<cls>"}


@dataclass(kw_only=True, eq=False)
class UceTokenizer(ChromosomeTokenizer):
    """Encode raw counts as UCE does.

    Parameters
    ----------
    n_draws
        Genes drawn for each cell.
    max_length
        Most tokens of a cell.
    names_from
        Column of ``var`` with gene symbols; ``var_names``, or a usual column, when not given.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    seed
        Of the draws and the order of chromosomes.
    """

    component: ClassVar[str] = "uce"
    framing: ClassVar[int] = 1

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.start or self.end or self.context:
            problems.append("start, end or context; UCE starts with <cls>, no other")
        if self.max_length is not None and self.n_draws + 3 > self.max_length:
            problems.append(f"n_draws={self.n_draws!r} and more in {self.max_length!r} tokens")
        return problems

    @classmethod
    def from_genome(
        cls,
        genes: Sequence[str],
        codes: np.ndarray,
        chromosomes: Sequence[str],
        **parameters: Any,
    ) -> Self:
        """Build on known genes.

        Parameters
        ----------
        genes
            Symbols in upper case, in the order of chromosomes and starts.
        codes
            Which of ``chromosomes`` each lies on.
        chromosomes
            Their names.
        parameters
            Arguments of the tokenizer.
        """
        import numpy as np

        openers = [f"<chromosome:{name}>" for name in chromosomes]
        names = (*SPECIAL.values(), *genes, *openers)
        first = len(SPECIAL)
        special = {role: i for i, role in enumerate(SPECIAL)}
        special |= {n.strip("<>"): first + len(genes) + i for i, n in enumerate(openers)}
        table = TokenTable(
            vocabulary=Vocabulary(names=names, special=special),
            features=np.asarray(genes, dtype=str),
            ids=np.arange(first, first + len(genes), dtype=np.int32),
            numbers={"chromosome": np.asarray(codes, dtype=np.int64)},
            facts={"chromosomes": list(chromosomes), "upper_case": True},
        )
        return cls.from_table(table, **parameters)

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        upper = bool(self.table.facts.get("upper_case"))
        spelling = str.upper if upper else None
        return encode_known(self, adata, kind="symbols of the species", spelling=spelling)
