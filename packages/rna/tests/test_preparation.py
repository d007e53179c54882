"""Preparation against scanpy's dense path and against formulas written out."""

import json

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave.records import Preparation
from cellweave_rna.modality import RnaModality
from cellweave_rna.scaling import sparse_scaled
from cellweave_rna.variable_genes import local_quadratic, standardised_variances, variable_genes


@pytest.fixture(scope="module")
def raw():
    return cellweave.datasets.simulate(n_cells=300, modalities=("rna",), seed=0)["rna"]


def test_components_are_those_of_the_dense_scaled_matrix(raw):
    import scanpy as sc

    made = RnaModality().prepare(raw, settings={"n_top_genes": 300, "n_components": 20}).adata
    dense = made[:, made.var["highly_variable"]].copy()
    dense.X = dense.X.toarray().astype(np.float64)
    sc.pp.scale(dense, max_value=10)
    # scanpy clips below only where asked; zeros never fall under −10 here.
    centred = np.clip(dense.X, -10, 10) - np.clip(dense.X, -10, 10).mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)[:20]
    found = made.obsm["X_pca"].astype(np.float64)
    # What is kept is float32: 24 bits of each score and of each of 300 loadings.
    assert np.allclose(np.linalg.norm(found, axis=0), singular, rtol=1e-6)
    rotation = made.varm["PCs"][made.var["highly_variable"]].astype(np.float64)
    bound = 2**-23 * (np.abs(centred) @ np.abs(rotation)).max()
    assert np.abs(centred @ rotation - found).max() < bound


def test_normalisation_is_scanpys(raw):
    import scanpy as sc

    made = RnaModality().prepare(raw).adata
    other = raw.copy()
    sc.pp.normalize_total(other, target_sum=1e4)
    sc.pp.log1p(other)
    assert made.X.dtype == np.float32
    assert abs(made.X - other.X).max() < 1e-5
    assert (made.layers["counts"] != raw.X).nnz == 0


def test_sparse_scaling_is_scaling():
    matrix = sp.random(60, 30, density=0.3, format="csr", random_state=0, dtype=np.float64)
    scaled, offset = sparse_scaled(matrix, clip=1.5)
    dense = matrix.toarray()
    spread = dense.std(axis=0, ddof=1)
    expected = np.clip((dense - dense.mean(axis=0)) / spread, -1.5, 1.5)
    assert np.allclose(scaled.toarray() + offset, expected)
    assert scaled.nnz == matrix.nnz


def test_standardised_variance_by_its_formula():
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(1, 2, 80), (200, 80)).astype(np.float32)
    counts[:, 0] = 3
    mean, variance = counts.mean(axis=0), counts.var(axis=0, ddof=1)
    varies = variance > 0
    fitted = local_quadratic(np.log10(mean[varies]), np.log10(variance[varies]), span=0.3)
    expected = np.zeros(80)
    for place, gene in enumerate(np.flatnonzero(varies)):
        deviation = np.sqrt(10 ** fitted[place])
        z = np.minimum(counts[:, gene], mean[gene] + deviation * np.sqrt(200)) - mean[gene]
        expected[gene] = ((z / deviation) ** 2).sum() / 199
    assert np.allclose(standardised_variances(sp.csr_matrix(counts)), expected, rtol=1e-5)


def test_smoothing_recovers_a_parabola():
    x = np.sort(np.random.default_rng(0).normal(size=500))
    y = 1 + 2 * x - 0.5 * x**2
    # A local quadratic is the parabola at every anchor, and so are cubics of value and slope.
    assert np.abs(local_quadratic(x, y, span=0.3) - y).max() < 1e-9


def test_planted_genes_are_found_within_batches():
    rng = np.random.default_rng(0)
    rate = np.tile(rng.gamma(2, 1, 500), (400, 1))
    half = np.arange(400) % 2 == 0
    rate[np.ix_(half, range(40))] *= 4  # vary within every batch
    batches = np.where(np.arange(400) < 200, "a", "b")
    rate[np.ix_(batches == "b", range(40, 200))] *= 4  # differ between batches only
    counts = sp.csr_matrix(rng.poisson(rate).astype(np.float32))
    table = variable_genes(counts, batches=batches, n_top=40)
    assert table["highly_variable"].to_numpy()[:40].mean() > 0.9
    blind = variable_genes(counts, batches=None, n_top=40)
    assert blind["highly_variable"].to_numpy()[40:200].sum() > 10


