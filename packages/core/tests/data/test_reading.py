"""The doorway: every format into one MuData, names from the caller or the plugins."""

import importlib.util
import warnings
from pathlib import Path

import anndata as ad
import h5py
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellweave.data import inspect, read, write
from cellweave.errors import ConfigError, UnreadableFileError
from cellweave.joins import without_pulling

_spec = importlib.util.spec_from_file_location(
    "malformed", Path(__file__).with_name("malformed.py")
)
malformed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(malformed)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _mdata():
    with without_pulling():
        mdata = md.MuData(
            {"rna": malformed.small_adata(), "adt": malformed.small_adata(m=5, seed=1)}
        )
    mdata.obs["donor"] = "d1"
    return mdata


def _same(a, b):
    assert (sp.csr_matrix(a.X) != sp.csr_matrix(b.X)).nnz == 0
    pd.testing.assert_frame_equal(a.obs, b.obs, check_categorical=False)
    pd.testing.assert_frame_equal(a.var, b.var)
    for key in a.obsm:
        assert np.array_equal(a.obsm[key], b.obsm[key])


@pytest.mark.parametrize("name", ["x.h5mu", "x.zarr"])
def test_mudata_comes_back_as_it_was(name, tmp_path):
    mdata = _mdata()
    write(mdata, tmp_path / name)
    assert inspect(tmp_path / name).ok
    back = read(tmp_path / name)
    assert list(back.mod) == ["rna", "adt"]
    assert list(back.obs.columns) == ["donor"]
    for key in mdata.mod:
        _same(mdata.mod[key], back.mod[key])


@pytest.mark.parametrize("name", ["x.h5mu", "x.zarr"])
def test_mudata_itself_reads_what_we_write(name, tmp_path):
    write(_mdata(), tmp_path / name)
    reader = md.read_h5mu if name == "x.h5mu" else md.read_zarr
    assert list(reader(tmp_path / name).mod) == ["rna", "adt"]


@pytest.mark.parametrize("name", ["x.h5ad", "x.zarr"])
def test_anndata_by_name_and_by_guess(name, tmp_path):
    adata = malformed.small_adata()
    write(adata, tmp_path / name)
    for mdata in (
        read(f"spatial={tmp_path / name}"),
        read(tmp_path / name, modalities=["spatial"]),
        read(modalities={"spatial": tmp_path / name}),
        read(tmp_path / name, modalities={"spatial": tmp_path / name}),
        read(tmp_path / name, guess=lambda _: "spatial"),
    ):
        assert list(mdata.mod) == ["spatial"]
        _same(adata, mdata.mod["spatial"])


def test_a_key_inside_a_file_is_renamed(tmp_path):
    write(_mdata(), tmp_path / "x.h5mu")
    assert list(read(tmp_path / "x.h5mu", modalities={"prot": "adt"}).mod) == ["rna", "prot"]
    with pytest.raises(ConfigError, match="No file holds 'nowhere'"):
        read(tmp_path / "x.h5mu", modalities={"prot": "nowhere"})


def test_without_a_guess_the_package_and_the_way_out_are_named(tmp_path):
    adata = malformed.small_adata()
    adata.var_names = [f"ENSG{i:011d}" for i in range(adata.n_vars)]
    write(adata, tmp_path / "x.h5ad")
    with pytest.raises(ConfigError, match=r"pip install cellweave-rna; .*read\('rna=") as caught:
        read(tmp_path / "x.h5ad", guess=lambda _: None)
    assert "ENSG00000000000" in str(caught.value)


def test_the_same_modality_twice_and_wrong_numbers_of_names(tmp_path):
    write(malformed.small_adata(), tmp_path / "x.h5ad")
    path = f"rna={tmp_path / 'x.h5ad'}"
    with pytest.raises(ConfigError, match="'rna' a second time"):
        read(path, path)
    with pytest.raises(ConfigError, match="one name a path"):
        read(tmp_path / "x.h5ad", modalities=["a", "b"])
    with pytest.raises(ConfigError, match="Nothing to read"):
        read()


def test_all_missing_paths_are_told_at_once(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"a\.h5ad.*b\.h5ad"):
        read(tmp_path / "a.h5ad", tmp_path / "b.h5ad")


