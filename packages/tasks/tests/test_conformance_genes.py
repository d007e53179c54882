"""The tasks on genes, sets, drugs, edits and surroundings against the contract."""

from __future__ import annotations

import pandas as pd
import pytest

from cellweave.testing import TaskSuite
from cellweave_tasks.drug import DrugTask
from cellweave_tasks.genesets import GeneSetTask
from cellweave_tasks.insilico import InSilicoTask
from cellweave_tasks.neighbourhood import NeighbourhoodTask
from cellweave_tasks.networks import NetworkTask
from cellweave_tasks.splits import by_fraction

from .hand_made_model import hand_model, two_states
from .test_drug import pairs
from .test_genesets import SETS, labelled
from .test_neighbourhood import niches
from .test_networks import N_TARGETS, regulated


class TestNeighbourhood(TaskSuite):
    def create(self, **arguments):
        return NeighbourhoodTask(**arguments)

    def train_data(self):
        return niches(n=200)

    def held_out_data(self):
        return niches(n=200, seed=1)


class TestNetworks(TaskSuite):
    tags = frozenset({"features"})

    @pytest.fixture(autouse=True)
    def _network(self, tmp_path):
        path = tmp_path / "links.csv"
        links = [(f"r{i // 6}", f"t{i}") for i in range(N_TARGETS)]
        pd.DataFrame(links, columns=["source", "target"]).to_csv(path, index=False)
        self.network = str(path)

    def create(self, **arguments):
        return NetworkTask(**{"network": self.network, "method": "partial"} | arguments)

    def train_data(self):
        return regulated(n=120)

    def held_out_data(self):
        return regulated(n=120, seed=1)


class TestGeneSets(TaskSuite):
    tags = frozenset({"labels"})

    def create(self, **arguments):
        return GeneSetTask(**{"gene_sets": SETS, "method": "linear"} | arguments)

    def train_data(self):
        # The suite fits on the first half too: types must not stand in blocks.
        cells = labelled(n=30)
        return cells[[*range(0, 90, 2), *range(1, 90, 2)]].copy()

    def held_out_data(self):
        return labelled(seed=1, n=30)


class TestDrug(TaskSuite):
    truth_columns = ("response",)

    def create(self, **arguments):
        return DrugTask(**arguments)

    def train_data(self):
        cells = pairs()
        return cells[by_fraction(cells.n_obs, test_fraction=0.3).train].copy()

    def held_out_data(self):
        cells = pairs()
        return cells[by_fraction(cells.n_obs, test_fraction=0.3).test].copy()


class TestInSilico(TaskSuite):
    tags = frozenset({"features", "needs_truth"})

    def create(self, **arguments):
        given = {"model": hand_model(), "start": "start", "goal": "goal"}
        return InSilicoTask(**given | arguments)

    def train_data(self):
        cells = two_states(n=30)
        return cells[[*range(0, 60, 2), *range(1, 60, 2)]].copy()

    def held_out_data(self):
        return two_states(seed=1, n=30)
