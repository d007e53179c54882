"""Simulated data are what the model says, checked without the code that made them."""

import mudata
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from cellweave.datasets import (
    SimulationDesign,
    hide_pairing,
    prepare_simulated,
    simulate,
    simulate_blocks,
    true_links,
    write_simulated,
)
from cellweave.datasets.sampling import negative_binomial
from cellweave.errors import ConfigError, DataError
from cellweave.joins import without_pulling
from cellweave.records import Preparation
from cellweave.storage import verify
from cellweave.testing.planted import majority_share, neighbour_vote

EVERY = ("rna", "atac", "prot", "spatial", "metab")
SMALL = {"n_genes": 300, "n_peaks": 400, "n_panel": 100, "n_types": 4}


@pytest.fixture(scope="module")
def every():
    return simulate(n_cells=400, modalities=EVERY, batches=2, **SMALL)


@pytest.fixture(scope="module")
def every_prepared(every):
    return prepare_simulated(every)


def same(left, right):
    return left.mod.keys() == right.mod.keys() and all(
        (left.mod[m].X != right.mod[m].X).nnz == 0
        and list(left.mod[m].obs_names) == list(right.mod[m].obs_names)
        and left.mod[m].obs.equals(right.mod[m].obs)
        for m in left.mod
    )


def test_values_are_csr_float32_with_stated_places(every):
    for modality, adata in every.mod.items():
        assert isinstance(adata.X, sp.csr_matrix)
        assert adata.X.dtype == np.float32
        assert adata.var_names.is_unique
        assert adata.X.has_canonical_format
        assert (adata.X.data > 0).all()
        if modality != "metab":
            assert (adata.X.data == np.round(adata.X.data)).all()
    assert {"chrom", "chromStart", "chromEnd", "strand"} <= set(every.mod["atac"].var)
    assert every.mod["spatial"].obsm["spatial"].shape == (400, 2)
    assert "mz" in every.mod["metab"].var
    assert every.mod["prot"].var["isotype_control"].sum() == 3


def test_depth_is_the_median_total(every):
    for modality, depth in (("rna", 2000), ("prot", 1500), ("spatial", 400)):
        median = np.median(np.asarray(every.mod[modality].X.sum(axis=1)))
        assert 0.85 < median / depth < 1.15, modality


def test_same_seed_same_values_other_seed_other_values(every):
    again = simulate(n_cells=400, modalities=EVERY, batches=2, **SMALL)
    other = simulate(n_cells=400, modalities=EVERY, batches=2, seed=1, **SMALL)
    assert same(every, again)
    assert not same(every, other)


