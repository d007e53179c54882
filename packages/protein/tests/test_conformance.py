from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite, TokenizerSuite
from cellweave_protein import ProteinModality
from cellweave_protein.tokenizers import ProtRankTokenizer


class TestProteinModality(ModalitySuite):
    def create(self, **arguments: Any) -> ProteinModality:
        return ProteinModality(**arguments)


class TestProtRankTokenizer(TokenizerSuite):
    tags = frozenset({"fit"})

    def create(self, **arguments: Any) -> ProtRankTokenizer:
        return ProtRankTokenizer(**arguments)
