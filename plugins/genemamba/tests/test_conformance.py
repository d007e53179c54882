"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_genemamba import GenemambaModel

from .conftest import cells, publish


class TestGenemamba(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            return GenemambaModel.load(publish(Path(folder) / "weights", fuse="gate"))

    def data(self):
        return cells(self.n_cells)
