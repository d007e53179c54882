from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, MissingDependencyError, UnreadableFileError
from cellweave.records import LinkRequest
from cellweave_spatial import SpatialModality, link_features, read_through_spatialdata


@pytest.mark.parametrize("header", [True, False])
def test_reads_a_visium_folder(tmp_path, header, folders):
    counts = folders.write_visium(tmp_path, header=header)
    adata = SpatialModality().read(tmp_path)
    assert adata.obs_names.tolist() == ["BC0-1", "BC1-1", "BC3-1", "BC4-1"]
    np.testing.assert_array_equal(adata.X.toarray(), counts.toarray()[[0, 1, 3, 4]])
    assert adata.obsm["spatial"][2].tolist() == [60, 30]
    slide = next(iter(adata.uns["spatial"].values()))
    assert slide["images"]["hires"].shape == (8, 9, 3)
    assert slide["scalefactors"] == {"tissue_hires_scalef": 0.5}


def test_damaged_folders_are_named(tmp_path, folders):
    with pytest.raises(UnreadableFileError, match="of no known technology"):
        SpatialModality().read(tmp_path)
    folders.write_visium(tmp_path, header=True)
    (tmp_path / "spatial" / "tissue_hires_image.png").write_bytes(b"not an image")
    with pytest.raises(UnreadableFileError, match=r"tissue_hires_image\.png"):
        SpatialModality().read(tmp_path)
    (tmp_path / "spatial" / "tissue_hires_image.png").unlink()
    (tmp_path / "spatial" / "scalefactors_json.json").write_text("[1")
    with pytest.raises(UnreadableFileError, match=r"scalefactors_json\.json"):
        SpatialModality().read(tmp_path)
    (tmp_path / "filtered_feature_bc_matrix.h5").write_bytes(b"x" * 99)
    with pytest.raises(UnreadableFileError, match=r"filtered_feature_bc_matrix\.h5"):
        SpatialModality().read(tmp_path)


def test_other_technologies_need_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'cellweave-spatial\[io\]'"):
        read_through_spatialdata(tmp_path, "stereoseq")


def genes(names, **columns):
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        sp.csr_matrix(rng.poisson(2, (30, len(names))).astype("f4")),
        var=pd.DataFrame(columns, index=names),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(30)]),
    )
    adata.obsm["spatial"] = rng.uniform(0, 9, (30, 2))
    return adata


def test_many_genes_are_narrowed_and_slides_told_apart():
    adata = genes([f"g{i}" for i in range(60)])
    adata.obs["slide"] = ["a", "b", "c"] * 10
    settings = {"n_top_genes": 20, "library_key": "slide", "technology": "MERSCOPE"}
    ready = SpatialModality().prepare(adata, settings=settings).adata
    assert ready.var["highly_variable"].sum() == 20
    assert set(ready.obs["technology"]) == {"merfish"}
    rows, cols = ready.obsp["spatial_connectivities"].nonzero()
    assert ((rows - cols) % 3 == 0).all()
    counts = adata.X.toarray().astype(float)
    expected = np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(ready.X.toarray(), expected, rtol=1e-5)
    with pytest.raises(ConfigError, match="Unknown technology 'microscope'"):
        SpatialModality().prepare(adata, settings={"technology": "microscope"})


def test_values_divided_by_volume_or_logged_are_prepared_once_said_so():
    adata = genes([f"g{i}" for i in range(10)])
    modality = SpatialModality()
    plain = modality.prepare(adata).adata
    divided = adata.copy()
    divided.X = sp.diags_array(np.linspace(0.1, 0.9, 30)).tocsr().astype("f4") @ adata.X
    with pytest.raises(DataError, match=r"not a whole number.*--set spatial\.values=log1p"):
        modality.prepare(divided)
    again = modality.prepare(divided, settings={"values": "normalised"}).adata
    np.testing.assert_allclose(again.X.toarray(), plain.X.toarray(), atol=1e-5)
    logs = adata.copy()
    logs.X = plain.X
    kept = modality.prepare(logs, settings={"values": "log1p"}).adata
    assert abs(kept.X - plain.X).max() == 0


def test_guess_leaves_masses_and_regions_alone():
    modality = SpatialModality()
    assert modality.guess(genes(["GAPDH", "ACTB"])) == 1
    assert modality.guess(genes(["mz-426.92", "mz-431.03"])) == 0
    assert modality.guess(genes(["chr1:1-20", "chr1:30-40"])) == 0
    plain = genes(["GAPDH"])
    del plain.obsm["spatial"]
    assert modality.guess(plain) == 0


def test_links_by_gene():
    request = LinkRequest(
        source="rna",
        target="spatial",
        source_data=genes(["GAPDH", "CD4"]),
        target_data=genes(["ENSG1", "ENSG2"], symbol=["CD4", "X"]),
    )
    links = link_features(request)
    assert links.to_frame()[["source", "target"]].to_numpy().tolist() == [["CD4", "ENSG1"]]
    none = LinkRequest(
        source="rna", target="spatial", source_data=genes(["A"]), target_data=genes(["B"])
    )
    with pytest.raises(DataError, match="share no gene: 'A', 'B'"):
        link_features(none)
