from __future__ import annotations

from typing import Any

from cellweave.testing import ModalitySuite
from cellweave_spatial import SpatialModality


class TestSpatialModality(ModalitySuite):
    def create(self, **arguments: Any) -> SpatialModality:
        return SpatialModality(**arguments)
