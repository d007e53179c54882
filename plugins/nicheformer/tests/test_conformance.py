"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_nicheformer import NicheformerModel

from .conftest import cells, publish


class TestNicheformer(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            return NicheformerModel.load(publish(Path(folder)))

    def data(self):
        return cells(self.n_cells)
