"""Values read by their offsets equal what the library reads, in every way of storing them."""

import os
import zlib

import anndata
import h5py
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, UnreadableFileError
from cellweave.streaming import CellFiles, CellStream
from cellweave.streaming import direct as direct_module
from cellweave.streaming.direct import stored_values

N = 1003
WAYS = {
    "in one piece": {},
    "in chunks": {"chunks": (100,)},
    "gzip": {"chunks": (100,), "compression": "gzip"},
    "shuffled gzip": {"chunks": (100,), "compression": "gzip", "shuffle": True},
    "shuffled": {"chunks": (100,), "shuffle": True},
}
BY_THE_LIBRARY = {
    "lzf": {"chunks": (100,), "compression": "lzf"},
    "checksums": {"chunks": (100,), "fletcher32": True},
    "big-endian": {"dtype": ">f4"},
}


def written(path, values, **how):
    with h5py.File(path, "w") as file:
        file.create_dataset("v", data=values, **how)
    return h5py.File(path, "r")


@pytest.fixture
def descriptor_of():
    opened = []

    def give(path):
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    yield give
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture(params=["isal", "zlib"])
def unpacker(request, monkeypatch):
    library = pytest.importorskip("isal.isal_zlib") if request.param == "isal" else zlib
    monkeypatch.setattr(direct_module, "_zlib", lambda: library)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u2"])
def test_every_range_equals_the_library(tmp_path, descriptor_of, unpacker, how, dtype):
    values = np.random.default_rng(0).integers(0, 50_000, N).astype(dtype)
    file = written(tmp_path / "a.h5", values, **WAYS[how])
    stored = stored_values(file["v"], descriptor_of(tmp_path / "a.h5"))
    for first, last in [(0, N), (0, 1), (99, 101), (100, 200), (250, 251), (990, N), (5, 5)]:
        for out_type in (dtype, "f4"):
            out = np.full(last - first, 7, dtype=out_type)
            stored.announce(first, last)
            stored.read(first, last, out)
            assert np.array_equal(out, values[first:last].astype(out_type))


@pytest.mark.parametrize("how", BY_THE_LIBRARY)
def test_other_ways_are_left_to_the_library(tmp_path, descriptor_of, how):
    file = written(tmp_path / "a.h5", np.arange(N, dtype="f4"), **BY_THE_LIBRARY[how])
    assert stored_values(file["v"], descriptor_of(tmp_path / "a.h5")) is None


def test_chunks_that_were_never_written_are_left_to_the_library(tmp_path, descriptor_of):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("v", (N,), "f4", chunks=(100,))[:100] = 1
    file = h5py.File(tmp_path / "a.h5", "r")
    assert stored_values(file["v"], descriptor_of(tmp_path / "a.h5")) is None


def test_a_chunk_that_skipped_its_filter(tmp_path, descriptor_of):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("v", (200,), "i4", chunks=(100,), compression="gzip")
        made[:100] = np.arange(100)
        made.id.write_direct_chunk((100,), np.arange(100, 200, dtype="i4").tobytes(), 1)
    file = h5py.File(tmp_path / "a.h5", "r")
    stored, out = stored_values(file["v"], descriptor_of(tmp_path / "a.h5")), np.empty(200, "i4")
    stored.read(0, 200, out)
    assert np.array_equal(out, np.arange(200))


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    counts = sp.random(400, 90, density=0.3, format="csr", random_state=rng, dtype="f4")
    counts.data = rng.integers(1, 300, counts.nnz).astype("f4")
    made = anndata.AnnData(counts)
    made.obs_names, made.var_names = [f"c{i}" for i in range(400)], [f"g{i}" for i in range(90)]
    return made


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("wide", [False, True])
def test_streams_of_any_file_give_the_same_cells(cells, tmp_path, compression, threads, wide):
    data = cells.copy()
    if wide:  # 64-bit numbers, as some writers store them
        data.X.indices, data.X.indptr = data.X.indices.astype("i8"), data.X.indptr.astype("i8")
        data.X.data = data.X.data.astype("f8")
    data.write_h5ad(tmp_path / "a.h5ad", compression=compression)
    with CellFiles([tmp_path / "a.h5ad"], threads=threads) as files:
        assert (compression == "lzf") == (files._parts[0].descriptor is None)
        stream = CellStream(files, batch_size=64, block=8, blocks_per_window=4)
        for batch in stream.batches(epoch=1):
            assert np.array_equal(batch.matrix.toarray(), cells.X[batch.cells].toarray())


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_file_cut_short_after_opening_is_named(cells, tmp_path, compression):
    path = tmp_path / "a.h5ad"
    cells.write_h5ad(path, compression=compression)
    with CellFiles([path]) as files:
        os.truncate(path, 3000)
        with pytest.raises(UnreadableFileError, match=r"a\.h5ad.*cells \d+ to \d+ cannot be read"):
            list(CellStream(files).batches())


def test_a_flipped_bit_in_a_packed_chunk_is_named(cells, tmp_path):
    path = tmp_path / "a.h5ad"
    cells.write_h5ad(path, compression="gzip")
    with CellFiles([path]) as files:
        chunk = files._parts[0].stored["data"].offsets[0] + 40
        content = bytearray(path.read_bytes())
        content[chunk] ^= 255
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match="cannot be read"):
            list(CellStream(files).batches())


def test_indices_beyond_the_type_are_refused(cells, tmp_path):
    data = cells.copy()
    data.write_h5ad(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as file:
        indices = file["X/indices"][:].astype("i8")
        indices[17] += 1 << 32  # the same column, were it cut to 32 bits
        attrs = dict(file["X"].attrs)
        del file["X/indices"]
        file["X/indices"] = indices
        file["X"].attrs.update(attrs)
    with CellFiles([tmp_path / "a.h5ad"]) as files, pytest.raises(UnreadableFileError, match="int"):
        list(CellStream(files).batches())


def test_threads_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="threads=0"):
        CellFiles([tmp_path / "a.h5ad"], threads=0)
