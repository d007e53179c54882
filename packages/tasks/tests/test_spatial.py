"""Regions: the neighbourhood against brute force, and what it brings where it must."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.spatial import SpatialTask, neighbourhood_features
from cellweave_tasks.splits import by_tiles


def tissue(side=24, seed=0, noise=3.0):
    """Three bands; one cell tells little of its band, its surroundings much."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(range(side), range(side)), -1).reshape(-1, 2).astype(float)
    places += rng.uniform(-0.2, 0.2, places.shape)
    band = np.minimum(places[:, 1] // (side / 3), 2).clip(0).astype(int)
    signal = np.eye(3)[band] + noise * rng.normal(size=(len(places), 3)) / 3
    adata = ad.AnnData(np.maximum(signal, 0).astype(np.float32))
    adata.obs_names = [f"s{seed}c{i}" for i in range(len(places))]
    adata.obs["cell_type"] = [f"band{b}" for b in band]
    adata.obs["section"] = f"s{seed}"
    adata.obsm["spatial"], adata.obsm["X_pca"] = places, signal.astype(np.float32)
    return adata


def test_means_equal_brute_force():
    rng = np.random.default_rng(0)
    own, places = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(40, 2))
    sections = np.repeat(["a", "b"], 20)
    found = neighbourhood_features(own, places, sections, [4])
    for i in (0, 7, 25, 39):
        away = np.linalg.norm(places - places[i], axis=1)
        away[(sections != sections[i]) | (np.arange(40) == i)] = np.inf
        near = np.argsort(away)[:4]
        assert found[i, :3] == pytest.approx(own[near].mean(axis=0), abs=1e-5)
    # Cells of another section count for nothing.
    own[20:] += 100
    assert found[:20] == pytest.approx(neighbourhood_features(own, places, sections, [4])[:20])


def test_surroundings_tell_the_region():
    task = SpatialTask(section_key="section", group_key="section", ranges=[6, 18]).fit(tissue())
    scores = task.evaluate(tissue(seed=1))
    ours = scores.value("accuracy", method=task.name)
    assert ours > 0.85
    assert scores.value("accuracy", method="linear without neighbours") < 0.75
    assert scores.summary["headline"].startswith(f"{task.name} beats the same without")
    assert scores.summary["difference_low"] > 0
    methods = {s.method for s in scores.items}
    assert methods == {task.name, "linear without neighbours", "majority", "linear on PCA of X"}


def test_cells_without_a_region_are_neighbours_and_no_more():
    train, test = tissue(), tissue(seed=1)
    told = SpatialTask(ranges=[6]).fit(train)
    plain = told.evaluate(test)
    left_out = np.random.default_rng(0).random(test.n_obs) < 0.3
    test.obs["cell_type"] = np.where(left_out, "unlabelled", test.obs["cell_type"])
    some = told.evaluate(test)
    kept = plain.value("accuracy", method=told.name)
    assert some.value("accuracy", method=told.name) == pytest.approx(kept, abs=0.05)
    train.obs.loc[train.obs_names[:50], "cell_type"] = None
    again = SpatialTask(ranges=[6]).fit(train).predict(test)
    assert len(again.values) == test.n_obs
    assert set(again.values) == {"band0", "band1", "band2"}


def test_surroundings_bring_nothing_where_places_are_random():
    train, test = tissue(), tissue(seed=1)
    for part in (train, test):
        order = np.random.default_rng(3).permutation(part.n_obs)
        part.obsm["spatial"] = part.obsm["spatial"][order]
    scores = SpatialTask(ranges=[6]).fit(train).evaluate(test)
    assert abs(scores.summary["difference_value"]) < 0.05


def test_tiles_of_one_section_and_refusals():
    cells = tissue()
    split = by_tiles(cells, tiles=4)
    task = SpatialTask().fit(cells[split.train])
    assert task.evaluate(cells[split.test]).value("accuracy", method=task.name) > 0.6
    with pytest.raises(DataError, match=r"groups of `obs\['section'\]`"):
        SpatialTask(group_key="section").fit(cells[split.train]).evaluate(cells[split.test])
    with pytest.raises(DataError, match=r"no 'place'"):
        SpatialTask(spatial_key="place").fit(cells)
    with pytest.raises(ConfigError, match=r"ranges is \[0\]"):
        SpatialTask(ranges=[0])
