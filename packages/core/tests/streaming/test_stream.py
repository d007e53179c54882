"""The stream: every cell once, any batch without replay, damage named, tokens as from memory."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, IntegrityError, UnreadableFileError
from cellweave.storage import verify
from cellweave.streaming import (
    BlockOrder,
    CellFiles,
    CellStore,
    CellStream,
    build_store,
    shuffle_quality,
)
from cellweave.tokenizing import RankTokenizer


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    counts = sp.random(300, 120, density=0.3, format="csr", random_state=rng)
    counts.data = rng.integers(1, 400, counts.nnz).astype(np.float32)
    made = anndata.AnnData(sp.csr_matrix(counts, dtype=np.float32))
    made.obs_names = [f"cell-{i:03}" for i in range(300)]
    made.var_names = [f"g{i}" for i in range(120)]
    made.obs["batch"] = np.where(np.arange(300) < 130, "a", "b")
    return made


@pytest.fixture(scope="module")
def paths(cells, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    turned = np.random.default_rng(1).permutation(120)[:100]
    cells[:110].copy().write_h5ad(folder / "one.h5ad")
    cells[110:, turned].copy().write_h5ad(folder / "two.h5ad")
    return [folder / "one.h5ad", folder / "two.h5ad"]


@pytest.fixture(scope="module")
def truth(cells, paths):
    """What the files hold, aligned to all genes by plain look-ups."""
    dense = np.zeros((300, 120), dtype=np.float32)
    dense[:110] = cells[:110].X.toarray()
    second = anndata.read_h5ad(paths[1])
    for j, name in enumerate(second.var_names):
        dense[110:, int(name[1:])] = second.X[:, j].toarray().ravel()
    return dense


@pytest.fixture(scope="module")
def store(cells, paths, tmp_path_factory):
    out = tmp_path_factory.mktemp("store") / "cells"
    return build_store(paths, out, features=list(cells.var_names), obs=["batch"])


@pytest.mark.parametrize("n", [1, 7, 64, 101, 1000])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("block", [1, 8, 64])
def test_every_cell_once_and_every_position_reachable(n, ranks, block):
    everyone = []
    for rank in range(ranks):
        order = BlockOrder(
            n_cells=n, block=block, blocks_per_window=4, rank=rank, n_ranks=ranks, seed=1, epoch=2
        )
        whole = order.cells(0, len(order))
        assert len(whole) == len(order)
        for start in {0, len(order) // 3, max(len(order) - 1, 0)}:
            assert np.array_equal(order.cells(start, start + 9), whole[start : start + 9])
        everyone.append(whole)
    assert np.array_equal(np.sort(np.concatenate(everyone)), np.arange(n))


def test_seed_and_epoch_change_the_order():
    orders = [
        BlockOrder(n_cells=500, block=4, blocks_per_window=8, seed=s, epoch=e).cells(0, 500)
        for s, e in ((0, 0), (0, 1), (1, 0))
    ]
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_blocks_are_permuted_evenly():
    first = np.zeros(50)
    for seed in range(2000):
        order = BlockOrder(n_cells=50, block=1, blocks_per_window=1, seed=seed)
        first[order.window_blocks(0)[0]] += 1
    assert abs(first - 40).max() < 6 * np.sqrt(40)


@pytest.mark.parametrize("kind", ["files", "store"])
def test_batches_hold_what_the_files_hold(kind, cells, paths, truth, store):
    files = CellFiles(paths, features=list(cells.var_names), obs=["batch"])
    stream = CellStream(
        files if kind == "files" else store, batch_size=32, block=8, blocks_per_window=4
    )
    seen = []
    for batch in stream.batches(epoch=1):
        assert np.array_equal(batch.matrix.toarray(), truth[batch.cells])
        assert np.array_equal(batch.names, cells.obs_names[batch.cells])
        found = batch.obs("batch")["batch"].astype(str).to_numpy()
        assert np.array_equal(found, cells.obs["batch"].astype(str).to_numpy()[batch.cells])
        seen.append(batch.cells)
    assert np.array_equal(np.sort(np.concatenate(seen)), np.arange(300))
    again = stream.batch(5, epoch=1)
    assert np.array_equal(again.cells, seen[5])
    assert np.array_equal(again.matrix.toarray(), truth[seen[5]])
    rest = [batch.cells.copy() for batch in stream.batches(epoch=1, start=7)]
    assert all(np.array_equal(a, b) for a, b in zip(rest, seen[7:], strict=True))


def test_union_of_features_when_none_are_given(paths):
    with CellFiles(paths[::-1]) as files:
        assert len(files.features) == 120
        assert files.n_cells == 300


def test_zarr_is_read_like_h5ad(cells, paths, truth, tmp_path):
    anndata.read_h5ad(paths[1]).write_zarr(tmp_path / "two.zarr")
    files = CellFiles([paths[0], tmp_path / "two.zarr"], features=list(cells.var_names))
    batch = CellStream(files, batch_size=300, shuffle=False).batch(0)
    assert np.array_equal(batch.matrix.toarray(), truth)


def test_equal_steps_for_every_rank(store):
    streams = [
        CellStream(store, batch_size=16, block=8, rank=r, n_ranks=3, equal_steps=True)
        for r in range(3)
    ]
    counts = [len(list(s.batches())) for s in streams]
    assert len(set(counts)) == 1
    assert counts[0] == streams[0].n_batches()


def test_tokens_equal_those_made_in_memory(cells, truth, store):
    whole = anndata.AnnData(sp.csr_matrix(truth), obs=cells.obs, var=cells.var)
    tokenizer = RankTokenizer(max_length=20, overflow="sample").fit(whole)
    expected = tokenizer.encode(whole)
    for tokens in CellStream(store, batch_size=64, block=8).tokens(tokenizer):
        rows = whole.obs_names.get_indexer(tokens.obs_names)
        assert np.array_equal(tokens.ids, expected.take(rows).ids)


def test_store_is_vouched_for_and_a_flipped_bit_is_found(store, tmp_path):
    import shutil

    assert verify(store.path) == []
    shutil.copytree(store.path, tmp_path / "copy")
    file = tmp_path / "copy" / "values.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    CellStore(tmp_path / "copy")
    with pytest.raises(IntegrityError, match=r"values\.bin"):
        CellStore(tmp_path / "copy", verify=True)


def test_a_short_store_is_named(store, tmp_path):
    import shutil

    shutil.copytree(store.path, tmp_path / "copy")
    file = tmp_path / "copy" / "indices.bin"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=r"indices\.bin has \d+ bytes, expected"):
        CellStore(tmp_path / "copy")


def test_damaged_files_are_named(paths, tmp_path):
    broken = tmp_path / "broken.h5ad"
    broken.write_bytes(paths[0].read_bytes()[:3000])
    with pytest.raises(UnreadableFileError, match=r"broken\.h5ad.* cannot be read as cells"):
        CellFiles([paths[0], broken])


def test_dense_files_are_refused_with_the_cure(cells, tmp_path):
    dense = anndata.AnnData(cells.X.toarray(), obs=cells.obs, var=cells.var)
    dense.write_h5ad(tmp_path / "dense.h5ad")
    with pytest.raises(DataError, match=r"Rewrite it"):
        CellFiles([tmp_path / "dense.h5ad"])


def test_bad_indices_in_a_file_are_named_by_cell(cells, tmp_path):
    import h5py

    cells.copy().write_h5ad(tmp_path / "bad.h5ad")
    with h5py.File(tmp_path / "bad.h5ad", "a") as file:
        file["X/indices"][5] = 10_000
    stream = CellStream(CellFiles([tmp_path / "bad.h5ad"]), batch_size=300)
    with pytest.raises(UnreadableFileError, match=r"cells \d+ to \d+ point outside"):
        list(stream.batches())


def test_foreign_vocabulary_is_refused(paths):
    with pytest.raises(DataError, match=r"shares no feature"):
        CellFiles(paths, features=["ENSG1", "ENSG2"])


def test_settings_are_checked(store):
    with pytest.raises(ConfigError, match=r"batch_size=0"):
        CellStream(store, batch_size=0)
    with pytest.raises(ConfigError, match=r"rank=3"):
        CellStream(store, rank=3, n_ranks=3)
    with pytest.raises(ConfigError, match=r"keeps no column 'batc'. Did you mean 'batch'"):
        store.codes("batc", np.arange(3))


def test_quality_rises_with_the_window():
    """A batch holds as many strata as blocks were drawn: expected entropies by plain drawing."""
    rng, n_strata = np.random.default_rng(1), 64

    def entropy(codes):
        share = np.bincount(codes, minlength=n_strata) / len(codes)
        return -(share[share > 0] * np.log(share[share > 0])).sum()

    def of_blocks(n_blocks):
        """Draw a window of blocks, all its cells, and a batch of 1024 of them."""
        blocks = rng.choice(100_000 // 64, n_blocks, replace=False)
        cells = rng.permutation((blocks[:, None] * 64 + np.arange(64)).ravel())[:1024]
        return entropy(cells * n_strata // 100_000)

    random = np.mean([entropy(rng.integers(0, n_strata, 1024)) for _ in range(200)])
    for window, blocks_in_reach in ((4, 16), (32, 32), (256, 256)):
        order = BlockOrder(n_cells=100_000, blocks_per_window=window)
        expected = np.mean([of_blocks(blocks_in_reach) for _ in range(400)]) / random
        assert abs(shuffle_quality(order, batch_size=1024) - expected) < 0.02
    # In order on disk a batch crosses a border in 65.5 % of cases, and then holds 1/2 nat.
    unmixed = BlockOrder(n_cells=100_000, shuffle=False)
    expected = 1024 * n_strata / 100_000 * 0.5 / random
    assert abs(shuffle_quality(unmixed, batch_size=1024) - expected) < 0.01


def test_an_abandoned_stream_ends_its_thread(store):
    import threading

    for batch in CellStream(store, batch_size=8, block=4, blocks_per_window=2).batches():
        assert batch.index == 0
        break
    del batch
    import gc

    gc.collect()
    assert not [t for t in threading.enumerate() if t.name == "cell-reader"]


@pytest.mark.parametrize("kind", ["same", "ascending", "turned"])
@pytest.mark.parametrize("disorder", [None, "unsorted", "zeros", "negative zero"])
def test_files_give_the_same_rows_on_every_way_of_aligning(cells, tmp_path, kind, disorder):
    data = cells[:40].copy()
    if disorder == "unsorted":
        data.X.indices[:9], data.X.data[:9] = (
            data.X.indices[8::-1].copy(),
            data.X.data[8::-1].copy(),
        )
        data.X.has_sorted_indices = False
    elif disorder:
        data.X.data[[3, 50, 51]] = 0.0 if disorder == "zeros" else -0.0
    data.write_h5ad(tmp_path / "cells.h5ad")
    names = list(cells.var_names)
    features = {"same": names, "ascending": names[1::3], "turned": names[::-2]}[kind]
    with CellFiles([tmp_path / "cells.h5ad"], features=features) as files:
        batch = CellStream(files, batch_size=40, shuffle=False, copy=True).batch(0)
    expected = data[:, features].X.toarray()
    assert np.array_equal(batch.matrix.toarray(), expected)
    assert batch.matrix.nnz == np.count_nonzero(expected)
    assert all(np.all(np.diff(row.indices) > 0) for row in batch.matrix)
