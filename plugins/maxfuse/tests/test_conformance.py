"""MaxFuse against the integrator's contract."""

from __future__ import annotations

from typing import Any

from cellweave.testing import IntegratorSuite
from cellweave_maxfuse import MaxFuse
from cellweave_maxfuse._plugin import cellweave_integrators

(SPEC,) = cellweave_integrators()


class TestMaxFuseRnaAtac(IntegratorSuite):
    tags = SPEC.tags
    n_cells = 200

    def create(self, **arguments: Any) -> MaxFuse:
        return MaxFuse(**arguments)


class TestMaxFuseRnaProtein(TestMaxFuseRnaAtac):
    modalities = ("rna", "prot")
