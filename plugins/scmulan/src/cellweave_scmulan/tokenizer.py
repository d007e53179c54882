"""scMulan's sentences: expressed genes with the bin of their value, then the task.

Bian et al., RECOMB 2024: values are normalised to 10 000 and logged; a cell's genes stand in the
reverse order of the published list, each with one of ten bins of equal width up to the cell's
largest value; ``<PCT>`` (predict the cell type) with bin 0 ends the prompt. Binning is
``cellweave_rna``'s. Here genes come first in the vocabulary, in the order of sentences, and the
rows of the weights are read in that order.

Departures: genes may be absent (they count as zero), where upstream refuses; symbols are not
harmonised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from cellweave.errors import ConfigError, DataError
from cellweave.records import Tokens, Vocabulary
from cellweave.tokenizing.rows import csr_of
from cellweave.tokenizing.table import TokenTable
from cellweave_rna.tokenizers import BinTokenizer
from cellweave_rna.tokenizers.naming import encode_known

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["STOP", "TASK", "ScmulanTokenizer"]

STOP, TASK = "<#E#>", "<PCT>"
# Logged values of 10 000 a cell stay below this; upstream refuses others by the same bound.
_LARGEST_LOG = 10.0


@dataclass(kw_only=True, eq=False)
class ScmulanTokenizer(BinTokenizer):
    """Encode raw counts as scMulan does.

    Parameters
    ----------
    n_bins
        Bins of values that are not zero.
    names_from
        Column of ``var`` with gene symbols; ``var_names``, or a usual column, when not given.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "scmulan"
    framing: ClassVar[int] = 1

    rule: Literal["quantile", "log2", "uniform"] = "uniform"
    n_bins: int = 10
    target_sum: float = 1e4
    log1p: bool = True
    end: bool = True

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if not self.end or self.start or self.context:
            problems.append("start, end or context; scMulan ends with its task, no other")
        return problems

    @classmethod
    def from_lists(
        cls,
        genes: Sequence[str],
        others: Sequence[str],
        *,
        stop: str = STOP,
        cell_types: Sequence[str] = (),
        **parameters: Any,
    ) -> Self:
        """Build on the published lists.

        Parameters
        ----------
        genes
            The list of genes, in its own order.
        others
            The other tokens.
        stop
            The token that ends a generation.
        cell_types
            Those of ``others`` that are cell types.
        parameters
            Arguments of the tokenizer.
        """
        return cls.from_table(_table(genes, others, stop, cell_types), **parameters)

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Give the names of tokens that are cell types."""
        return tuple(self.table.facts["cell_types"])

    def _finish(self) -> TokenTable:
        genes = [str(name) for name in self._learning["features"]]
        return _table(genes, [STOP, TASK], STOP, ())

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        if not self.log1p:
            _check_logged(adata, self.layer)
        return encode_known(self, adata)

    def as_given(self) -> Self:
        """Return the same for data whose ``X`` is normalised and logged already."""
        fields = self.parameters() | {"target_sum": 0.0, "log1p": False, "layer": "X"}
        return type(self).from_table(self.table, **fields)


def _check_logged(adata: AnnData, layer: str | None) -> None:
    largest = float(csr_of(adata, layer).max()) if adata.n_obs and adata.n_vars else 0.0
    if largest >= _LARGEST_LOG:
        msg = (
            f"The largest value is {largest:g}. Expected values normalised to 10 000 and logged, "
            f"which stay below {_LARGEST_LOG:g}. Give raw counts without normalised=True."
        )
        raise DataError(msg)


def _table(
    genes: Sequence[str], others: Sequence[str], stop: str, cell_types: Sequence[str]
) -> TokenTable:
    names = (*reversed(genes), *others)
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(n for n in names if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        msg = f"The lists name {twice!r} twice. Give the published lists, whose names are unique."
        raise ConfigError(msg)
    place = {name: i for i, name in enumerate(names)}
    return TokenTable(
        vocabulary=Vocabulary(names=names, special={"stop": place[stop], "eos": place[TASK]}),
        features=np.asarray(names[: len(genes)], dtype=str),
        ids=np.arange(len(genes), dtype=np.int32),
        facts={"cell_types": list(cell_types)},
    )
