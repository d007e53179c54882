from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite, TokenizerSuite
from cellweave_atac import AtacModality
from cellweave_atac.tokenizers import AtacPatchTokenizer, AtacRegionTokenizer


class TestAtacModality(ModalitySuite):
    def create(self, **arguments: Any) -> AtacModality:
        return AtacModality(**arguments)


class TestPatchTokenizer(TokenizerSuite):
    tags = frozenset({"fit", "decode"})

    def create(self, **arguments: Any) -> AtacPatchTokenizer:
        return AtacPatchTokenizer(width=32, **arguments)


class TestRegionTokenizer(TokenizerSuite):
    tags = frozenset({"fit", "stochastic"})

    def create(self, **arguments: Any) -> AtacRegionTokenizer:
        return AtacRegionTokenizer(**{"max_length": 110, **arguments})
