"""bindSC on simulated data: co-embedding of cells and features, imputation, new cells, refusals."""

from __future__ import annotations

import mudata
import numpy as np
import pytest

from cellweave.datasets import simulate, true_links
from cellweave.errors import ConfigError, DataError
from cellweave_bindsc import BindSC


@pytest.fixture(scope="module")
def fitted():
    mdata = simulate(
        n_cells=260,
        modalities=("rna", "atac"),
        n_types=3,
        n_genes=200,
        n_peaks=300,
        prepared=True,
        seed=0,
    )
    links = tuple(true_links(mdata))
    return mdata, links, BindSC().fit(mdata, links)


def test_rows_have_unit_norm_and_partners_are_near(fitted):
    mdata, _, made = fitted
    a, b = (made.result().embeddings[m] for m in ("rna", "atac"))
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
    kinds = mdata["rna"].obs["cell_type"].to_numpy(str)
    assert (kinds[(b @ a.T).argmax(1)] == kinds).mean() > 0.9


def test_features_lie_beside_the_cells_that_have_them(fitted):
    mdata, _, made = fitted
    result = made.result()
    kinds = mdata["rna"].obs["cell_type"].to_numpy(str)
    for name, adata in mdata.mod.items():
        values = np.asarray(adata.X.todense() if hasattr(adata.X, "todense") else adata.X)
        means = np.stack([values[kinds == k].mean(0) for k in np.unique(kinds)])
        marker = (means.max(0) - np.sort(means, axis=0)[-2]) / (values.std(0) + 1e-6)
        best = np.argsort(-marker)[:15]
        near = result.embeddings[name] @ result.feature_embeddings[name][best].T
        by_kind = np.stack([near[kinds == k].mean(0) for k in np.unique(kinds)])
        assert (by_kind.argmax(0) == means[:, best].argmax(0)).mean() > 0.85


def test_imputed_genes_go_with_the_hidden_ones_in_their_units(fitted):
    mdata, _, made = fitted
    variance = np.asarray(mdata["rna"].X.toarray().var(0)).ravel()
    genes = mdata["rna"].var_names[np.argsort(-variance)[:20]]
    found = made.impute(mdata, source="atac", target="rna", features=list(genes))
    truth = mdata["rna"][:, genes].X.toarray()
    correlation = [np.corrcoef(found[:, i], truth[:, i])[0, 1] for i in range(20)]
    assert np.median(correlation) > 0.3
    np.testing.assert_allclose(found.mean(0), truth.mean(0), rtol=0.15)
    assert np.all(found >= truth.min(0) - 1e-5)
    assert np.all(found <= truth.max(0) + 1e-5)


def test_imputing_an_unknown_gene_says_the_closest(fitted):
    mdata, _, made = fitted
    wrong = str(mdata["rna"].var_names[0]) + "x"
    with pytest.raises(DataError, match="No feature is called"):
        made.impute(mdata, source="atac", target="rna", features=[wrong])


def test_the_linear_way_gives_the_fitted_cells_back(fitted):
    mdata, _, made = fitted
    for name, again in made.transform(mdata).items():
        known = made.result().embeddings[name]
        assert float(np.einsum("ij,ij->i", again, known).min()) > 0.999


def test_new_cells_of_other_features_are_refused(fitted):
    mdata, _, made = fitted
    fewer = mudata.MuData({"rna": mdata["rna"][:, :50].copy()})
    with pytest.raises(DataError, match="50 features that are not the 200 fitted ones"):
        made.transform(fewer)


def test_three_modalities_are_refused():
    mdata = simulate(n_cells=60, modalities=("rna", "atac", "prot"), prepared=True, seed=0)
    with pytest.raises(DataError, match="bindSC weaves two modalities"):
        BindSC().fit(mdata, tuple(true_links(mdata)))


def test_wrong_settings_are_named_together():
    with pytest.raises(ConfigError, match=r"alpha=2: .* tolerance=0: give a positive number"):
        BindSC(alpha=2, tolerance=0)


def test_the_rule_is_reported(fitted):
    quality = fitted[2].result().quality
    assert {"alpha", "lambda", "rank", "link_agreement", "link_z"} <= set(quality)


def test_batches_are_centred(fitted):
    mdata, links, _ = fitted
    shifted = mdata.copy()
    half = np.arange(mdata["rna"].n_obs) % 2 == 0
    for adata, key in ((shifted["rna"], "X_pca"), (shifted["atac"], "X_lsi")):
        adata.obs["plate"] = np.where(half, "one", "two")
        adata.obsm[key] = adata.obsm[key] + 8 * half[:, None].astype(np.float32)
    result = BindSC(batch_key="plate").fit(shifted, links).result()
    kinds = mdata["rna"].obs["cell_type"].to_numpy(str)
    near = result.embeddings["atac"] @ result.embeddings["rna"].T
    assert (kinds[near.argmax(1)] == kinds).mean() > 0.9


def test_new_cells_on_other_axes_are_refused(fitted):
    mdata, links, _ = fitted
    new = mudata.MuData({m: a.copy() for m, a in mdata.mod.items()})
    shape = new["atac"].n_vars, new["atac"].obsm["X_lsi"].shape[1]
    new["atac"].varm["lsi_loadings"] = np.random.default_rng(0).normal(size=shape)
    made = BindSC().fit(new, links)
    made.transform(new)
    other = new["atac"]
    other.obsm["X_lsi"] = other.obsm["X_lsi"][:, ::-1].copy()  # as many columns, other axes
    other.varm["lsi_loadings"] = other.varm["lsi_loadings"][:, ::-1].copy()
    with pytest.raises(DataError, match=r"stands on other axes .*Prepare the new cells together"):
        made.transform(new)
    del other.varm["lsi_loadings"]
    with pytest.raises(DataError, match="varm has no 'lsi_loadings', so it cannot be told"):
        made.transform(new)
