"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_scgpt import ScgptModel

from .conftest import cells, publish


class TestScgpt(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            return ScgptModel.load(publish(Path(folder) / "weights"))

    def data(self):
        return cells(self.n_cells)
