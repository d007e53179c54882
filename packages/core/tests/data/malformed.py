"""A zoo of files that must be refused: damaged, lying, or hostile. Each maker returns a path."""

import gzip
import json
import os
import pickle
import struct

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp


def small_adata(n=30, m=20, seed=0):
    rng = np.random.default_rng(seed)
    adata = ad.AnnData(
        sp.csr_matrix(rng.poisson(1.0, (n, m)).astype(np.float32)),
        obs=pd.DataFrame(
            {"cell_type": pd.Categorical(rng.choice(["a", "b"], n)), "score": rng.normal(size=n)},
            index=[f"c{i}" for i in range(n)],
        ),
        var=pd.DataFrame(index=[f"G{i}" for i in range(m)]),
    )
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["X_pca"] = rng.normal(size=(n, 3)).astype(np.float32)
    adata.uns["info"] = {"text": "x", "numbers": np.arange(3)}
    return adata


class Canary:
    """Whoever unpickles this leaves a mark."""

    def __reduce__(self):
        return (os.mkdir, (os.environ.get("CELLWEAVE_CANARY", "/nonexistent/canary"),))


PICKLE = pickle.dumps(Canary(), protocol=4)


def _h5ad(folder, change):
    path = folder / "x.h5ad"
    small_adata().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        change(file, folder)
    return path


def _replaced(file, name, values):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    for key, value in attributes.items():
        file[name].attrs[key] = value


def _set(name, at, value):
    def change(file, _):
        file[name][at] = value

    return change


def _put(name, make):
    return lambda file, folder: file.__setitem__(name, make(file, folder))