def test_record_makes_it_again(raw):
    first = RnaModality().prepare(raw, settings={"n_top_genes": 100}, seed=3)
    record = Preparation.from_json(first.adata.uns["preparation"])
    again = RnaModality().prepare(
        raw, settings=dict(record.provenance.parameters), seed=record.provenance.seed
    )
    assert again.preparation.to_json() == first.preparation.to_json()
    assert np.array_equal(again.adata.obsm["X_pca"], first.adata.obsm["X_pca"])
    names = [step.name for step in record.steps]
    assert names == ["filter", "normalize_total", "log1p", "highly_variable_genes", "scale", "pca"]


def test_filters_say_what_they_dropped(raw):
    wide = raw.copy()
    wide.var_names = ["MT-1", "MT-2", *wide.var_names[2:]]
    dense = wide.X.tolil()
    dense[0, :] = 0
    dense[1, 0] = 10_000
    wide.X = sp.csr_matrix(dense)
    made = RnaModality().prepare(wide, settings={"min_genes": 1, "max_mito_percent": 60})
    outcome = made.preparation.steps[0].outcome
    assert (outcome["too_few_genes"], outcome["too_mitochondrial"]) == (1, 1)
    assert list(made.adata.obs_names) == list(raw.obs_names[2:])


def test_log_values_are_prepared_when_said_so(raw):
    made = RnaModality().prepare(raw).adata
    logs = anndata.AnnData(made.X, obs=made.obs, var=made.var[[]])
    again = RnaModality().prepare(logs, settings={"values": "log1p", "n_top_genes": 200}).adata
    assert int(again.var["highly_variable"].sum()) == 200
    assert abs(again.X - made.X).max() == 0


def test_divided_counts_are_prepared_like_counts_once_said_so(raw):
    divided = raw.copy()
    divided.X = raw.X.multiply(1 / raw.X.sum(axis=1)).tocsr()
    with pytest.raises(DataError, match=r"not a whole number.*values='normalised' for TPM"):
        RnaModality().prepare(divided)
    again = RnaModality().prepare(divided, settings={"values": "normalised"}).adata
    assert np.allclose(again.X.data, RnaModality().prepare(raw).adata.X.data, atol=1e-5)


def test_refusals_say_what_to_do(raw):
    modality = RnaModality()
    with pytest.raises(ConfigError, match=r"n_top_gene'.*Did you mean 'n_top_genes'"):
        modality.prepare(raw, settings={"n_top_gene": 5})
    with pytest.raises(ConfigError, match=r"no column 'btch'.*Did you mean 'batch'"):
        modality.prepare(raw, settings={"batch_key": "btch"})
    with pytest.raises(ConfigError, match=r"span=0.0, clip=-1.0"):
        modality.prepare(raw, settings={"span": 0.0, "clip": -1.0})
    empty = raw.copy()
    lil = empty.X.tolil()
    lil[4, :] = 0
    empty.X = sp.csr_matrix(lil)
    with pytest.raises(DataError, match=r"1 cells without any count.*min_genes=1"):
        modality.prepare(empty)
    with pytest.raises(DataError, match=r"left 0 of 300 cells"):
        modality.prepare(raw, settings={"min_genes": 10**6})
    halves = raw.copy()
    halves.X = halves.X * 0.5
    with pytest.raises(DataError, match=r"not a whole number"):
        modality.prepare(halves)


def test_quality_by_hand():
    counts = np.array([[5, 0, 5], [0, 0, 20], [1, 1, 0]], dtype=np.float32)
    adata = anndata.AnnData(sp.csr_matrix(counts))
    adata.var_names = ["mt-Nd1", "Actb", "Gapdh"]
    table = RnaModality().quality(adata)
    assert table["n_counts"].tolist() == [10, 20, 2]
    assert table["n_genes"].tolist() == [2, 1, 2]
    assert np.allclose(table["mito_percent"], [50, 0, 50])


def test_outliers_are_judged_within_their_batch():
    from cellweave_rna.quality import mad_outliers

    rng = np.random.default_rng(0)
    # Uniform noise reaches two median deviations. (Of normal noise one value in 1 300 lies beyond
    # the usual five, so a few of 400 may be called outliers rightly.)
    values = np.concatenate([rng.uniform(-1, 1, 200), 50 + rng.uniform(-1, 1, 200)])
    batches = np.repeat(["a", "b"], 200)
    values[5] = 50
    assert np.flatnonzero(mad_outliers(values, batches, 5.0)).tolist() == [5]
    values[7] = -4.0
    assert np.flatnonzero(mad_outliers(values, batches, 5.0)).tolist() == [5, 7]
    assert np.flatnonzero(mad_outliers(values, batches, 5.0, above_only=True)).tolist() == [5]


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_variable_genes_are_those_of_scanpy_with_loess(batch_key):
    pytest.importorskip("skmisc", reason="scanpy's seurat_v3 needs scikit-misc, a Fortran library")
    import scanpy as sc

    raw = cellweave.datasets.simulate(n_cells=800, modalities=("rna",), seed=1, batches=2)["rna"]
    theirs = sc.pp.highly_variable_genes(
        raw, n_top_genes=500, flavor="seurat_v3_paper", batch_key=batch_key, inplace=False
    )
    batches = None if batch_key is None else raw.obs[batch_key].to_numpy()
    ours = variable_genes(sp.csr_matrix(raw.X), batches=batches, n_top=500)
    both = ours["highly_variable"].to_numpy() & theirs["highly_variable"].to_numpy()
    assert both.sum() >= 0.98 * 500
    if batch_key is None:
        apart = np.corrcoef(ours["standardised_variance"], theirs["variances_norm"])[0, 1]
        assert apart > 0.999


