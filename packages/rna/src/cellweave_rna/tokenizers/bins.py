"""Binned expression (scGPT, scBERT, scMulan); the rules are in ``cellweave.tokenizing.bins``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cellweave.tokenizing.bins import BinTokenizer as CoreBinTokenizer
from cellweave.tokenizing.features import FeatureTokenizer

__all__ = ["BinTokenizer", "GeneTokenizer"]


@dataclass(kw_only=True, eq=False)
class GeneTokenizer(FeatureTokenizer):
    """Give each expressed gene one token, genes in vocabulary order; subclasses give its value.

    The arguments are those of :class:`cellweave.tokenizing.features.FeatureTokenizer`;
    :mod:`cellweave_rna.tables` reads published vocabularies for ``from_tables``.
    """

    modality: ClassVar[str] = "rna"


@dataclass(kw_only=True, eq=False)
class BinTokenizer(CoreBinTokenizer):
    """Bin each cell's expression.

    The arguments are those of :class:`cellweave.tokenizing.BinTokenizer`.
    """

    component: ClassVar[str] = "rna.bins"
    modality: ClassVar[str] = "rna"
