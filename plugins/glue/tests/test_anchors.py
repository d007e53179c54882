"""Anchors against brute force."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cellweave_glue.anchors import linked_anchors, mutual_neighbours, smoothed, trusted
from cellweave_glue.inputs import InputSettings, collect


def _nearest(a, b, k):
    ua, ub = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    out = np.zeros((len(a), len(b)))
    np.put_along_axis(out, np.argsort(-(ua @ ub.T), axis=1)[:, :k], 1, 1)
    return out


def test_mutual_neighbours_equal_brute_force(rng):
    a, b = rng.normal(size=(40, 6)), rng.normal(size=(55, 6))
    expected = _nearest(a, b, 7) * _nearest(b, a, 7).T
    assert np.array_equal(mutual_neighbours(a, b, 7).toarray(), expected)


def test_smoothing_averages_over_own_neighbours(rng):
    values, points = rng.normal(size=(30, 4)), rng.normal(size=(30, 5))
    assert np.allclose(smoothed(values, points, 6), _nearest(points, points, 6) @ values / 6)
    assert np.allclose(smoothed(values, points, 1), values)


def test_trust_equals_brute_force_and_keeps_the_better_part(rng):
    a, b = rng.normal(size=(40, 3)), rng.normal(size=(50, 3))
    anchors = (rng.random((40, 50)) < 0.1).astype(float)
    ga, gb = _nearest(a, a, 8), _nearest(b, b, 8)
    agreeing = ga @ anchors @ gb.T
    forth = agreeing / np.maximum((ga @ anchors).sum(1), 1e-12)[:, None]
    back = agreeing / np.maximum((gb @ anchors.T).sum(1), 1e-12)[None, :]
    score = np.minimum(forth, back)[anchors > 0]
    kept = trusted(sp.csr_matrix(anchors), a, b, 8, share=0.3).toarray()
    assert np.array_equal(kept[anchors > 0] > 0, score >= np.quantile(score, 0.7))
    assert kept[anchors == 0].sum() == 0


def test_anchors_of_simulated_cells_join_like_with_like(two, two_links):
    settings = InputSettings(use_rep={}, likelihoods={})
    data, links, _ = collect(two, two_links, settings)
    found = linked_anchors(two, data, links, n_neighbours=10, n_smooth=15, seed=0)
    ((pair, matrix),) = found.items()
    assert pair == ("atac", "rna")
    coo = matrix.tocoo()
    types = [two.mod[m].obs["cell_type"].to_numpy() for m in pair]
    assert coo.nnz > 30
    assert np.mean(types[0][coo.row] == types[1][coo.col]) > 0.8
