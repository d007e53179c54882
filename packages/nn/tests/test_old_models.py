"""Model folders that earlier versions wrote load for ever and embed as they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cellweave_nn
from cellweave_nn.models.cell_model import load_model

FOLDERS = sorted((Path(__file__).parent / "models").iterdir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_an_old_folder_embeds_as_it_did(folder, adata):
    found = load_model(folder / "model").embed(adata[:6].copy()).values
    # Eight and sixteen bits round what the last bits of a product decide.
    rough = folder.name.endswith(("int8", "bf16"))
    np.testing.assert_allclose(
        found, np.load(folder / "expected.npy"), atol=0.05 if rough else 1e-5
    )


def test_this_version_has_folders_too():
    """Run ``make_models.py`` once for a new version, and never touch what it wrote."""
    version = cellweave_nn.__version__
    kinds = {f.name.removeprefix(f"{version}-") for f in FOLDERS if f.name.startswith(version)}
    assert {"transformer", "state_space", "int8", "bf16", "pruned"} <= kinds
