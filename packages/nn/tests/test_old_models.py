"""Model folders that earlier versions wrote load for ever and embed as they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellweave_nn.models.cell_model import load_model

FOLDERS = sorted((Path(__file__).parent / "models").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_old_folder_embeds_as_it_did(folder, adata):
    found = load_model(folder / "model").embed(adata[:6].copy()).values
    np.testing.assert_allclose(found, np.load(folder / "expected.npy"), atol=1e-5)
