"""Tokens written block by block are the tokens written at once, byte for byte."""

import pytest

import cellweave
from cellweave.data import lazy
from cellweave.errors import DataError
from cellweave.tokenizing.ranks import RankTokenizer
from cellweave.tokenizing.streamed import tokenize_to_file

pytest.importorskip("dask", reason="data larger than memory need the extra 'out-of-core'")


@pytest.fixture
def both(tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "_BLOCK_BYTES", 1 << 16)
    whole = cellweave.datasets.simulate(n_cells=120, modalities=("rna",), seed=0, batches=2)["rna"]
    cellweave.write(whole, tmp_path / "x.h5ad")
    return whole, cellweave.read(f"rna={tmp_path / 'x.h5ad'}", lazily=True)["rna"]


@pytest.mark.parametrize("options", [{}, {"context": ("batch",), "start": True, "max_length": 90}])
def test_same_bytes(both, tmp_path, options):
    whole, read = both
    assert read.X.numblocks[0] > 5
    RankTokenizer(**options).fit(whole).encode(whole).save(tmp_path / "one.npz")
    made = tokenize_to_file(
        RankTokenizer(**options), lambda: lazy.blocks_of(read), tmp_path / "two.npz"
    )
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert made.cells == 120
    tokens = cellweave.records.Tokens.load(tmp_path / "two.npz")
    assert (made.tokens, made.longest) == (len(tokens.ids), tokens.lengths.max())
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_what_learns_at_once_refuses_blocks(both, tmp_path):
    class AtOnce:
        def fit(self, adata):
            return self

    with pytest.raises(DataError, match="'AtOnce' learns from all cells at once"):
        tokenize_to_file(AtOnce(), lambda: lazy.blocks_of(both[1]), tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()
