"""scMODAL against the integrator's contract."""

from __future__ import annotations

from typing import Any

from cellweave.testing import IntegratorSuite
from cellweave_scmodal._plugin import cellweave_integrators
from cellweave_scmodal.integrator import ScmodalIntegrator

(SPEC,) = cellweave_integrators()


class TestScmodal(IntegratorSuite):
    tags = SPEC.tags
    n_cells = 180

    def create(self, **arguments: Any) -> ScmodalIntegrator:
        small = {"n_steps": 300, "n_hidden": 64, "n_discriminator": 32, "batch_size": 120}
        return ScmodalIntegrator(**{**small, **arguments})
