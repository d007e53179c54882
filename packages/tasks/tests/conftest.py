"""Small cells that every test of the tasks shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = os.environ.get("CELLWEAVE_DATA")
    if not folder:
        pytest.skip("CELLWEAVE_DATA names no folder of real data")
    return Path(folder)
