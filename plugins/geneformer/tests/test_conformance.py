"""The contract of models, on tiny random weights."""

import tempfile
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_geneformer import GeneformerModel

from .conftest import cells, publish


class TestGeneformer(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            publish(path)
            return GeneformerModel.load(path)

    def data(self):
        return cells(self.n_cells)
