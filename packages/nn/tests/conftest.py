"""Small batches that every test can make."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.records import Tokens, Vocabulary


def make_tokens(n_cells=6, n_genes=20, *, seed=0, longest=12, modalities=1):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, longest + 1, n_cells)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    ids = np.concatenate([rng.permutation(n_genes)[:n] + 3 for n in lengths]).astype(np.int32)
    modality = rng.integers(0, modalities, len(ids)).astype(np.uint8) if modalities > 1 else None
    return Tokens(
        offsets=offsets,
        ids=ids,
        obs_names=np.array([f"cell{i}" for i in range(n_cells)]),
        values=rng.gamma(2.0, 1.0, len(ids)).astype(np.float32).round(1) + 0.1,
        modality=modality,
        modalities=tuple("ab"[:modalities]) if modalities > 1 else (),
        context={
            "sample": np.arange(n_cells) % 2,
            "x": rng.random(n_cells),
            "y": rng.random(n_cells),
            "batch": np.arange(n_cells) % 2,
        },
    )


def make_vocabulary(n_genes=20):
    names = ("<pad>", "<mask>", "<cls>", *(f"g{i}" for i in range(n_genes)))
    return Vocabulary(names=names, special={"pad": 0, "mask": 1, "cls": 2})


@pytest.fixture
def tokens():
    return make_tokens()


@pytest.fixture
def batch():
    from cellweave_nn.batch import TokenBatch

    return TokenBatch.from_tokens(make_tokens(modalities=2), vocabulary=make_vocabulary())
