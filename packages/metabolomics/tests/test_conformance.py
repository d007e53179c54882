from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite
from cellweave_metabolomics import MetabolomicsModality


class TestMetabolomicsModality(ModalitySuite):
    def create(self, **arguments: Any) -> MetabolomicsModality:
        return MetabolomicsModality(**arguments)
