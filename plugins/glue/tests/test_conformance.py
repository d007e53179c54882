"""GLUE keeps the contract of integrators."""

from __future__ import annotations

from cellweave.testing import IntegratorSuite
from cellweave_glue import GlueIntegrator


class TestGlue(IntegratorSuite):
    tags = frozenset({"save", "transform"})
    n_cells = 120

    def create(self, **arguments):
        small = {"n_latent": 8, "n_hidden": 32, "progress": 0.04, "min_epochs": 2, "batch_size": 64}
        return GlueIntegrator(**{**small, **arguments})
