"""Small data shared by the tests."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.datasets import hide_pairing, simulate, true_links
from cellweave.datasets.joining import joined
from cellweave_glue import GlueIntegrator


def _quick(**arguments):
    settings = {
        "n_latent": 8,
        "n_hidden": 32,
        "progress": 0.03,
        "min_epochs": 2,
        "batch_size": 64,
        "feature_floor": 300,
    }
    return GlueIntegrator(**{**settings, **arguments})


@pytest.fixture(scope="session")
def quick():
    """Make an integrator that trains for a second."""
    return _quick


@pytest.fixture(scope="session")
def subset():
    """Keep some modalities."""

    def keep(mdata, *names):
        return joined({m: mdata.mod[m].copy() for m in names}, dict(mdata.uns))

    return keep


@pytest.fixture(scope="session")
def three():
    """RNA, ATAC and proteins of one population, prepared, pairing known."""
    return simulate(
        n_cells=160,
        modalities=("rna", "atac", "prot"),
        n_types=3,
        n_genes=250,
        n_peaks=400,
        n_proteins=12,
        prepared=True,
        seed=1,
    )


@pytest.fixture(scope="session")
def three_links(three):
    return tuple(link for link in true_links(three) if len(link))


@pytest.fixture(scope="session")
def two(three, subset):
    return hide_pairing(subset(three, "rna", "atac"), seed=3)


@pytest.fixture(scope="session")
def two_links(two):
    return true_links(two)


@pytest.fixture(scope="session")
def fitted(two, two_links):
    return _quick().fit(two, two_links)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
