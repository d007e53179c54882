from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite, TokenizerSuite
from cellweave_metabolomics import MetabolomicsModality
from cellweave_metabolomics.tokenizers import MetabRankTokenizer


class TestMetabolomicsModality(ModalitySuite):
    def create(self, **arguments: Any) -> MetabolomicsModality:
        return MetabolomicsModality(**arguments)


class TestMetabRankTokenizer(TokenizerSuite):
    tags = frozenset({"fit"})

    def create(self, **arguments: Any) -> MetabRankTokenizer:
        return MetabRankTokenizer(**arguments)
