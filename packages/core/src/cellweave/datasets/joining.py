"""Put modalities into one MuData."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

from cellweave.joins import without_pulling

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["joined"]


def joined(parts: dict[str, AnnData], uns: dict[str, Any]) -> MuData:
    """Return a MuData of ``parts`` that copies no column of theirs to its own tables."""
    import mudata

    # MuData draws names of temporary columns from the global generator; put it back.
    drawn = random.getstate()
    with warnings.catch_warnings(), without_pulling():
        # A spatial panel and an RNA library name the same genes; that is how they are linked.
        warnings.filterwarnings("ignore", message="var_names are not unique")
        mdata = mudata.MuData(parts)
    random.setstate(drawn)
    mdata.uns.update(uns)
    return mdata
