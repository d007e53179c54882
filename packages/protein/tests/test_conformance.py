from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite, TokenizerSuite
from cellweave_protein import ProteinModality
from cellweave_protein.tokenizers import (
    ProtBinTokenizer,
    ProtRankTokenizer,
    ProtValueTokenizer,
)


class TestProteinModality(ModalitySuite):
    def create(self, **arguments: Any) -> ProteinModality:
        return ProteinModality(**arguments)


class TestProtRankTokenizer(TokenizerSuite):
    tags = frozenset({"fit"})

    def create(self, **arguments: Any) -> ProtRankTokenizer:
        return ProtRankTokenizer(**arguments)


class TestProtBinTokenizer(TokenizerSuite):
    # A panel has too few values for edges to meet, which is where bins would be drawn.
    tags = frozenset({"fit"})

    def create(self, **arguments: Any) -> ProtBinTokenizer:
        return ProtBinTokenizer(**arguments)


class TestProtValueTokenizer(TokenizerSuite):
    tags = frozenset({"fit", "decode"})

    def create(self, **arguments: Any) -> ProtValueTokenizer:
        return ProtValueTokenizer(**arguments)
