from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite
from cellweave_protein import ProteinModality


class TestProteinModality(ModalitySuite):
    def create(self, **arguments: Any) -> ProteinModality:
        return ProteinModality(**arguments)
