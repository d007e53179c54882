"""Limits of unknown cells: conformal coverage, types, and what a new technology adds."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave_tasks.novelty import Limits, conformal_limit


def test_a_new_cell_exceeds_the_limit_as_rarely_as_asked():
    rng = np.random.default_rng(0)
    above = [rng.gamma(3) > conformal_limit(rng.gamma(3, size=39), 0.1) for _ in range(4000)]
    assert np.mean(above) == pytest.approx(0.1, abs=0.02)
    assert np.mean(above) < 0.12
    assert conformal_limit(np.arange(1.0, 20.0), 0.05) == 19  # the 19th of 19
    assert conformal_limit(np.zeros(0), 0.05) == np.inf


def test_types_have_their_own_limits_and_rare_ones_share():
    rng = np.random.default_rng(0)
    novelty = np.concatenate([rng.uniform(0, 1, 500), rng.uniform(0, 5, 500), [0.5, 0.6]])
    said = np.repeat([0, 1, 2], [500, 500, 2])
    limits = Limits.calibrated(novelty, said, 3, 0.05)
    assert limits.by_type == pytest.approx([0.95, 4.75, 4.5], abs=0.1)
    assert np.isnan(limits.middle[2])


def planted(seed=0):
    rng = np.random.default_rng(seed)
    said = np.repeat([0, 1, 2], 200)
    return said, np.sqrt(rng.chisquare(8, 600))


def test_a_shift_of_every_cell_widens_and_unseen_types_of_one_label_do_not():
    said, novelty = planted()
    limits = Limits.calibrated(novelty, said, 3, 0.05)
    _, again = planted(seed=1)
    assert limits.shift(again, said) < 1
    shifted = np.sqrt(again**2 + 60)
    assert limits.shift(shifted, said) == pytest.approx(60, abs=1.5)
    assert (shifted > limits.of(shifted, said)).mean() == pytest.approx(0.05, abs=0.04)
    assert (shifted > limits.of(shifted, said, widened=False)).mean() == 1
    unseen = again.copy()
    unseen[said == 2] += 10
    assert (unseen > limits.of(unseen, said))[said == 2].mean() > 0.99
    assert limits.shift(unseen, said) < 1.5


def test_nothing_is_known_of_a_shift_from_few_cells_or_one_type():
    said, novelty = planted()
    limits = Limits.calibrated(novelty, said, 3, 0.05)
    assert limits.shift(novelty[:200] + 9, said[:200]) == 0
    some = np.concatenate([np.arange(10), np.arange(200, 210)])
    assert limits.shift(novelty[some] + 9, said[some]) == 0


def test_limits_never_shrink_and_none_flags_none():
    said, novelty = planted()
    limits = Limits.calibrated(novelty, said, 3, 0.05)
    assert (limits.of(novelty / 4, said) == limits.by_type[said]).all()
    assert (novelty <= Limits.none(3).of(novelty, said)).all()
