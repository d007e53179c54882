"""Words that stand for no label."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cellweave.labels import is_known
from cellweave.pl.colours import MISSING, palette


def test_words_for_missing_are_no_labels():
    labels = np.array(["B", "", None, np.nan, pd.NA, "Unknown", "unlabelled", " NA "], dtype=object)
    assert is_known(labels).tolist() == [True] + 7 * [False]
    assert is_known(np.array([1, 2])).all()


def test_what_is_unknown_is_grey():
    colours = palette(["B", "Undefined", "T"])
    assert colours["Undefined"] == MISSING
    assert MISSING not in (colours["B"], colours["T"])
