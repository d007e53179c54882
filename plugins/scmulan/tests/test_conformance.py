"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_scmulan import ScmulanModel

from .conftest import cells, publish


class TestScmulan(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            return ScmulanModel.load(publish(Path(folder) / "weights"))

    def data(self):
        return cells(self.n_cells)
