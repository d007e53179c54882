"""MaxFuse on simulated data: order, batches, hub, metacells, surroundings, honesty."""

from __future__ import annotations

from dataclasses import replace

import mudata
import numpy as np
import pytest

from cellweave.datasets import hide_pairing, simulate, true_links
from cellweave.errors import ConfigError, DataError, StateMismatchError
from cellweave.records import FeatureLinks
from cellweave_maxfuse import MaxFuse, metacells, neighbourhood_composition
from cellweave_maxfuse.metacells import averaging
from cellweave_maxfuse.smoothing import neighbour_graph, neighbours, smooth


def data(*modalities, n_cells=220, seed=0, **settings):
    sizes = {"n_types": 3, "n_genes": 200, "n_peaks": 300, **settings}
    mdata = simulate(n_cells=n_cells, modalities=modalities, prepared=True, seed=seed, **sizes)
    return mdata, tuple(links for links in true_links(mdata) if len(links))


def vote(result, mdata, one, other):
    a, b = result.embeddings[one], result.embeddings[other]
    mine = mdata[one].obs["cell_type"].to_numpy(str)
    theirs = mdata[other].obs["cell_type"].to_numpy(str)
    return float((theirs[(a @ b.T).argmax(1)] == mine).mean())


@pytest.fixture(scope="module")
def two():
    return data("rna", "prot")


def test_weight_one_means_no_smoothing():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((30, 4)).astype(np.float32)
    graph = neighbour_graph(neighbours(values, 4), 5)
    assert smooth(graph, values, weight=1.0, steps=3) is values
    fully = smooth(graph, values, weight=0.0)
    away = ((values[:, None] - values[None]) ** 2).sum(-1)
    by_hand = np.stack([values[np.argsort(row, kind="stable")[:5]].mean(0) for row in away])
    np.testing.assert_allclose(fully, by_hand, atol=1e-5)


def test_matching_is_the_same_for_permuted_cells(two):
    mdata, links = two
    plain = MaxFuse().fit(mdata, links).result()
    rng = np.random.default_rng(1)
    order = {m: rng.permutation(a.n_obs) for m, a in mdata.mod.items()}
    turned = mudata.MuData({m: a[order[m]].copy() for m, a in reversed(list(mdata.mod.items()))})
    other = MaxFuse().fit(turned, [k.reversed() for k in links]).result()
    for name in mdata.mod:
        np.testing.assert_allclose(
            other.embeddings[name], plain.embeddings[name][order[name]], atol=2e-4
        )

    def pairs(result, where):
        (match,) = result.matches
        rows, cols = where[match.source][match.rows], where[match.target][match.cols]
        return set(zip(rows, cols, strict=True))

    same = {m: np.arange(a.n_obs) for m, a in mdata.mod.items()}
    both = pairs(plain, same), pairs(other, order)
    assert len(both[0] & both[1]) > 0.97 * len(both[0])


def test_three_modalities_meet_through_the_hub():
    mdata, links = data("rna", "atac", "prot")
    links = [k for k in links if "rna" in (k.source, k.target)]
    mdata = hide_pairing(mdata, seed=0)
    result = MaxFuse().fit(mdata, links).result()
    assert len(result.matches) == 2
    for one, other in (("rna", "atac"), ("rna", "prot"), ("atac", "prot")):
        assert vote(result, mdata, one, other) > 0.8


def test_blocks_and_metacells_change_little(two):
    mdata, links = two
    for settings in ({"batch_size": 60}, {"metacell_size": 3}):
        assert vote(MaxFuse(**settings).fit(mdata, links).result(), mdata, "rna", "prot") > 0.85


def test_metacells_are_small_and_near():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((6, 5)) * 10
    kind = rng.integers(0, 6, 600)
    values = (centres[kind] + rng.standard_normal((600, 5))).astype(np.float32)
    groups = metacells(neighbours(values, 9), 6)
    operator, counts = averaging(groups)
    assert 3 < counts.mean() < 9
    purity = [len(set(kind[groups == g])) == 1 for g in range(len(counts))]
    assert np.mean(purity) > 0.98
    np.testing.assert_allclose(operator @ np.ones(600, np.float32), 1, atol=1e-5)


def test_batches_are_centred(two):
    mdata, links = two
    shifted = mdata.copy()
    for adata in shifted.mod.values():
        half = np.arange(adata.n_obs) % 2 == 0
        adata.obs["plate"] = np.where(half, "one", "two")
        key = next(k for k in ("X_pca", "X_lsi") if k in adata.obsm)
        adata.obsm[key] = adata.obsm[key] + 8 * half[:, None].astype(np.float32)
    blind = vote(MaxFuse().fit(shifted, links).result(), shifted, "rna", "prot")
    told = vote(MaxFuse(batch_key="plate").fit(shifted, links).result(), shifted, "rna", "prot")
    assert told > 0.9
    assert told >= blind


def test_surroundings_match_brute_force():
    rng = np.random.default_rng(0)
    places, kinds = rng.random((60, 2)), rng.integers(0, 3, 60)
    shares = neighbourhood_composition(places, kinds, n_neighbors=4)
    away = ((places[:, None] - places[None]) ** 2).sum(-1)
    for i in range(60):
        near = np.argsort(away[i], kind="stable")[:5]
        np.testing.assert_allclose(shares[i], np.bincount(kinds[near], minlength=3) / 5, atol=1e-6)


