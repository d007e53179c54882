"""Surroundings: brute force, planted niches, dissociated cells, sections left out."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.neighbourhood import (
    NeighbourhoodTask,
    _divergence,
    composition_and_density,
)
from cellweave_tasks.splits import by_group


def niches(seed=0, n=500, sections=1, signal=2.0):
    """Two niches of unlike mixtures; a cell's state tells its niche beside its type."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 10, (n, 2))
    niche = (places[:, 0] > 5).astype(int)
    places[niche == 1, 1] *= 0.4  # denser on one side
    mixture = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    types = np.array([rng.choice(3, p=mixture[k]) for k in niche])
    state = np.hstack([np.eye(3)[types] * 3, signal * niche[:, None] * np.ones((n, 2))])
    state = state + 0.5 * rng.normal(size=state.shape)
    adata = ad.AnnData(np.maximum(state + 2, 0).astype(np.float32))
    adata.obs_names = [f"s{seed}c{i}" for i in range(n)]
    adata.obs["cell_type"] = np.array(["a", "b", "c"])[types]
    adata.obs["section"] = [f"s{seed}.{i % sections}" for i in range(n)]
    adata.obsm["spatial"], adata.obsm["X_pca"] = places, state.astype(np.float32)
    return adata


def test_targets_equal_brute_force():
    cells = niches(n=60, sections=2)
    places, types = cells.obsm["spatial"], cells.obs["cell_type"].to_numpy(str)
    sections = cells.obs["section"].to_numpy(str)
    found = composition_and_density(places, types, sections, np.array(["a", "c"]), k=7)
    reach = np.zeros(60)
    for i in range(60):
        away = np.linalg.norm(places - places[i], axis=1)
        away[(sections != sections[i]) | (np.arange(60) == i)] = np.inf
        near = np.argsort(away)[:7]
        reach[i] = away[near[-1]]
        assert found[i, :2] == pytest.approx([(types[near] == t).mean() for t in "ac"])
    for s in set(sections):
        own = sections == s
        assert found[own, 2] == pytest.approx(-np.log(reach[own] / np.median(reach[own])))


def test_divergence_is_that_of_scipy():
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.ones(4), 9) for _ in range(2))
    assert _divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2, axis=1) ** 2)


def test_a_state_that_knows_its_niche_beats_the_type_alone():
    task = NeighbourhoodTask(section_key="section", group_key="section").fit(niches())
    scores = task.evaluate(niches(seed=1))
    # Type b is as common in both niches: nothing tells how many surround a cell.
    assert min(scores.value("pearson", method=task.name, group=g) for g in "ac") > 0.7
    assert scores.value("pearson", method="mean") == 0
    assert scores.value("relative_mse", method="mean") == 1
    ours, of_type = (
        scores.value("relative_mse", method=m) for m in (task.name, "mean of the cell's type")
    )
    assert ours < of_type - 0.1
    assert scores.value("pearson_density", method=task.name) > 0.4
    assert scores.value("jensen_shannon", method=task.name) < scores.value(
        "jensen_shannon", method="mean"
    )
    assert {s.group for s in scores.items} == {"", "a", "b", "c"}


def test_a_state_that_knows_nothing_is_no_better_than_the_type():
    scores = NeighbourhoodTask().fit(niches(signal=0)).evaluate(niches(seed=1, signal=0))
    assert scores.summary["difference_value"] < 0.01
    assert "does NOT beat" in scores.summary["headline"]


def test_dissociated_cells_get_their_context():
    task = NeighbourhoodTask().fit(niches())
    cells = niches(seed=1)
    truth = task.truth(cells)
    del cells.obsm["spatial"], cells.obs["cell_type"]
    found = task.predict(cells)
    assert list(found.columns) == ["a", "b", "c", "density"]
    assert np.corrcoef(found.values[:, 0], truth[:, 0])[0, 1] > 0.7
    assert (found.values[:, :3].sum(axis=1) <= 1 + 1e-6).all()
    found.write(cells, key_added="surroundings")
    assert cells.obsm["surroundings"].shape == (500, 4)


def test_a_section_is_left_out_and_leaks_are_refused():
    cells = ad.concat([niches(seed=i) for i in range(3)])
    split = by_group(cells, "section", ["s2.0"])
    task = NeighbourhoodTask(section_key="section", group_key="section", method="knn")
    scores = task.fit(cells[split.train]).evaluate(cells[split.test])
    assert scores.value("pearson", method=task.name) > 0.6
    with pytest.raises(DataError, match=r"cells to be scored were seen in training"):
        task.evaluate(cells[split.train])
    moved = niches(seed=9)
    moved.obs["section"] = "s0.0"
    with pytest.raises(DataError, match=r"groups of `obs\['section'\]`"):
        task.evaluate(moved)
    with pytest.raises(ConfigError, match=r"k is 0"):
        NeighbourhoodTask(k=0)
    with pytest.raises(ConfigError, match=r"'rigde'. Did you mean 'ridge'"):
        NeighbourhoodTask(method="rigde")
    with pytest.raises(DataError, match=r"no 'place'"):
        NeighbourhoodTask(spatial_key="place").fit(cells)
    narrow = niches(seed=1)
    narrow.obsm["X_pca"] = narrow.obsm["X_pca"][:, :2]
    with pytest.raises(DataError, match=r"has 2 columns, training had 5"):
        task.predict(narrow)
    lonely = niches(n=30)
    lonely.obs["section"] = ["x", *["y"] * 29]
    with pytest.raises(DataError, match=r"Section 'x' has one cell"):
        NeighbourhoodTask(section_key="section").fit(lonely)
