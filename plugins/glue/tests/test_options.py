"""Options of the integrator, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.errors import ConfigError, DataError
from cellweave_glue import GlueIntegrator


def test_three_modalities_partial_labels_and_batches(three, three_links, quick):
    from cellweave.datasets import hide_pairing

    mdata = hide_pairing(three, seed=2)
    known = mdata.mod["rna"].obs["cell_type"].astype(str).to_numpy()
    known[::2] = "?"
    mdata.mod["rna"].obs["known"] = known
    for adata in mdata.mod.values():
        adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    fit = quick(label_key="known", unlabelled=("?",), batch_key="donor", lam_label=0.5)
    fit.fit(mdata, three_links)
    result = fit.result()
    assert set(result.embeddings) == {"rna", "atac", "prot"}
    assert "label" in result.history
    classes = fit.classify("rna")
    assert "?" not in classes.columns
    truth = mdata.mod["rna"].obs["cell_type"].to_numpy()
    assert np.mean(classes.values == truth) > 0.6
    a, b = (fit.decode("rna", "atac", batch=name) for name in ("a", "b"))
    assert not np.array_equal(a, b)
    with pytest.raises(DataError, match=r"without a batch 'c'.*It has: a, b"):
        fit.decode("rna", "atac", batch="c")


def test_paired_cells_are_drawn_together(three, three_links, subset, quick):
    mdata = subset(three, "rna", "prot")
    links = [link for link in three_links if {link.source, link.target} == {"rna", "prot"}]

    def apart(fit):
        e = fit.fit(mdata, links).result().embeddings
        return 1 - np.einsum("ij,ij->i", e["rna"], e["prot"]).mean()

    paired = quick(paired=True, lam_pair=1.0)
    assert apart(paired) < apart(quick())
    assert {"cross", "apart"} <= set(paired.result().history)


@pytest.mark.parametrize("likelihood", ["zinb", "nb_mixture", "bernoulli", "nb"])
def test_every_likelihood_learns(two, two_links, quick, likelihood):
    fit = quick(likelihoods={"atac": likelihood}).fit(two, two_links)
    history = fit.result().history["atac_nll"]
    assert history[-1] < history[0]
    assert np.isfinite(fit.decode("rna", "atac")).all()


def test_any_representation_can_be_used(two, two_links, subset, quick):
    rng = np.random.default_rng(0)
    mdata = subset(two, *two.mod)
    mdata.mod["rna"].obsm["X_other"] = rng.normal(size=(two.mod["rna"].n_obs, 7))
    fit = quick(use_rep={"rna": "X_other"}).fit(mdata, two_links)
    assert fit.state().extra["modalities"]["rna"]["basis"]["key"] == "X_other"
    with pytest.raises(DataError, match="obsm has no 'X_other', which the fit read"):
        fit.transform(two)


def test_new_cells_of_another_width_are_refused(fitted, two, subset):
    mdata = subset(two, *two.mod)
    mdata.mod["rna"].obsm["X_pca"] = mdata.mod["rna"].obsm["X_pca"][:, :5]
    with pytest.raises(DataError, match=r"has shape \(160, 5\); the fit read"):
        fitted.transform(mdata)


def test_transform_of_fitted_cells_gives_their_embedding(fitted, two):
    new, old = fitted.transform(two), fitted.result().embeddings
    for m in old:
        assert np.allclose(new[m], old[m], atol=1e-5)


def test_all_problems_are_told_at_once(two, two_links, subset, quick):
    mdata = subset(two, *two.mod)
    mdata.mod["rna"].layers["counts"] = mdata.mod["rna"].layers["counts"] * 0.5
    with pytest.raises(DataError) as caught:
        quick(likelihoods={"atacc": "nb", "atac": "gaussian"}).fit(mdata, two_links)
    text = str(caught.value)
    assert "for 3 reasons" in text
    assert "which is no count" in text
    assert "Did you mean 'atac'?" in text
    assert "Likelihood 'gaussian' of 'atac' is unknown" in text


def test_missing_label_column_is_refused(two, two_links, quick):
    with pytest.raises(DataError, match=r"No modality has obs\['kind'\]"):
        quick(label_key="kind").fit(two, two_links)


def test_impossible_arguments_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        GlueIntegrator(batch_size=0, dropout=1.5, lam_kl=-1)
    for part in ("batch_size=0 must be above 0", "dropout=1.5 must lie", "lam_kl=-1 must not"):
        assert part in str(caught.value)


def test_links_that_say_nothing_bring_advice(two, two_links, quick):
    from dataclasses import replace

    rng = np.random.default_rng(0)
    false = tuple(replace(link, cols=rng.permutation(link.cols)) for link in two_links)
    few = tuple(
        replace(
            link,
            **{n: getattr(link, n)[:4] for n in ("rows", "cols", "weights", "signs", "evidence")},
        )
        for link in false
    )
    advice = " ".join(quick().fit(two, few).result().advice)
    assert "Only" in advice
    assert "links join the modelled features" in advice


def test_panel_brings_its_genes_in(three, three_links, subset):
    from cellweave_glue.inputs import feature_masks

    mdata = subset(three, *three.mod)
    mdata.mod["rna"].var["highly_variable"] = False
    mdata.mod["rna"].var.iloc[:20, mdata.mod["rna"].var.columns.get_loc("highly_variable")] = True
    masks = feature_masks(mdata, three_links)
    link = next(k for k in three_links if {k.source, k.target} == {"rna", "prot"})
    genes = link.rows if link.source == "rna" else link.cols
    assert masks["rna"][genes].all()
    marked = mdata.mod["prot"].var["highly_variable"].to_numpy()
    assert marked.sum() < len(marked)  # isotype controls
    assert np.array_equal(masks["prot"], marked)


def test_new_cells_on_other_axes_are_refused(two, two_links, subset, quick):
    new = subset(two, *two.mod)
    shape = new["rna"].n_vars, new["rna"].obsm["X_pca"].shape[1]
    new["rna"].varm["PCs"] = np.random.default_rng(0).normal(size=shape)
    fitted = quick(progress=0.001, min_epochs=1).fit(new, two_links)
    fitted.transform(new)
    other = new["rna"]
    other.obsm["X_pca"] = other.obsm["X_pca"][:, ::-1].copy()  # as many columns, other axes
    other.varm["PCs"] = other.varm["PCs"][:, ::-1].copy()
    with pytest.raises(DataError, match=r"stands on other axes .*Prepare the new cells together"):
        fitted.transform(new)
    del other.varm["PCs"]
    with pytest.raises(DataError, match="varm has no 'PCs', so it cannot be told"):
        fitted.transform(new)
