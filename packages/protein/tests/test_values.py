from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave_protein import ProteinModality, assign_hashtags, clr, dsb
from cellweave_protein.background import background_means

PANEL = ["CD3", "CD4", "CD8a", "CD45RA", "PD-1", "IgG1_control", "HTO1"]


def panel(n=80, names=PANEL, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.negative_binomial(2, 0.05, (n, len(names))).astype(np.float32)
    obs = pd.DataFrame(index=[f"c{i}" for i in range(n)])
    return ad.AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


def test_clr_by_its_closed_form():
    x = np.array([[0.0, 3.0, 10.0], [1.0, 1.0, 1.0]])
    logs = np.log1p(x)
    np.testing.assert_allclose(clr(x), logs - logs.mean(1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(clr(x, axis="features"), logs - logs.mean(0), atol=1e-6)
    expected = np.log1p(x / np.exp(logs.sum(1, keepdims=True) / 3))
    np.testing.assert_allclose(clr(sp.csr_matrix(x), axis="seurat"), expected, rtol=1e-6)


def test_controls_do_not_enter_the_mean_nor_the_components():
    data = panel()
    prepared = ProteinModality().prepare(data).adata
    markers = prepared.X[:, :5]
    np.testing.assert_allclose(markers.mean(1), 0, atol=1e-5)
    loud = data.copy()
    loud.X = loud.X.toarray() * np.r_[np.ones(5), 1000, 1000]
    again = ProteinModality().prepare(loud).adata
    np.testing.assert_array_equal(again.obsm["X_pca"], prepared.obsm["X_pca"])
    assert prepared.var["highly_variable"].tolist() == [True] * 5 + [False] * 2
    kept = ProteinModality().prepare(data, settings={"keep_controls": True}).adata
    assert kept.obsm["X_pca"].shape[1] == 7


def test_components_keep_distances():
    """With all components the PCA is a rotation: distances stay."""
    prepared = ProteinModality().prepare(panel(30)).adata
    values, scores = prepared.X[:, :5], prepared.obsm["X_pca"]
    apart = np.linalg.norm(values[:, None] - values[None], axis=2)
    np.testing.assert_allclose(
        np.linalg.norm(scores[:, None] - scores[None], axis=2), apart, atol=1e-3
    )


def test_unmatched_names_are_in_the_record():
    prepared = ProteinModality().prepare(panel(names=["CD3", "CD4", "Blob"]))
    steps = {s["name"]: s for s in json.loads(prepared.adata.uns["preparation"])["steps"]}
    assert steps["markers"]["outcome"] == {"matched": 2, "unmatched": ["Blob"]}


def test_only_controls_are_refused():
    with pytest.raises(DataError, match="All 2 features of 'prot' are controls"):
        ProteinModality().prepare(panel(names=["IgG1_control", "HTO1"]))
    with pytest.raises(ConfigError, match="normalization"):
        ProteinModality().prepare(panel(), settings={"normalization": "sqrt"})


def test_dsb_first_step_is_a_z_score_of_the_empty():
    cells, empty = panel(50), panel(300, seed=1)
    got = dsb(cells, empty[:, ::-1].copy(), denoise=False)
    noise = np.log(empty.X.toarray() + 10)
    expected = (np.log(cells.X.toarray() + 10) - noise.mean(0)) / noise.std(0, ddof=1)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_dsb_takes_the_technical_component_away():
    """A planted capture efficiency that all proteins and controls share goes."""
    rng = np.random.default_rng(0)
    n = 400
    names = [f"CD{i}" for i in (3, 4, 5, 6, 7, 8, 9, 10)] + ["IgG1_control", "IgG2a_control"]
    efficiency = rng.gamma(8, 1 / 8, n)
    base = np.full((n, 10), 20.0)
    base[: n // 2, :3] = 400
    data = ad.AnnData(
        rng.poisson(base * efficiency[:, None]).astype("f4"), var=pd.DataFrame(index=names)
    )
    empty = ad.AnnData(rng.poisson(5, (200, 10)).astype("f4"), var=pd.DataFrame(index=names))
    raw, done = dsb(data, empty, denoise=False), dsb(data, empty)

    def depends(values):
        return abs(np.corrcoef(np.log(efficiency), values[:, 6])[0, 1])

    assert depends(raw) > 0.4
    assert depends(done) < 0.5 * depends(raw)
    assert done[: n // 2, 0].mean() - done[n // 2 :, 0].mean() > 3


def test_background_means_find_the_lower_hill():
    rng = np.random.default_rng(0)
    low = rng.normal(1, 0.2, (30, 40))
    high = rng.normal(5, 0.3, (30, 15))
    np.testing.assert_allclose(background_means(np.hstack([low, high])), low.mean(1), atol=0.02)


def test_dsb_needs_the_same_panel():
    with pytest.raises(DataError, match=r"lack \['HTO1'\]"):
        dsb(panel(), panel(names=PANEL[:-1]))


def test_hashtags_find_planted_samples():
    rng = np.random.default_rng(0)
    n, tags = 300, ["HTO1", "HTO2", "HTO3"]
    truth = rng.integers(0, 3, n)
    counts = rng.poisson(8, (n, 3))
    counts[np.arange(n), truth] += rng.poisson(300, n)
    counts[:20, :2] += rng.poisson(300, (20, 2))
    data = ad.AnnData(np.hstack([counts, rng.poisson(50, (n, 2))]).astype("f4"))
    data.var_names = [*tags, "CD3", "CD4"]
    called = assign_hashtags(data)
    assert (called["assignment"][20:] == np.array(tags)[truth[20:]]).mean() > 0.98
    assert (called["assignment"][:20] == "doublet").mean() > 0.9
    with pytest.raises(DataError, match="two or more tags"):
        assign_hashtags(panel())


def test_quality_counts_controls():
    data = panel()
    table = ProteinModality().quality(data)
    np.testing.assert_allclose(table["isotype_counts"], data.X.toarray()[:, 5])
    np.testing.assert_allclose(table["total_counts"], data.X.toarray().sum(1))


def test_reads_tables_either_way(tmp_path):
    data = panel(6)
    frame = pd.DataFrame(data.X.toarray(), index=data.obs_names, columns=data.var_names)
    frame.to_csv(tmp_path / "cells.csv")
    frame.T.to_csv(tmp_path / "antibodies.tsv.gz", sep="\t")
    for name in ("cells.csv", "antibodies.tsv.gz"):
        got = ProteinModality().read(tmp_path / name)
        assert got.obs_names.tolist() == data.obs_names.tolist()
        assert (got.X != data.X).nnz == 0
    frame = frame.astype(object)
    frame.iloc[2, 3] = "x"
    frame.to_csv(tmp_path / "bad.csv")
    with pytest.raises(UnreadableFileError, match=r"Line 4, column 'CD45RA'.*holds 'x'"):
        ProteinModality().read(tmp_path / "bad.csv")


def test_guess_leaves_rna_panels_alone():
    modality = ProteinModality()
    assert modality.guess(panel()) > 0.8
    assert modality.guess(panel(names=["CD4", "CD19", "CD14", "MS4A1", "GAPDH"])) == 0
    assert modality.guess(panel(names=[f"gene{i}" for i in range(9)])) == 0
    declared = panel(names=["CD4", "CD19"])
    declared.var["feature_types"] = "Antibody Capture"
    assert modality.guess(declared) == 1