@pytest.mark.parametrize("block_size", [1, 100, 256, 257])
def test_blocks_give_the_same_as_one_piece(block_size):
    n = 300 if block_size > 1 else 3
    design = SimulationDesign(n_cells=n, modalities=("rna", "metab"), n_genes=80, n_types=3)
    whole = next(simulate_blocks(design, block_size=n))
    parts = list(simulate_blocks(design, block_size=block_size))
    assert len(parts) == -(-n // block_size)
    for modality in ("rna", "metab"):
        joined = sp.vstack([p.mod[modality].X for p in parts])
        assert (joined != whole.mod[modality].X).nnz == 0


def test_first_cells_do_not_depend_on_how_many_follow(every):
    fewer = simulate(n_cells=130, modalities=EVERY, batches=2, **SMALL)
    for modality in EVERY:
        assert (every.mod[modality].X[:130] != fewer.mod[modality].X).nnz == 0


def test_modality_does_not_depend_on_the_others(every):
    alone = simulate(n_cells=400, modalities=("atac",), batches=2, **SMALL)
    assert (alone.mod["atac"].X != every.mod["atac"].X).nnz == 0


def test_global_state_is_left_alone(cellweave_global_state):
    simulate(n_cells=50, n_genes=50, n_peaks=60, prepared=True)


def test_types_are_found_in_every_modality(every_prepared):
    for modality, adata in every_prepared.mod.items():
        values = adata.obsm["X_lsi" if modality == "atac" else "X_pca"][:, :15]
        labels = adata.obs["cell_type"].to_numpy(dtype=str)
        vote = neighbour_vote(values, values, labels, labels, skip_self=True)
        assert vote > majority_share(labels) + 0.15, modality


def test_true_links_join_features_that_move_together():
    mdata = simulate(n_cells=600, modalities=EVERY, prepared=True, **SMALL)
    links = {(k.source, k.target): k for k in true_links(mdata)}
    assert set(links) == {(a, b) for i, a in enumerate(EVERY) for b in EVERY[i + 1 :]}
    for pair in (("rna", "atac"), ("rna", "prot"), ("rna", "spatial"), ("rna", "metab")):
        chosen = links[pair]
        left, right = (stats.zscore(_dense(mdata.mod[m].X), axis=0) for m in pair)
        correlation = np.nan_to_num(left).T @ np.nan_to_num(right) / 600
        linked = (correlation[chosen.rows, chosen.cols] * chosen.signs).mean()
        rng = np.random.default_rng(0)
        # Chance is judged on the same features with partners drawn anew.
        shuffled = [
            correlation[chosen.rows, rng.permutation(chosen.cols)].mean() for _ in range(50)
        ]
        assert linked > np.mean(shuffled) + 0.05, pair
        assert linked > np.max(shuffled), pair


def test_links_follow_features_that_were_taken_out(every):
    from cellweave.datasets.joining import joined

    fewer = joined(
        {"rna": every.mod["rna"][:, ::2].copy(), "atac": every.mod["atac"].copy()}, every.uns
    )
    full = {(a, b) for a, b in _named(true_links(every)[0])}
    kept = {(a, b) for a, b in _named(true_links(fewer)[0])}
    present = set(fewer.mod["rna"].var_names)
    assert kept == {(a, b) for a, b in full if a in present}


def test_peaks_of_a_gene_are_near_it(every):
    links = true_links(every)[0]
    genes = every.mod["rna"].var.iloc[links.rows]
    peaks = every.mod["atac"].var.iloc[links.cols]
    assert (genes["chrom"].to_numpy() == peaks["chrom"].to_numpy()).all()
    forward = genes["strand"].to_numpy() == "+"
    tss = np.where(forward, genes["chromStart"], genes["chromEnd"])
    centre = (peaks["chromStart"].to_numpy() + peaks["chromEnd"].to_numpy()) / 2
    away = np.abs(centre - tss)
    assert (away[centre > 1000] <= 141_000).all()


def test_isotypes_have_background_only(every):
    prot = every.mod["prot"]
    isotype = prot.var["isotype_control"].to_numpy()
    means = np.asarray(prot.X.mean(axis=0)).ravel()
    assert means[isotype].max() < np.median(means[~isotype])
    types = prot.obs["cell_type"].to_numpy(dtype=str)
    per_type = np.stack([np.asarray(prot.X[types == t].mean(axis=0)).ravel() for t in set(types)])
    spread = per_type.std(axis=0) / per_type.mean(axis=0)
    assert spread[isotype].max() < 0.3 < np.median(spread[~isotype])


def test_niches_have_their_own_mixture_of_types(every):
    obs = every.mod["spatial"].obs
    table = np.array([[((obs.niche == n) & (obs.cell_type == t)).sum()
                       for t in obs.cell_type.cat.categories]
                      for n in obs.niche.cat.categories])  # fmt: skip
    assert stats.chi2_contingency(table + 1e-9).pvalue < 1e-4


def test_batches_shift_features():
    shifted = simulate(
        n_cells=600, modalities=("rna",), batches=2, batch_strength=1.0, n_genes=200, n_types=2
    ).mod["rna"]
    first = (shifted.obs["batch"] == "batch0").to_numpy()
    logs = np.log1p(_dense(shifted.X))
    gap = np.abs(logs[first].mean(axis=0) - logs[~first].mean(axis=0))
    rng = np.random.default_rng(0)
    other = rng.permutation(first)
    chance = np.abs(logs[other].mean(axis=0) - logs[~other].mean(axis=0))
    assert gap.mean() > 4 * chance.mean()


def test_dropout_loses_the_stated_share():
    whole = simulate(n_cells=300, modalities=("rna",), n_genes=200)
    lossy = simulate(n_cells=300, modalities=("rna",), n_genes=200, dropout=0.3)
    share = lossy.mod["rna"].X.nnz / whole.mod["rna"].X.nnz
    assert abs(share - 0.7) < 0.01


def test_binary_atac_is_binary():
    mdata = simulate(n_cells=60, modalities=("atac",), n_genes=50, n_peaks=90, binary_atac=True)
    assert set(np.unique(mdata.mod["atac"].X.data)) == {1.0}


def test_unpaired_cells_are_different_cells():
    mdata = simulate(
        n_cells={"rna": 200, "atac": 150},
        modalities=("rna", "atac"),
        paired=False,
        absent={"atac": ("B",)},
        **SMALL,
    )
    rna, atac = mdata.mod["rna"], mdata.mod["atac"]
    assert (rna.n_obs, atac.n_obs) == (200, 150)
    assert not set(rna.obs["pairing"]) & set(atac.obs["pairing"])
    assert not set(rna.obs_names) & set(atac.obs_names)
    assert (atac.obs["cell_type"] != "B").all()
    assert (rna.obs["cell_type"] == "B").any()


def test_hidden_pairing_can_be_undone(every):
    hidden = hide_pairing(every, seed=3)
    for modality, adata in hidden.mod.items():
        back = adata[np.argsort(adata.obs["pairing"].to_numpy())]
        assert (back.X != every.mod[modality].X).nnz == 0
    assert not set(hidden.mod["rna"].obs_names) & set(hidden.mod["atac"].obs_names)
    assert list(every.mod["rna"].obs_names) == list(every.mod["atac"].obs_names)


def test_prepared_form_is_complete(every_prepared, every):
    for modality, adata in every_prepared.mod.items():
        raw = every.mod[modality]
        assert (adata.layers["counts"] != raw.X).nnz == 0
        assert adata.X.dtype == np.float32
        assert np.isfinite(adata.X.data if sp.issparse(adata.X) else adata.X).all()
        assert adata.var["highly_variable"].dtype == bool
        key = "X_lsi" if modality == "atac" else "X_pca"
        assert adata.obsm[key].dtype == np.float32
        assert np.isfinite(adata.obsm[key]).all()
        assert Preparation.from_json(adata.uns["preparation"]).modality == modality
        assert "preparation" not in raw.uns
    totals = np.expm1(_dense(every_prepared.mod["rna"].X)).sum(axis=1)
    assert np.allclose(totals, 1e4, rtol=1e-3)
    assert np.allclose(every_prepared.mod["prot"].X.sum(axis=1), 0, atol=1e-3)
    assert np.allclose(every_prepared.mod["atac"].obsm["X_lsi"].std(axis=1, ddof=1), 1, atol=1e-4)


@pytest.mark.parametrize("file_format", ["h5ad", "zarr"])
def test_written_blocks_equal_the_data(tmp_path, file_format):
    import anndata

    design = SimulationDesign(n_cells=600, modalities=("rna", "spatial"), n_genes=120, n_panel=40)
    paths = write_simulated(tmp_path / "out", design, file_format=file_format, block_size=256)
    whole = next(simulate_blocks(design, block_size=600))
    assert [p.name for p in paths] == [f"rna.{file_format}", f"spatial.{file_format}"]
    read = anndata.read_h5ad if file_format == "h5ad" else anndata.read_zarr
    for path in paths:
        adata, known = read(path), whole.mod[path.stem]
        assert (adata.X != known.X).nnz == 0
        assert list(adata.obs_names) == list(known.obs_names)
        assert list(adata.obs["cell_type"].cat.categories) == list(
            known.obs.cell_type.cat.categories
        )
        assert np.array_equal(adata.obsm["true_state"], known.obsm["true_state"])
    assert verify(tmp_path / "out") == []


@pytest.mark.filterwarnings("ignore:var_names are not unique")
def test_h5mu_keeps_the_truth(tmp_path, every):
    with without_pulling():
        every.write(tmp_path / "all.h5mu")
        back = mudata.read(tmp_path / "all.h5mu")
    assert _named(true_links(back)[0]) == _named(true_links(every)[0])


@pytest.mark.parametrize("mean", [0.05, 0.8, 6.0, 25.0, 120.0])
def test_counts_follow_the_negative_binomial(mean):
    rng = np.random.default_rng(5)
    drawn = negative_binomial(np.full((200, 200), mean, dtype=np.float32), 2.5, rng).toarray()
    law = stats.nbinom(2.5, 2.5 / (2.5 + mean))
    top = int(law.ppf(0.995)) + 1
    found = np.bincount(drawn.astype(int).ravel().clip(max=top), minlength=top + 1) / drawn.size
    expected = np.append(law.pmf(np.arange(top)), law.sf(top - 1))
    assert np.abs(found - expected).max() < 0.006
    assert abs(drawn.mean() / mean - 1) < 0.03
    assert abs(drawn.var() / law.var() - 1) < 0.08


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"modalities": ("rnaa",)}, "Did you mean 'rna'"),
        ({"modalities": ()}, "is empty"),
        ({"modalities": ("rna", "rna")}, "names one twice"),
        ({"n_cells": 0}, "`n_cells` is 0"),
        ({"dropout": 1.0}, "`dropout` is 1.0"),
        ({"n_cells": {"rna": 5}}, "`n_cells` lacks atac, prot"),
        ({"absent": {"rna": ("B",)}}, "needs `paired=False`"),
        ({"rna_depth": -1.0}, "`rna_depth` is -1.0"),
    ],
)
def test_wrong_choices_are_refused(wrong, text):
    with pytest.raises(ConfigError, match=text):
        simulate(**wrong)


def test_all_wrong_choices_are_told_at_once():
    with pytest.raises(ConfigError) as told:
        simulate(n_types=0, dropout=-1, batches=0)
    assert all(word in str(told.value) for word in ("n_types", "dropout", "batches"))


def test_links_of_other_data_are_refused(every):
    from cellweave.datasets.joining import joined

    with pytest.raises(DataError, match="true links are unknown"):
        true_links(joined({"rna": every.mod["rna"].copy()}, {}))


def _dense(values):
    return values.toarray() if sp.issparse(values) else np.asarray(values)


def _named(links):
    return list(zip(links.source_features[links.rows], links.target_features[links.cols]))
