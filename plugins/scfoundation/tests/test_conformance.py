"""The contract of models, on tiny random weights."""

import tempfile
import warnings
from pathlib import Path

from cellweave.testing import ModelSuite
from cellweave_scfoundation import ScfoundationModel

from .conftest import cells, publish


class TestScfoundation(ModelSuite):
    def create(self):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ScfoundationModel.load(publish(Path(folder)))
            # The licence notice of saved copies is tested elsewhere.
            model.config = type(model.config).from_dict(model.config.to_dict() | {"licence": ""})
            return model

    def data(self):
        return cells(self.n_cells)
