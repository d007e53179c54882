"""Rank-value tokens of genes (Geneformer, Nicheformer); the rule is in ``cellweave.tokenizing``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from cellweave.tokenizing.ranks import RankTokenizer as CoreRankTokenizer
from cellweave.tokenizing.table import table_from_ids

__all__ = ["RankTokenizer"]


@dataclass(kw_only=True, eq=False)
class RankTokenizer(CoreRankTokenizer):
    """Order each cell's genes by normalised value over the gene's median or mean.

    The arguments are those of :class:`cellweave.tokenizing.RankTokenizer`; a gene needs no more
    than ``max_length`` tokens because 2048 is where Geneformer cuts.
    """

    component: ClassVar[str] = "rna.rank"
    modality: ClassVar[str] = "rna"

    max_length: int | None = 2048

    @classmethod
    def from_tables(
        cls,
        token_ids: Mapping[str, int],
        factors: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None,
        *,
        special: Mapping[str, str],
        not_features: Sequence[str] = (),
        context_ids: Mapping[str, Mapping[str, int]] | None = None,
        **parameters: Any,
    ) -> Self:
        """Build on published tables; see :mod:`cellweave_rna.tables` for reading them.

        Parameters
        ----------
        token_ids
            Gene (and special) name to id.
        factors
            Gene to median or mean; or technology to such a table, for use with ``group_key``.
            ``None`` ranks plain values. Genes without a factor get no token.
        special
            Role to token name, e.g. ``{"pad": "<pad>", "mask": "<mask>"}``.
        not_features
            Further names that are no gene.
        context_ids
            Column of ``obs`` to (value → id).
        parameters
            Arguments of the tokenizer.
        """
        aside = {*special.values(), *not_features}
        if factors is None:
            factors = {name: 1.0 for name in token_ids if name not in aside}
        first = next(iter(factors.values()))
        grouped = factors if isinstance(first, Mapping) else {"all": factors}
        table = table_from_ids(
            token_ids,
            special=special,
            not_features=not_features,
            context=context_ids,
            numbers={f"factor/{name}": f for name, f in grouped.items()},  # type: ignore[misc]
        )
        return cls.from_table(table, **parameters)