def _other_file(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.arange(5)
    return h5py.ExternalLink("other.h5", "/secret")


def _external_storage(file, folder):
    (folder / "raw.bin").write_bytes(bytes(80))
    file.create_dataset("uns/raw", (10,), "f8", external=[(str(folder / "raw.bin"), 0, 80)])


def _virtual(file, folder):
    _other_file(file, folder)
    layout = h5py.VirtualLayout((5,), "i8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (5,))
    file.create_virtual_dataset("uns/virtual", layout)


def _link_bomb(file, _):
    group = file["uns"].create_group("bomb0")
    for _i in range(1, 40):
        below = group.create_group("a")
        group["b"] = below
        group = below
    group["end"] = 1


def _deep(file, _):
    group = file["uns"]
    for _i in range(100):
        group = group.create_group("d")


def _many(file, _):
    # One tiny dataset under very many names is as many objects for a reader.
    one = file["uns"].create_dataset("one", data=1)
    for i in range(60):
        group = file["uns"].create_group(f"g{i}")
        for j in range(401):
            group[f"{j}"] = one


def _huge_shape(file, _):
    file["uns"].create_dataset("huge", (1 << 40,), "f8", chunks=(1 << 20,))


def _gzip_bomb(file, _):
    n = 1 << 28
    bomb = file["uns"].create_dataset("bomb", (16, n), "i1", chunks=(1, n), compression="gzip")
    import zlib

    packed = zlib.compress(bytes(n), 1)
    for i in range(16):
        bomb.id.write_direct_chunk((i, 0), packed)


H5AD = {
    "external_link": _put("uns/link", _other_file),
    "soft_link_cycle": _put("uns/again", lambda *_: h5py.SoftLink("/uns")),
    "hard_link_cycle": lambda file, _: file["uns"].__setitem__("again", file["/"]),
    "dangling_link": _put("uns/none", lambda *_: h5py.SoftLink("/nowhere")),
    "link_bomb": _link_bomb,
    "external_storage": _external_storage,
    "virtual_dataset": _virtual,
    "huge_shape": _huge_shape,
    "gzip_bomb": _gzip_bomb,
    "deep": _deep,
    "many_objects": _many,
    "opaque_pickle": _put("uns/p", lambda *_: np.void(PICKLE)),
    "bytes_pickle": _put("uns/p", lambda *_: np.bytes_(PICKLE)),
    "pickle_in_attribute": lambda file, _: file["uns"].attrs.__setitem__("p", np.void(PICKLE)),
    "vlen_bytes_pickle": lambda file, _: file["uns"].create_dataset(
        "p", data=[PICKLE.replace(b"\0", b"\1")], dtype=h5py.string_dtype("ascii")
    ),
    "named_type": _put("uns/t", lambda *_: np.dtype("f8")),
    "index_too_large": _set("X/indices", 0, 1000),
    "index_negative": _set("X/indices", 0, -1),
    "layer_index_too_large": _set("layers/counts/indices", 0, 1 << 30),
    "indptr_falls": _set("X/indptr", 3, 0),
    "indptr_beyond": _set("X/indptr", -1, 10_000),
    "indptr_short": lambda f, _: _replaced(f, "X/indptr", f["X/indptr"][:-2]),
    "data_short": lambda f, _: _replaced(f, "X/data", f["X/data"][:-2]),
    "no_indices": lambda f, _: f["X"].__delitem__("indices"),
    "shape_attribute": lambda f, _: f["X"].attrs.__setitem__("shape", [1 << 50, 3]),
    "shape_negative": lambda f, _: f["X"].attrs.__setitem__("shape", [-3, 20]),
    "future_version": lambda f, _: f["X"].attrs.__setitem__("encoding-version", "99.0.0"),
    "unknown_type": lambda f, _: f["X"].attrs.__setitem__("encoding-type", "os.system"),
    "type_is_number": lambda f, _: f["X"].attrs.__setitem__("encoding-type", 3),
    "no_obs_index": lambda f, _: f["obs"].__delitem__("_index"),
    "index_attribute": lambda f, _: f["obs"].attrs.__setitem__("_index", "nowhere"),
    "obs_column_short": lambda f, _: _replaced(f, "obs/score", f["obs/score"][:-3]),
    "obs_is_number": lambda f, _: _replaced(f, "obs", 3),
    "codes_beyond": _set("obs/cell_type/codes", 0, 100),
    "no_categories": lambda f, _: f["obs/cell_type"].__delitem__("categories"),
    "obsm_short": lambda f, _: _replaced(f, "obsm/X_pca", f["obsm/X_pca"][:-3]),
    "x_is_text": lambda f, _: _replaced(f, "X", "text"),
    "not_utf8": lambda f, _: _replaced(f, "obs/_index", np.array([b"\xff\xfe"] * 30)),
    "nothing_inside": lambda f, _: [f.__delitem__(k) for k in list(f)],
}


def _raw(name, data):
    def make(folder):
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def _pipe(folder):
    os.mkfifo(folder / "x.h5ad")
    return folder / "x.h5ad"


def _folder(folder):
    (folder / "x.h5ad").mkdir()
    return folder / "x.h5ad"


def _device(folder):
    (folder / "x.h5ad").symlink_to("/dev/zero")
    return folder / "x.h5ad"


FILES = {
    "empty": _raw("x.h5ad", b""),
    "empty_h5mu": _raw("x.h5mu", b""),
    "text": _raw("x.h5ad", b"cell,gene\n"),
    "csv": _raw("x.csv", b"cell,gene\n"),
    "png": _raw("x.h5ad", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    "signature_only": _raw("x.h5ad", b"\x89HDF\r\n\x1a\n"),
    "signature_and_ff": _raw("x.h5ad", b"\x89HDF\r\n\x1a\n" + b"\xff" * 4096),
    "signature_and_zeros": _raw("x.h5mu", b"\x89HDF\r\n\x1a\n" + bytes(4096)),
    "pickle": _raw("x.h5ad", PICKLE),
    "header_lies": _raw("x.h5ad", struct.pack("<Q", 10 << 30) + b"{}"),
    "pipe": _pipe,
    "folder": _folder,
    "device": _device,
    "missing": lambda folder: folder / "nowhere.h5ad",
}


def tenx_h5(path, change=lambda file: None, *, n_cells=5, n_features=4):
    counts = sp.random(n_cells, n_features, 0.5, format="csr", random_state=0)
    counts.data = np.ceil(counts.data * 5)
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"] = counts.data.astype("i4")
        group["indices"], group["indptr"] = counts.indices.astype("i8"), counts.indptr.astype("i8")
        group["shape"] = np.array([n_features, n_cells], "i4")
        group["barcodes"] = np.array([f"ACGTACGT{i}-1" for i in range(n_cells)], "S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(n_features)], "S")
        features["name"] = np.array([f"GENE{i}" for i in range(n_features)], "S")
        features["genome"] = np.array(["GRCh38"] * n_features, "S")
        features["feature_type"] = np.array(["Gene Expression"] * n_features, "S")
        change(file)
    return counts


def _tenx(change):
    def make(folder):
        tenx_h5(folder / "x.h5", change)
        return folder / "x.h5"

    return make


TENX = {
    "no_features": _tenx(lambda f: f["matrix"].__delitem__("features")),
    "no_shape": _tenx(lambda f: f["matrix"].__delitem__("shape")),
    "shape_larger": _tenx(lambda f: f["matrix/shape"].__setitem__(slice(None), [4, 2**30])),
    "shape_negative": _tenx(lambda f: f["matrix/shape"].__setitem__(slice(None), [-4, 5])),
    "shape_scalar": _tenx(lambda f: _replaced(f, "matrix/shape", 3)),
    "indices_beyond": _tenx(lambda f: f["matrix/indices"].__setitem__(0, 99)),
    "indices_negative": _tenx(lambda f: f["matrix/indices"].__setitem__(0, -1)),
    "indptr_falls": _tenx(lambda f: f["matrix/indptr"].__setitem__(2, 100)),
    "data_is_text": _tenx(lambda f: _replaced(f, "matrix/data", np.array([b"x"] * 10))),
    "barcodes_fewer": _tenx(lambda f: _replaced(f, "matrix/barcodes", np.array([b"A"]))),
    "names_fewer": _tenx(lambda f: _replaced(f, "matrix/features/name", np.array([b"A"]))),
    "names_not_utf8": _tenx(
        lambda f: _replaced(f, "matrix/features/name", np.array([b"\xff\xfe"] * 4))
    ),
}


def mtx_folder(folder, *, matrix=None, features=None, barcodes=None, zipped=True):
    matrix = (
        matrix
        if matrix is not None
        else ("%%MatrixMarket matrix coordinate integer general\n%\n3 2 3\n1 1 5\n3 1 1\n2 2 7\n")
    )
    features = (
        features
        if features is not None
        else ("ENSG1\tA\tGene Expression\nENSG2\tB\tGene Expression\nCD4\tCD4\tAntibody Capture\n")
    )
    barcodes = barcodes if barcodes is not None else "AAAC-1\nAAAG-1\n"
    parts = {"matrix.mtx": matrix, "features.tsv": features, "barcodes.tsv": barcodes}
    for name, text in parts.items():
        if text is False:
            continue
        data = text if isinstance(text, bytes) else text.encode()
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return folder


_HEAD = "%%MatrixMarket matrix coordinate integer general\n"


def _mtx(**parts):
    def make(folder):
        (folder / "m").mkdir()
        return mtx_folder(folder / "m", **parts)

    return make


def _half_gzip(folder):
    place = _mtx()(folder)
    data = (place / "matrix.mtx.gz").read_bytes()
    (place / "matrix.mtx.gz").write_bytes(data[: len(data) // 2])
    return place


MTX = {
    "more_values_promised": _mtx(matrix=_HEAD + "3 2 900000000000\n1 1 5\n"),
    "fewer_values": _mtx(matrix=_HEAD + "3 2 3\n1 1 5\n"),
    "shape_differs": _mtx(matrix=_HEAD + "3000000 2 1\n1 1 5\n"),
    "row_beyond": _mtx(matrix=_HEAD + "3 2 1\n9 1 5\n"),
    "row_zero": _mtx(matrix=_HEAD + "3 2 1\n0 1 5\n"),
    "row_negative": _mtx(matrix=_HEAD + "3 2 1\n-1 1 5\n"),
    "not_numbers": _mtx(matrix=_HEAD + "3 2 1\n1 1 five\n"),
    "no_header": _mtx(matrix="3 2 1\n1 1 5\n"),
    "only_comments": _mtx(matrix=_HEAD + "%\n" * 20_000),
    "empty": _mtx(matrix=""),
    "dense": _mtx(matrix="%%MatrixMarket matrix array real general\n3 2\n1\n2\n3\n4\n5\n6\n"),
    "complex": _mtx(matrix="%%MatrixMarket matrix coordinate complex general\n3 2 1\n1 1 5 6\n"),
    "no_features": _mtx(features=False),
    "no_barcodes": _mtx(barcodes=False),
    "features_empty": _mtx(features=""),
    "features_not_utf8": _mtx(features=b"\xff\xfe\tA\n\xff\tB\n\xff\tC\n"),
    "half_gzip": _half_gzip,
}


def _zarr(change):
    def make(folder):
        import zarr
        from anndata.io import write_elem

        place = folder / "x.zarr"
        root = zarr.open_group(str(place), mode="w", zarr_format=2)
        write_elem(root, "/", small_adata())
        change(place)
        return place

    return make


def _metadata(name, **values):
    def change(place):
        file = place / name
        known = json.loads(file.read_text())
        known.update(values)
        file.write_text(json.dumps(known))

    return change


def _text(name, text):
    return lambda place: (place / name).write_text(text)


def _linked(place):
    (place / "X" / "more").symlink_to("/etc")


def _chunk(name, data):
    return lambda place: (place / name).write_bytes(data)


ZARR = {
    "pickle_filter": _zarr(_metadata("X/indices/.zarray", filters=[{"id": "pickle"}])),
    "pickle_compressor": _zarr(_metadata("X/data/.zarray", compressor={"id": "pickle"})),
    "unknown_codec": _zarr(_metadata("X/data/.zarray", compressor={"id": "os.system"})),
    "consolidated_pickle": _zarr(
        _text(
            ".zmetadata",
            json.dumps({"metadata": {"X/data/.zarray": {"filters": [{"id": "pickle"}]}}}),
        )
    ),
    "huge_shape": _zarr(_metadata("X/data/.zarray", shape=[1 << 45])),
    "shape_is_text": _zarr(_metadata("X/data/.zarray", shape=["a"])),
    "no_json": _zarr(_text("X/.zattrs", "{")),
    "deep_json": _zarr(_text("X/.zattrs", "[" * 100_000)),
    "link": _zarr(_linked),
    "chunk_garbage": _zarr(_chunk("X/data/0", b"\xff" * 50)),
    "chunk_empty": _zarr(_chunk("X/indices/0", b"")),
    "no_group": _zarr(_text(".zgroup", "")),
    "future_encoding": _zarr(
        _text("X/.zattrs", json.dumps({"encoding-type": "csr_matrix", "encoding-version": "9"}))
    ),
    "dtype_object": _zarr(_metadata("X/data/.zarray", dtype="|O")),
}


def all_cases():
    """Yield a name and a maker that takes an empty folder, for every malformed input."""
    for name, make in FILES.items():
        yield f"file-{name}", make
    for name, change in H5AD.items():
        yield f"h5ad-{name}", lambda folder, change=change: _h5ad(folder, change)
    for kind, makers in (("tenx", TENX), ("mtx", MTX), ("zarr", ZARR)):
        for name, make in makers.items():
            yield f"{kind}-{name}", make
