"""What scMODAL gives beyond the contract: imputation, relations, trees, errors."""

from __future__ import annotations

import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.datasets import simulate, true_links
from cellweave.errors import ConfigError, DataError, NumericalError, StateMismatchError
from cellweave.records import ComponentState, FeatureLinks
from cellweave_scmodal import ScmodalIntegrator
from cellweave_scmodal.decoding import fit_feature_map
from cellweave_scmodal.inputs import spanning_pairs

SMALL = {"n_steps": 300, "n_hidden": 64, "n_discriminator": 32, "batch_size": 200}


@pytest.fixture(scope="module")
def data():
    return simulate(n_cells=300, modalities=("rna", "prot"), n_types=4, prepared=True, seed=1)


@pytest.fixture(scope="module")
def fitted(data):
    return ScmodalIntegrator(**SMALL).fit(data, true_links(data))


def test_imputed_proteins_follow_the_measured_ones(data, fitted):
    imputed = fitted.impute("rna", "prot")
    measured = data["prot"].to_df()[imputed.columns]
    assert list(imputed.index) == list(data["rna"].obs_names)
    by_feature = [np.corrcoef(imputed[c], measured[c])[0, 1] for c in imputed.columns]
    assert np.median(by_feature) > 0.4
    # In the units of X: same scale and place, not z-scores.
    assert np.allclose(imputed.mean(), measured.mean(), atol=0.5)


def test_imputation_within_a_modality_is_near_the_identity(data, fitted):
    again = fitted.impute("prot", "prot")
    measured = data["prot"].to_df()[again.columns]
    assert np.corrcoef(again.to_numpy().ravel(), measured.to_numpy().ravel())[0, 1] > 0.8


def test_relations_find_the_coding_genes(data, fitted):
    relations = fitted.feature_relations("rna", "prot")
    (links,) = true_links(data)
    if links.source != "rna":
        links = links.reversed()
    scores = [
        relations.rank(pct=True).at[links.source_features[r], links.target_features[c]]
        for r, c in zip(links.rows, links.cols, strict=True)
        if links.source_features[r] in relations.index
        and links.target_features[c] in relations.columns
    ]
    assert len(scores) >= 5
    assert np.mean(scores) > 0.65  # 0.5 is chance


def test_state_brings_imputation_back(data, fitted, tmp_path):
    fitted.state().save(tmp_path / "state")
    again = ScmodalIntegrator.from_state(ComponentState.load(tmp_path / "state"))
    assert np.array_equal(again.impute("rna", "prot"), fitted.impute("rna", "prot"))


def test_state_of_another_component_is_refused():
    state = ComponentState(component="glue", parameters={})
    with pytest.raises(StateMismatchError, match=r"state of 'glue'\. Expected one of 'scmodal'"):
        ScmodalIntegrator.from_state(state)


def test_state_with_other_shapes_is_refused(fitted):
    state = fitted.state()
    parameters = {**state.parameters, "n_hidden": 32}
    wrong = ComponentState(
        component="scmodal", parameters=parameters, arrays=state.arrays, extra=state.extra
    )
    with pytest.raises(StateMismatchError, match=r"does not fit the networks.*size mismatch"):
        ScmodalIntegrator.from_state(wrong)


@pytest.mark.parametrize("setting", [{"n_steps": 0}, {"learning_rate": -1.0}, {"cycle": -2.0}])
def test_settings_are_checked_when_made(setting):
    (name,) = setting
    with pytest.raises(ConfigError, match=name):
        ScmodalIntegrator(**setting)


def test_unknown_representation_names_the_closest(data):
    with pytest.raises(DataError, match="Did you mean 'X_pca'"):
        ScmodalIntegrator(use_rep="X_pcb", **SMALL).fit(data, true_links(data))


def test_missing_links_are_told(data):
    with pytest.raises(DataError, match="No feature links were given"):
        ScmodalIntegrator(**SMALL).fit(data, ())


def test_diverging_training_stops_and_names_the_loss(data):
    with pytest.raises(NumericalError, match="in the loss"):
        ScmodalIntegrator(**{**SMALL, "learning_rate": 1e20}).fit(data, true_links(data))


def test_a_tree_prefers_rich_links_and_needs_no_triangle():
    three = simulate(n_cells=60, modalities=("rna", "atac", "prot"), prepared=True, seed=0)
    chosen = spanning_pairs([k for k in true_links(three) if len(k)])
    assert len(chosen) == 2
    assert {n for k in chosen for n in (k.source, k.target)} == {"rna", "atac", "prot"}


def test_cells_of_another_order_get_the_same_coordinates(data):
    order = np.random.default_rng(0).permutation(data["rna"].n_obs)
    turned = mudata.MuData({"prot": data["prot"].copy(), "rna": data["rna"][order].copy()})
    short = {**SMALL, "n_steps": 30}
    plain = ScmodalIntegrator(**short).fit(data, true_links(data)).result().embeddings
    other = ScmodalIntegrator(**short).fit(turned, true_links(data)).result().embeddings
    np.testing.assert_allclose(other["rna"], plain["rna"][order], atol=1e-4)
    np.testing.assert_allclose(other["prot"], plain["prot"], atol=1e-4)


def test_a_few_new_cells_land_where_they_were(data, fitted):
    few = mudata.MuData({"rna": data["rna"][:3].copy()})
    known = fitted.result().embeddings["rna"]
    new = fitted.transform(few)["rna"]
    assert (
        (((known - new[:, None]) ** 2).sum(-1).argsort(1)[:, :10] == [[0], [1], [2]]).any(1).all()
    )


def test_new_cells_on_other_axes_are_refused(data):
    given = mudata.MuData({n: a.copy() for n, a in data.mod.items()})
    shape = given["rna"].n_vars, given["rna"].obsm["X_pca"].shape[1]
    given["rna"].varm["PCs"] = np.random.default_rng(0).normal(size=shape)
    fitted = ScmodalIntegrator(**{**SMALL, "n_steps": 2}).fit(given, true_links(data))
    fitted.transform(given)
    given["rna"].varm["PCs"] = -given["rna"].varm["PCs"]
    with pytest.raises(DataError, match="stands on other axes"):
        fitted.transform(given)


def test_feature_map_recovers_a_planted_linear_map():
    rng = np.random.default_rng(0)
    c = rng.normal(size=(400, 3)).astype(np.float32)
    slopes = rng.normal(size=(3, 5))
    values = sp.csr_matrix(2.0 + c @ slopes)
    found = fit_feature_map(c - c.mean(0), values, np.array(list("abcde")))
    assert np.allclose(found.slopes, slopes, atol=0.02)
    assert np.allclose(found.values(c - c.mean(0)), values.toarray(), atol=0.1)


def test_weak_links_bring_advice(data):
    rng = np.random.default_rng(0)
    noisy = data.copy()
    for adata in noisy.mod.values():  # what was linked says nothing any more
        shuffled = rng.permutation(adata.n_obs)
        adata.X = sp.csr_matrix(adata.X)[shuffled]
        adata.layers["counts"] = adata.layers["counts"][shuffled]
    (links,) = true_links(data)
    assert isinstance(links, FeatureLinks)
    result = ScmodalIntegrator(**{**SMALL, "n_steps": 20}).fit(noisy, (links,)).result()
    assert any("close to noise" in sentence for sentence in result.advice)
