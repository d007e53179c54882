"""Cells of like length share a batch, fewer of them where they are long."""

import numpy as np

from cellweave.records import Tokens
from cellweave_nn.checkpoints.embedding import by_length


def tokens_of(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    names = np.array([f"c{i}" for i in range(len(lengths))])
    return Tokens(offsets=offsets, ids=np.zeros(offsets[-1], dtype=np.int32), obs_names=names)


def test_long_cells_share_a_batch_with_fewer():
    lengths = np.array([5, 40_000, 3, 20_000, 9, 70_000, 20_000, 1])
    batches = list(by_length(tokens_of(lengths), 3))
    assert [b.tolist() for b in batches] == [[5], [1], [3, 6, 4], [0, 2, 7]]
    assert [b.tolist() for b in by_length(tokens_of([4, 4, 4, 4, 4]), 2)] == [[0, 1], [2, 3], [4]]
