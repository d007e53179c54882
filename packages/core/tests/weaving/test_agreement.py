"""How a weave is checked by the linked features: against loops, and where types are missing."""

from __future__ import annotations

import numpy as np
import pytest

import cellweave
from cellweave import weaving
from cellweave.datasets import simulate, true_links
from cellweave.datasets.joining import joined
from cellweave.records import IntegrationResult, Provenance
from cellweave.weaving import (
    advice_on_agreement,
    agreements,
    averaging,
    cells_of,
    doubtful_cells,
    linked_coordinates,
    quality_of_agreement,
)


@pytest.fixture(scope="module")
def data():
    return simulate(n_cells=300, modalities=("rna", "prot"), n_types=5, prepared=True, seed=1)


def _kinds(mdata, name):
    return mdata[name].obs["cell_type"].astype(str).to_numpy()


def _by_type(mdata, *, stands_in=None):
    """Place each cell at its type: a weave that is right, but for a type put with another."""
    types = sorted(set(_kinds(mdata, "rna")))
    centres = np.eye(len(types), dtype=np.float32)
    rng = np.random.default_rng(0)
    out = {}
    for name in ("rna", "prot"):
        at = [types.index((stands_in or {}).get(k, k)) for k in _kinds(mdata, name)]
        noise = rng.normal(size=(len(at), len(types))) * 0.1
        out[name] = (centres[at] + noise).astype(np.float32)
    return out


def _most_alike(mdata, kind):
    """Return the type whose proteins are most like those of another: where a weave draws it."""
    kinds, values = _kinds(mdata, "prot"), mdata["prot"].to_df().to_numpy()
    means = {k: values[kinds == k].mean(0) - values.mean(0) for k in set(kinds)}
    own = means.pop(kind)
    return max(sorted(means), key=lambda k: np.corrcoef(means[k], own)[0, 1])


def _without(mdata, kind):
    kept = _kinds(mdata, "prot") != kind
    return joined({"rna": mdata["rna"].copy(), "prot": mdata["prot"][kept].copy()}, {})


def _laid_out(data, k):
    cells = {n: cells_of(n, a, use_rep={}) for n, a in data.mod.items()}
    return cells, {n: averaging(c.representation, k) for n, c in cells.items()}


def test_linked_coordinates_equal_a_loop(data):
    (links,) = true_links(data)
    cells, graphs = _laid_out(data, 6)
    found = linked_coordinates(data.mod, links, cells, graphs, max_dims=1000)
    raw = weaving.linked_pair(links, data.mod)
    z, shares = {}, {}
    for name, adata in data.mod.items():
        values = raw.values(name, adata)[cells[name].order].astype(float)
        values -= values.mean(0)
        own = cells[name].representation
        unit = own / np.linalg.norm(own, axis=1, keepdims=True)
        near = unit @ unit.T
        np.fill_diagonal(near, -np.inf)
        means = np.stack([values[np.argsort(-row, kind="stable")[:6]].mean(0) for row in near])
        shares[name] = np.clip((means.var(0) / values.var(0) - 1 / 6) / (1 - 1 / 6), 0, 1)
        both = (6 * means + values) / 7
        z[name] = both / both.std(0)
    weight = np.sqrt(shares["rna"] * shares["prot"])
    kept = weight > 0
    expected = {n: (np.clip(v, -10, 10) * weight)[:, kept] for n, v in z.items()}
    scale = np.sqrt(np.mean([v.var(0).mean() for v in expected.values()]))
    np.testing.assert_allclose(found.source_linked, expected[found.source] / scale, atol=2e-3)
    np.testing.assert_allclose(found.target_linked, expected[found.target] / scale, atol=2e-3)
    assert found.shared_variance == pytest.approx(weight.mean(), abs=1e-3)


def test_agreement_equals_a_loop(data):
    (links,) = true_links(data)
    woven = _by_type(data)
    cells, graphs = _laid_out(data, 30)
    linked = linked_coordinates(data.mod, links, cells, graphs, max_dims=30)
    values = {linked.source: linked.source_linked, linked.target: linked.target_linked}
    unit = {n: woven[n][c.order] for n, c in cells.items()}
    unit = {n: u / np.linalg.norm(u, axis=1, keepdims=True) for n, u in unit.items()}
    for one in agreements(data, [links], woven):
        single = []
        for i, place in enumerate(unit[one.source]):
            beside = np.argsort(-(unit[one.target] @ place), kind="stable")[:15]
            met, own = values[one.target][beside].mean(0), values[one.source][i]
            single.append(own @ met / np.linalg.norm(own) / np.linalg.norm(met))
        expected = np.empty(len(single))
        expected[cells[one.source].order] = graphs[one.source] @ np.array(single)
        np.testing.assert_allclose(one.scores, expected, atol=1e-4)


def test_a_sound_weave_leaves_nothing_to_doubt(data):
    found = agreements(data, true_links(data), _by_type(data))
    assert [(a.source, a.target) for a in found] == [("prot", "rna"), ("rna", "prot")]
    assert all(np.median(a.scores) > 0.8 and not a.doubtful.any() for a in found)
    assert all((a.best > a.scores - 0.1).all() for a in found)
    assert advice_on_agreement(found) == []


