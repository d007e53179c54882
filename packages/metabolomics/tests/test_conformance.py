from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite, TokenizerSuite
from cellweave_metabolomics import MetabolomicsModality
from cellweave_metabolomics.tokenizers import (
    MetabBinTokenizer,
    MetabRankTokenizer,
    MetabValueTokenizer,
)


class TestMetabolomicsModality(ModalitySuite):
    def create(self, **arguments: Any) -> MetabolomicsModality:
        return MetabolomicsModality(**arguments)


class TestMetabRankTokenizer(TokenizerSuite):
    tags = frozenset({"fit"})

    def create(self, **arguments: Any) -> MetabRankTokenizer:
        return MetabRankTokenizer(**arguments)


class TestMetabBinTokenizer(TokenizerSuite):
    tags = frozenset({"fit"})

    def create(self, **arguments: Any) -> MetabBinTokenizer:
        return MetabBinTokenizer(**arguments)


class TestMetabValueTokenizer(TokenizerSuite):
    tags = frozenset({"fit", "decode"})

    def create(self, **arguments: Any) -> MetabValueTokenizer:
        return MetabValueTokenizer(**arguments)