def test_doublets_score_higher_when_planted():
    from cellweave_rna.quality import quality_of

    rng = np.random.default_rng(0)
    types = rng.gamma(0.3, 3, (2, 200))
    singles = rng.poisson(types[rng.integers(0, 2, 240)])
    doublets = rng.poisson(types[0] + types[1], (12, 200))
    adata = anndata.AnnData(sp.csr_matrix(np.vstack([singles, doublets]), dtype=np.float32))
    scores = quality_of(adata, doublets=True)["doublet_score"].to_numpy()
    assert scores[240:].mean() > 2 * scores[:240].mean()


def test_genes_are_renamed_and_the_report_is_kept(raw, tmp_path):
    few = raw[:, :6].copy()
    few.var_names = ["ENSG01", "ENSG02.3", "ENSG03", "Old4", "Nobody", "G6"]
    few.var_names = [n.replace("ENSG0", "ENSG0000000000") for n in few.var_names]
    table = tmp_path / "genes.tsv"
    ids = [f"ENSG0000000000{i}" for i in (1, 2, 3, 4, 6)]
    rows = zip(ids, ["A", "B", "A", "D", "G6"], ["", "", "", "Old4", ""])
    table.write_text("gene_id\tsymbol\talias\n" + "".join("\t".join(r) + "\n" for r in rows))
    settings = {"names": "symbol", "gene_table": str(table), "min_genes": 1}
    made = RnaModality().prepare(few, settings=settings)
    assert list(made.adata.var_names) == ["A", "B", "D", "G6"]
    told = json.loads(made.adata.uns["gene_mapping"])["symbol"]
    assert told["merged"] == {"A": ["ENSG00000000001", "ENSG00000000003"]}
    assert told["lost"] == {"Nobody": "not in the gene table"}
    assert made.preparation.steps[0].outcome == {"mapped": 5, "lost": 1, "merged": 2}
    kept = made.adata.obs_names
    both = few[kept].X[:, [0, 2]].sum(axis=1)
    assert np.array_equal(made.adata.layers["counts"][:, 0].toarray(), np.asarray(both))
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("A\ta\nB\tb\nD\td1\nD\td2\n")
    again = RnaModality().prepare(few, settings={**settings, "orthologues": str(pairs)})
    assert list(again.adata.var_names) == ["a", "b"]
    with pytest.raises(ConfigError, match=r"names='symbol' and gene_table=None"):
        RnaModality().prepare(few, settings={"names": "symbol"})


def test_outliers_and_doublets_are_dropped_when_asked(raw):
    lone = raw.copy()
    lone.X = sp.csr_matrix(lone.X)
    lone.X[7] = lone.X[7] * 60
    made = RnaModality().prepare(lone, settings={"n_mads": 5.0})
    assert lone.obs_names[7] not in made.adata.obs_names
    assert 1 <= made.preparation.steps[0].outcome["outliers"] < 15
    scored = RnaModality().prepare(raw, settings={"doublets": True}).adata
    bound = float(np.quantile(scored.obs["doublet_score"], 0.9))
    fewer = RnaModality().prepare(raw, settings={"max_doublet_score": bound})
    step = next(s for s in fewer.preparation.steps if s.name == "doublets")
    assert step.outcome["cells_dropped"] == int((scored.obs["doublet_score"] > bound).sum()) > 0
    assert fewer.adata.n_obs == raw.n_obs - step.outcome["cells_dropped"]


@pytest.mark.parametrize("part", [np.s_[:1], np.s_[:, :1]])
def test_one_cell_or_one_gene_is_refused(part):
    counts = np.random.default_rng(0).poisson(3, (20, 30)) + 1
    whole = anndata.AnnData(sp.csr_matrix(counts.astype("f4")))
    with pytest.raises(DataError, match=r"have no principal component\. Give two cells"):
        RnaModality().prepare(whole[part].copy())
