"""bindSC against the integrator's contract."""

from __future__ import annotations

from typing import Any

from cellweave.testing import IntegratorSuite
from cellweave_bindsc import BindSC
from cellweave_bindsc._plugin import cellweave_integrators

(SPEC,) = cellweave_integrators()


class TestBindSCRnaAtac(IntegratorSuite):
    tags = SPEC.tags
    n_cells = 200

    def create(self, **arguments: Any) -> BindSC:
        return BindSC(**arguments)


class TestBindSCRnaProtein(TestBindSCRnaAtac):
    modalities = ("rna", "prot")
