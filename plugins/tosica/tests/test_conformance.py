"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_tosica import TosicaModel

from .conftest import cells, publish


class TestTosica(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            return TosicaModel.load(publish(Path(folder) / "weights"))

    def data(self):
        return cells(self.n_cells)
