from __future__ import annotations

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.linking import read_gene_table
from cellweave_atac import AtacModality, gene_activity, lsi, tf_idf


@pytest.fixture
def peaks():
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.7, (40, 60)).astype(np.float32)
    counts[3] = 0
    counts[:, 5] = 0
    names = [f"chr{1 + i % 3}:{1000 * i + 100}-{1000 * i + 600}" for i in range(60)]
    obs = pd.DataFrame(index=[f"c{i}" for i in range(40)])
    return ad.AnnData(X=sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=names))


def plain_glue(x):
    x = x.astype(float)
    out = np.zeros_like(x)
    for i in range(len(x)):
        if x[i].sum() == 0:
            continue
        tf = x[i] / x[i].sum()
        idf = np.array([len(x) / c if c else 0 for c in x.sum(0)])
        both = tf * idf
        out[i] = np.log1p(both / both.sum() * 1e4)
    return out


def test_glue_tf_idf_equals_the_plain_telling(peaks):
    got = tf_idf(peaks.X)
    np.testing.assert_allclose(got.toarray(), plain_glue(peaks.X.toarray()), rtol=1e-5)
    assert got.dtype == np.float32


def test_muon_tf_idf_equals_muon(peaks):
    muon = pytest.importorskip("muon", reason="muon is not installed: nothing to compare with")
    theirs = peaks[np.asarray(peaks.X.sum(1)).ravel() > 0, np.asarray(peaks.X.sum(0)).ravel() > 0]
    theirs = theirs.copy()
    ours = tf_idf(theirs.X, kind="muon").toarray()
    muon.atac.pp.tfidf(theirs, scale_factor=1e4)
    np.testing.assert_allclose(ours, theirs.X.toarray(), rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("signac", lambda tf, idf: np.log1p(tf * idf * 1e4)),
        ("cusanovich", lambda tf, idf: tf * np.log1p(idf)),
    ],
)
def test_other_variants(peaks, kind, rule):
    x = peaks.X.toarray().astype(float)
    totals, columns = x.sum(1, keepdims=True), x.sum(0)
    tf = np.divide(x, totals, out=np.zeros_like(x), where=totals > 0)
    idf = np.divide(len(x), columns, out=np.zeros_like(columns), where=columns > 0)
    np.testing.assert_allclose(tf_idf(peaks.X, kind=kind).toarray(), rule(tf, idf), rtol=1e-5)


def test_lsi_spans_what_an_exact_decomposition_spans(peaks):
    values = tf_idf(peaks.X)
    got, loadings, singular = lsi(values, n_components=10)
    left, exact, _ = np.linalg.svd(values.toarray().astype(float), full_matrices=False)
    np.testing.assert_allclose(singular, exact[:10], rtol=1e-3)
    strongest = np.argmax(np.abs(loadings), axis=0)
    assert (loadings[strongest, np.arange(10)] > 0).all()
    raw = left[:, :10]
    raw = raw * np.sign((raw * got).sum(0))
    rows = np.abs(raw).sum(1) > 1e-9
    scaled = (raw - raw.mean(1, keepdims=True))[rows]
    scaled /= scaled.std(1, ddof=1, keepdims=True)
    # Signs differ between decompositions and change row means: compare up to them.
    assert np.corrcoef(np.abs(got[rows]).ravel(), np.abs(scaled).ravel())[0, 1] > 0.3
    np.testing.assert_allclose(got[rows].mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(got[rows].std(1, ddof=1), 1, rtol=1e-4)


def test_empty_cells_stay_and_are_told(peaks):
    prepared = AtacModality().prepare(peaks)
    steps = {s["name"]: s for s in json.loads(prepared.adata.uns["preparation"])["steps"]}
    assert steps["tf_idf"]["outcome"] == {"empty_cells": 1}
    assert not prepared.adata.obsm["X_lsi"][3].any()
    assert prepared.adata.var["highly_variable"].sum() == 59
    assert prepared.adata.var.loc["chr1:100-600", ["chrom", "chromStart"]].tolist() == ["chr1", 100]


def test_depth_component_goes_only_when_asked(peaks):
    rng = np.random.default_rng(1)
    deep = peaks.copy()
    deep.X = sp.csr_matrix(rng.poisson(np.geomspace(0.05, 5, 40)[:, None] * np.ones(60))).astype(
        "f4"
    )
    settings = {"scaling": "components", "n_components": 10, "tf_idf": "signac", "binarize": True}
    kept = AtacModality().prepare(deep, settings=settings).adata
    dropped = AtacModality().prepare(deep, settings={**settings, "drop_depth": True}).adata
    assert (kept.obsm["X_lsi"].shape[1], dropped.obsm["X_lsi"].shape[1]) == (10, 9)
    np.testing.assert_array_equal(kept.obsm["X_lsi"][:, 1:], dropped.obsm["X_lsi"])
    with pytest.raises(ConfigError, match="drop_depth=True needs scaling='components'"):
        AtacModality().prepare(deep, settings={"drop_depth": True})


def test_all_problems_are_told_at_once(peaks):
    spoilt = peaks.copy()
    spoilt.X = spoilt.X.astype("f4") * 0.5
    spoilt.X.data[0] = -1
    spoilt.var_names = ["same"] * 60
    with pytest.raises(DataError) as error:
        AtacModality().prepare(spoilt)
    text = str(error.value)
    assert "var_names holds 'same' more than once" in text
    assert "is negative (1 such values)" in text
    assert "is not a whole number" in text
    assert "make names unique" in text


@pytest.fixture
def genes(tmp_path):
    path = tmp_path / "genes.tsv"
    path.write_text(
        "chrom\tstart\tend\tid\tsymbol\tstrand\n"
        "chr1\t5001\t9000\tENSG00000000001\tAAA\t+\n"
        "chr2\t1001\t1500\tENSG00000000002\tBBB\t-\n"
    )
    return path


def test_gene_activity_equals_a_loop(peaks, genes):
    got = gene_activity(peaks, genes, window=4000)
    table = read_gene_table(genes).frame.set_index("symbol")
    for gene in got.var_names:
        row = table.loc[gene]
        up = (2000, 0) if row["strand"] == "+" else (0, 2000)
        start, end = max(row["start"] - up[0], 0), row["end"] + up[1]
        expected = np.zeros(40)
        for j, name in enumerate(peaks.var_names):
            chrom, _, span = name.partition(":")
            s, e = map(int, span.split("-"))
            gap = 0 if s < end and start < e else (s - end + 1 if s >= end else start - e + 1)
            if chrom == "chr" + row["chrom"] and gap <= 4000:
                expected += ((gap + 1000) / 1000) ** -0.75 * peaks.X[:, [j]].toarray().ravel()
        np.testing.assert_allclose(got[:, gene].X.toarray().ravel(), expected, rtol=1e-5)
    assert got.var.loc["AAA", "gene_id"] == "ENSG00000000001"


def test_gene_activity_without_a_peak_is_told(peaks, genes):
    far = peaks[:, [59]].copy()
    with pytest.raises(DataError, match=r"chromosomes such as|No gene has a peak within"):
        gene_activity(far, genes, window=0)


def test_guess(peaks):
    modality = AtacModality()
    assert modality.guess(peaks) == 1
    genes = ad.AnnData(np.ones((2, 2)), var=pd.DataFrame(index=["GAPDH", "ACTB"]))
    assert modality.guess(genes) == 0
    genes.var["feature_types"] = "Gene Expression"
    assert modality.guess(genes) == 0