def test_what_we_wrote_is_never_silently_different(tmp_path):
    path = tmp_path / "x.h5ad"
    write(malformed.small_adata(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UnreadableFileError, match="not what was written"):
        read(f"rna={path}")


def test_writing_changes_nothing_of_the_callers(tmp_path):
    adata = malformed.small_adata()
    adata.obs["text"] = np.array(["x", None] * 15, dtype=object)
    before, kind = adata.obs.copy(), adata.obs["text"].dtype  # object, or pandas 3's own strings
    write(adata, tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(adata.obs, before)
    assert adata.obs["text"].dtype == kind


def test_the_ending_must_fit(tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot write a MuData to 'x\.h5ad'"):
        write(_mdata(), tmp_path / "x.h5ad")
    with pytest.raises(ConfigError, match=r"Cannot write an AnnData to 'x\.csv'"):
        write(malformed.small_adata(), tmp_path / "x.csv")


def test_cell_ranger_3(tmp_path):
    def antibody(file):
        del file["matrix/features/feature_type"]
        kinds = np.array(["Gene Expression"] * 3 + ["Antibody Capture"], "S")
        file["matrix/features/feature_type"] = kinds

    counts = malformed.tenx_h5(tmp_path / "x.h5", antibody)
    mdata = read(tmp_path / "x.h5")
    assert list(mdata.mod) == ["rna", "prot"]
    assert np.array_equal(mdata.mod["rna"].X.toarray(), counts.toarray()[:, :3])
    assert np.array_equal(mdata.mod["prot"].X.toarray(), counts.toarray()[:, 3:])
    assert mdata.mod["rna"].var["gene_ids"].iloc[0] == "ENSG00000000000"
    assert list(read(f"prot={tmp_path / 'x.h5'}").mod) == ["prot"]


def test_cell_ranger_2(tmp_path):
    counts = sp.csr_matrix(np.arange(12).reshape(4, 3))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file.create_group("hg19")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(counts, name)
        group["shape"] = [3, 4]
        group["barcodes"] = np.array([f"AAAC{i}" for i in range(4)], "S")
        group["genes"] = np.array([f"ENSG{i:011d}" for i in range(3)], "S")
        group["gene_names"] = np.array(["A", "A", "B"], "S")
    rna = read(tmp_path / "x.h5").mod["rna"]
    assert np.array_equal(rna.X.toarray(), counts.toarray())
    assert list(rna.var_names) == ["A", "A-1", "B"]
    assert rna.X.dtype == np.float32


@pytest.mark.parametrize("zipped", [True, False])
def test_matrix_market_folder(tmp_path, zipped):
    mdata = read(malformed.mtx_folder(tmp_path, zipped=zipped))
    assert mdata.mod["rna"].X.toarray().tolist() == [[5, 0], [0, 7]]
    assert mdata.mod["prot"].X.toarray().tolist() == [[1], [0]]
    assert list(mdata.mod["rna"].obs_names) == ["AAAC-1", "AAAG-1"]


def test_peaks_get_their_places(tmp_path):
    features = "chr1:10-20\tchr1:10-20\tPeaks\nchrX:5-9\tchrX:5-9\tPeaks\nA\tA\tGene Expression\n"
    atac = read(malformed.mtx_folder(tmp_path, features=features)).mod["atac"]
    assert atac.var["chrom"].tolist() == ["chr1", "chrX"]
    assert atac.var["chromEnd"].tolist() == [20, 9]


def test_a_format_of_a_modality_is_handed_to_it(tmp_path):
    class Toy:
        formats = (".toy",)

        def read(self, path):
            assert path.suffix == ".toy"
            return malformed.small_adata()

    (tmp_path / "x.toy").write_text("")
    assert list(read(tmp_path / "x.toy", readers={"toy": lambda: Toy}).mod) == ["toy"]
    with pytest.raises(UnreadableFileError, match="pip install cellweave-rna"):
        read(tmp_path / "x.toy")


_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    names=st.lists(_text, unique=True, max_size=6),
    width=st.integers(0, 4),
    labels=st.lists(st.one_of(st.none(), _text), min_size=6, max_size=6),
    dtype=st.sampled_from(["f4", "f8", "i4", "i8"]),
    dense=st.booleans(),
    name=st.sampled_from(["x.h5ad", "x.zarr"]),
)
def test_round_trip_of_anything(tmp_path_factory, names, width, labels, dtype, dense, name):
    path = tmp_path_factory.mktemp("trip") / name
    values = np.arange(len(names) * width).reshape(len(names), width).astype(dtype)
    obs = pd.DataFrame(
        {"label": pd.Categorical(labels[: len(names)])}, index=pd.Index(names, dtype=str)
    )
    adata = ad.AnnData(values if dense else sp.csr_matrix(values), obs=obs)
    write(adata, path)
    back = read(f"rna={path}").mod["rna"]
    assert list(back.obs_names) == names
    assert back.X.dtype == adata.X.dtype
    assert np.array_equal(np.asarray(back.X if dense else back.X.toarray()), values)
    assert (
        back.obs["label"].astype(object).where(back.obs["label"].notna(), None).tolist()
        == labels[: len(names)]
    )