def test_surroundings_join_the_features_and_new_cells_have_them_too():
    mdata, links = data("rna", "spatial")
    fitted = MaxFuse(spatial_neighbors=8).fit(mdata, links)
    plain = MaxFuse().fit(mdata, links).result().embeddings["spatial"]
    assert not np.allclose(fitted.result().embeddings["spatial"], plain)
    again = fitted.transform(mdata)
    known = fitted.result().embeddings
    for name in mdata.mod:
        assert float(np.einsum("ij,ij->i", again[name], known[name]).mean()) > 0.95


def test_shuffled_links_are_told(two):
    mdata, links = data("rna", "atac")
    assert not any("shuffled" in line for line in MaxFuse().fit(mdata, links).result().advice)
    (link,) = links
    rng = np.random.default_rng(0)
    wrong = FeatureLinks(
        source=link.source,
        target=link.target,
        source_features=rng.permutation(link.source_features),
        target_features=link.target_features,
        rows=link.rows,
        cols=link.cols,
        weights=link.weights,
        signs=link.signs,
        evidence=link.evidence,
    )
    result = MaxFuse().fit(mdata, [wrong]).result()
    assert any("hardly more alike than shuffled links" in line for line in result.advice)


def test_wrong_settings_are_named_together():
    with pytest.raises(ConfigError, match=r"rounds=0: give at least 1\. .*anchor=2: give 0 to 1"):
        MaxFuse(rounds=0, anchor=2)


def test_missing_links_and_unprepared_data_are_told(two):
    mdata, _ = two
    bare = mudata.MuData({m: a.copy() for m, a in mdata.mod.items()})
    del bare["rna"].layers["counts"]
    with pytest.raises(DataError, match=r"2 reasons:\n1\. No feature links .*\n2\. .*no 'counts'"):
        MaxFuse().fit(bare, [])


def test_unknown_representation_is_told(two):
    mdata, links = two
    with pytest.raises(DataError, match="which no modality has in `obsm`"):
        MaxFuse(use_rep="X_pcaa").fit(mdata, links)


def test_representation_by_text(two):
    mdata, links = two
    given = mdata.copy()
    given["rna"].obsm["X_own"] = given["rna"].obsm["X_pca"][:, :5].copy()
    result = MaxFuse(use_rep="rna=X_own").fit(given, links).result()
    usual = MaxFuse().fit(mdata, links).result()
    assert result.embeddings["rna"].shape[1] < usual.embeddings["rna"].shape[1]


def test_state_with_an_array_missing_is_refused(two):
    mdata, links = two
    state = MaxFuse().fit(mdata, links).state()
    fewer = {k: v for k, v in state.arrays.items() if k != "rna/loadings"}
    with pytest.raises(StateMismatchError, match=r"lacks \['rna/loadings'\]"):
        MaxFuse.from_state(replace(state, arrays=fewer))


def test_new_cells_on_other_axes_are_refused(two):
    mdata, links = two
    new = mdata.copy()
    new["prot"].varm["PCs"] = np.eye(new["prot"].n_vars, new["prot"].obsm["X_pca"].shape[1])
    made = MaxFuse().fit(new, links)
    made.transform(new)
    other = new["prot"]
    other.obsm["X_pca"] = other.obsm["X_pca"][:, ::-1].copy()  # as many columns, other axes
    other.varm["PCs"] = other.varm["PCs"][:, ::-1].copy()
    with pytest.raises(DataError, match=r"stands on other axes .*Prepare the new cells together"):
        made.transform(new)
    del other.varm["PCs"]
    with pytest.raises(DataError, match="varm has no 'PCs', so it cannot be told"):
        made.transform(new)


def test_a_type_that_one_modality_lacks_scores_low():
    mdata, links = data("rna", "prot", n_cells=500, seed=1, n_types=5, n_genes=300)
    kinds = mdata["rna"].obs["cell_type"].to_numpy(str)
    gone = np.unique(kinds)[0]
    lacking = mudata.MuData({"rna": mdata["rna"], "prot": mdata["prot"][kinds != gone].copy()})
    (match,) = MaxFuse().fit(lacking, links).result().matches
    rows = match.rows if match.source == "rna" else match.cols
    best = np.zeros(len(kinds))
    np.maximum.at(best, rows, match.scores)
    assert np.quantile(best[kinds == gone], 0.9) < np.quantile(best[kinds != gone], 0.1)


def test_several_link_records_of_a_pair_are_all_used(two):
    mdata, (link,) = two
    half = len(link) // 2

    def part(rows):
        names = ("rows", "cols", "weights", "signs", "evidence")
        return replace(link, **{n: getattr(link, n)[rows] for n in names})

    parts = [part(slice(half)), part(slice(half, None)).reversed()]
    joined = MaxFuse().fit(mdata, parts).result()
    plain = MaxFuse().fit(mdata, [link]).result()
    np.testing.assert_allclose(joined.embeddings["rna"], plain.embeddings["rna"], atol=1e-4)
