from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave_metabolomics import (
    MetabolomicsModality,
    fit_affine,
    ion_image,
    morans_i,
    read_feature_table,
    register,
)
from cellweave_metabolomics.preparation import normalization_factors
from cellweave_metabolomics.space import pixel_neighbours


def image(width=8, height=6, n_ions=5, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.divmod(np.arange(width * height), width)
    values = rng.gamma(2, 30, (width * height, n_ions)) * (
        rng.random((width * height, n_ions)) < 0.7
    )
    values[:, 0] = x * 10 + 1
    adata = ad.AnnData(
        sp.csr_matrix(values.astype("f4")),
        obs=pd.DataFrame(index=[f"p{i}" for i in range(width * height)]),
        var=pd.DataFrame(index=[f"mz-{100 + i}.5" for i in range(n_ions)]),
    )
    adata.obsm["spatial"] = np.column_stack([x, y]).astype(float)
    return adata


@pytest.mark.parametrize("kind", ["tic", "median", "rms"])
def test_factors_by_their_definition(kind):
    data = image()
    data.X[4] = 0
    data.X = sp.csr_matrix(data.X)
    data.X.eliminate_zeros()
    rule = {
        "tic": np.sum,
        "median": lambda row: np.median(row[row > 0]) if (row > 0).any() else 0,
        "rms": lambda row: np.sqrt(np.mean(row**2)),
    }[kind]
    expected = [rule(row) for row in data.X.toarray().astype(float)]
    np.testing.assert_allclose(normalization_factors(data.X, kind), expected, rtol=1e-6)


def test_prepared_values():
    data = image()
    ready = MetabolomicsModality().prepare(data).adata
    raw = data.X.toarray().astype(float)
    expected = np.log1p(raw / raw.sum(1, keepdims=True) * 1e4)
    np.testing.assert_allclose(ready.X.toarray(), expected, rtol=1e-5)
    assert ready.var["mz"].tolist() == [100.5, 101.5, 102.5, 103.5, 104.5]


def test_coherent_ions_are_chosen():
    data = image()
    ready = (
        MetabolomicsModality()
        .prepare(data, settings={"n_top_features": 1, "normalization": "none"})
        .adata
    )
    assert ready.var.index[ready.var["highly_variable"]].tolist() == ["mz-100.5"]


def test_smoothing_changes_components_not_values():
    data = image()
    plain, smooth = (
        MetabolomicsModality().prepare(data, settings={"smooth": n}).adata for n in (0, 8)
    )
    assert (plain.X != smooth.X).nnz == 0
    assert not np.allclose(plain.obsm["X_pca"], smooth.obsm["X_pca"])
    del data.obsm["spatial"]
    with pytest.raises(DataError, match="smooth=8 needs coordinates"):
        MetabolomicsModality().prepare(data, settings={"smooth": 8})
    with pytest.raises(ConfigError, match="min_share"):
        MetabolomicsModality().prepare(data, settings={"min_share": 2.0})


def test_morans_i_equals_the_double_sum():
    data = image(5, 4)
    graph = pixel_neighbours(data, n_neighbors=4)
    w, x = graph.toarray(), data.X.toarray().astype(float)
    np.testing.assert_array_equal(w, w.T)
    for j, got in enumerate(morans_i(data.X, graph)):
        z = x[:, j] - x[:, j].mean()
        total = sum(w[a, b] * z[a] * z[b] for a in range(20) for b in range(20))
        assert got == pytest.approx(20 / w.sum() * total / (z @ z))
    constant = sp.csr_matrix(np.ones((20, 1)))
    assert morans_i(constant, graph).tolist() == [0]


def test_ion_image_stands_as_it_lay():
    data = image()
    part = data[np.random.default_rng(0).permutation(48)[:40]].copy()
    got = ion_image(part, "mz-100.5")
    assert got.shape == (6, 8)
    assert np.isnan(got).sum() == 8
    np.testing.assert_array_equal(
        got[~np.isnan(got)], (np.arange(48) % 8 * 10 + 1)[~np.isnan(got).ravel()]
    )
    with pytest.raises(DataError, match="no feature 'mz-1'"):
        ion_image(data, "mz-1")
    part.obsm["spatial"] = np.random.default_rng(0).uniform(0, 9, (40, 2))
    with pytest.raises(DataError, match="on no grid"):
        ion_image(part, "mz-100.5")


# -- registration ----------------------------------------------------------------------------


def spots(places):
    adata = ad.AnnData(
        np.zeros((len(places), 1), "f4"),
        obs=pd.DataFrame(index=[f"s{i}" for i in range(len(places))]),
    )
    adata.obsm["spatial"] = np.asarray(places, float)
    return adata


def test_square_spots_average_the_pixels_they_cover():
    data = image()
    got = register(data, spots([[0.5, 0.5], [5.5, 3.5]]), spot_diameter=2, shape="square")
    x = data.X.toarray().reshape(6, 8, -1)
    np.testing.assert_allclose(got.X.toarray()[0], x[:2, :2].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(got.X.toarray()[1], x[3:5, 5:7].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(got.obs["covered"], 1)


def test_sums_keep_the_total():
    data = image(4, 4)
    places = [[x + 0.5, y + 0.5] for y in (0, 2) for x in (0, 2)]
    got = register(data, spots(places), spot_diameter=2, shape="square", aggregate="sum")
    np.testing.assert_allclose(got.X.toarray().sum(0), data.X.toarray().sum(0), rtol=1e-5)


def test_area_of_a_circle():
    data = image(20, 20)
    got = register(data, spots([[9.5, 9.5]]), spot_diameter=7, samples=9)
    assert got.obs["covered"].iloc[0] == pytest.approx(1, abs=0.01)
    edge = register(data, spots([[-0.5, 9.5]]), spot_diameter=7, samples=9)
    assert edge.obs["covered"].iloc[0] == pytest.approx(0.5, abs=0.02)


def test_coarse_pixels_are_shared_out():
    data = image(3, 3)
    fine = spots([[x / 2 - 0.25, y / 2 - 0.25] for y in range(6) for x in range(6)])
    got = register(data, fine, spot_diameter=0.5, shape="square", samples=6)
    expected = np.kron(data.X.toarray()[:, 1].reshape(3, 3), np.ones((2, 2)))
    np.testing.assert_allclose(got.X.toarray()[:, 1], expected.ravel(), rtol=1e-5)


def test_landmarks_give_the_map_back():
    rng = np.random.default_rng(0)
    true = np.array([[0.8, -0.6, 5.0], [0.6, 0.8, -2.0]])
    marks = rng.uniform(0, 9, (6, 2))
    found = fit_affine(marks, marks @ true[:, :2].T + true[:, 2])
    np.testing.assert_allclose(found, true, atol=1e-9)
    data = image()
    moved = spots(data.obsm["spatial"] @ true[:, :2].T + true[:, 2])
    got = register(data, moved, spot_diameter=0.4, affine=found)
    np.testing.assert_allclose(got.X.toarray(), data.X.toarray(), rtol=1e-5)
    with pytest.raises(DataError, match="form a triangle"):
        fit_affine([[0, 0], [1, 1], [2, 2]], [[0, 0], [1, 1], [2, 2]])
    with pytest.raises(DataError, match="No pixel falls on a spot"):
        register(data, spots([[1000, 1000]]), spot_diameter=1)


# -- tables ----------------------------------------------------------------------------------


def test_tables_of_cells_and_of_features(tmp_path):
    (tmp_path / "cells.csv").write_text("cell,x,y,100.5,200.25\na,1,2,5,0\nb,3,4,0,7\n")
    cells = MetabolomicsModality().read(tmp_path / "cells.csv")
    assert cells.obs_names.tolist() == ["a", "b"]
    assert cells.obsm["spatial"].tolist() == [[1, 2], [3, 4]]
    (tmp_path / "features.tsv").write_text("mz\tformula\ta\tb\n100.5\tC2H6\t5\t0\n200.25\t\t0\t7\n")
    features = read_feature_table(tmp_path / "features.tsv")
    assert (features.X != cells.X).nnz == 0
    assert features.var["formula"].tolist() == ["C2H6", ""]
    (tmp_path / "bad.csv").write_text("cell,100.5\na,many\n")
    with pytest.raises(UnreadableFileError, match=r"Line 2, column '100\.5'.*holds 'many'"):
        read_feature_table(tmp_path / "bad.csv")
    (tmp_path / "rna.csv").write_text("cell,GAPDH\na,3\n")
    with pytest.raises(UnreadableFileError, match="'GAPDH', which are no m/z"):
        MetabolomicsModality().read(tmp_path / "rna.csv")
