"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite

from .conftest import cells, loaded, publish


class TestUce(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            return loaded(publish(Path(folder) / "weights"))

    def data(self):
        return cells(self.n_cells)