@pytest.mark.parametrize("which", range(5))
def test_a_type_that_is_missing_and_stands_with_another_is_doubted(data, which):
    types = sorted(set(_kinds(data, "rna")))
    gone, host = types[which], _most_alike(data, types[which])
    cut = _without(data, gone)
    found = agreements(cut, true_links(data), _by_type(cut, stands_in={gone: host}))
    there, here = found
    missing = _kinds(cut, "rna") == gone
    assert here.source == "rna"
    assert here.doubtful[missing].mean() > 0.9
    assert here.doubtful[~missing].mean() < 0.05
    # Proteins of the host lie beside cells that disagree; better ones exist, and that is said.
    assert not there.doubtful[_kinds(cut, "prot") != host].mean() > 0.05
    *drawn, lacking = advice_on_agreement(found)
    assert "'prot' may lack their type" in lacking
    assert all("though others would agree" in d for d in drawn)
    assert quality_of_agreement(found)["doubtful_rna_to_prot"] == here.doubtful.mean()


def test_cells_put_anywhere_agree_with_nothing(data):
    rng = np.random.default_rng(0)
    woven = {n: rng.normal(size=(a.n_obs, 8)).astype(np.float32) for n, a in data.mod.items()}
    found = agreements(data, true_links(data), woven)
    assert all(abs(np.median(a.scores)) < 0.2 for a in found)
    assert len(advice_on_agreement(found)) == 2
    assert "hardly agree" in advice_on_agreement(found)[0]


def test_agreement_does_not_hang_on_the_order_of_cells(data):
    (links,) = true_links(data)
    woven = _by_type(data)
    order = np.random.default_rng(3).permutation(300)
    turned = joined({"rna": data["rna"][order].copy(), "prot": data["prot"].copy()}, {})
    moved = agreements(turned, [links], {**woven, "rna": woven["rna"][order]})
    for a, b in zip(agreements(data, [links], woven), moved, strict=True):
        expected = a.scores[order] if a.source == "rna" else a.scores
        np.testing.assert_allclose(b.scores, expected, atol=1e-5)


def test_what_cannot_be_compared_is_left_out(data):
    links = true_links(data)
    small = joined({"rna": data["rna"][:30].copy(), "prot": data["prot"].copy()}, {})
    woven = _by_type(data)
    assert agreements(small, links, {**woven, "rna": woven["rna"][:30]}) == ()
    assert agreements(data, [], woven) == ()
    assert agreements(data, links, {"rna": woven["rna"]}) == ()


def test_many_cells_take_the_mean_of_a_chosen_few(data, monkeypatch):
    types = sorted(set(_kinds(data, "rna")))
    gone, host = types[0], _most_alike(data, types[0])
    cut = _without(data, gone)
    woven = _by_type(cut, stands_in={gone: host})
    links = true_links(data)
    (_, whole) = agreements(cut, links, woven)
    monkeypatch.setattr("cellweave.weaving.agreement._MOST_CELLS", 230)
    (_, some) = agreements(cut, links, woven)
    assert (some.source, len(some.scores), some.doubtful.dtype) == ("rna", 300, bool)
    assert np.corrcoef(some.scores, whole.scores)[0, 1] > 0.9
    assert (some.doubtful == whole.doubtful).mean() > 0.97
    order = np.random.default_rng(3).permutation(300)
    turned = joined({"rna": cut["rna"][order].copy(), "prot": cut["prot"].copy()}, {})
    (_, again) = agreements(turned, links, {**woven, "rna": woven["rna"][order]})
    np.testing.assert_allclose(again.scores, some.scores[order], atol=1e-5)


def test_one_broad_group_is_not_two():
    rng = np.random.default_rng(0)
    assert not doubtful_cells(rng.uniform(0.2, 0.9, 500).astype(np.float32)).any()
    assert not doubtful_cells(rng.normal(0.5, 0.1, 500).astype(np.float32)).any()
    two = np.r_[rng.normal(0.95, 0.01, 400), rng.normal(0.5, 0.05, 100)].astype(np.float32)
    np.testing.assert_array_equal(doubtful_cells(two), np.arange(500) >= 400)
    assert not doubtful_cells(np.ones(60, dtype=np.float32)).any()


def test_a_result_keeps_its_agreement_on_disk_and_in_the_data(data, tmp_path):
    woven = _by_type(data)
    found = agreements(data, true_links(data), woven)
    result = IntegrationResult(
        embeddings=woven,
        obs_names={n: a.obs_names.to_numpy(str) for n, a in data.mod.items()},
        provenance=Provenance(component="plain", version="1"),
        agreement=found,
    )
    result.save(tmp_path / "r.npz")
    back = IntegrationResult.load(tmp_path / "r.npz")
    for a, b in zip(found, back.agreement, strict=True):
        assert (a.source, a.target) == (b.source, b.target)
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.best, b.best)
        np.testing.assert_array_equal(a.doubtful, b.doubtful)
    mdata = data.copy()
    result.write(mdata)
    np.testing.assert_array_equal(mdata["rna"].obs["X_plain_agreement_prot"], found[1].scores)
    assert mdata["rna"].obs["X_plain_doubtful_prot"].dtype == bool


def test_every_method_is_checked_the_same_way(data):
    result = cellweave.integrate(data, "bindsc", links=true_links(data))
    assert {(a.source, a.target) for a in result.agreement} == {("rna", "prot"), ("prot", "rna")}
    assert result.quality["agreement_rna_to_prot"] > 0.8
