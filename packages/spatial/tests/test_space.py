from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave_spatial import (
    coordinates_of,
    image_patches,
    local_density,
    neighbourhood_composition,
    spatial_graph,
    technology_label,
)


def placed(places, **obs):
    places = np.asarray(places, dtype=float)
    frame = pd.DataFrame(obs, index=[f"c{i}" for i in range(len(places))])
    adata = ad.AnnData(np.ones((len(places), 2), dtype="f4"), obs=frame)
    adata.obsm["spatial"] = places
    return adata


@pytest.fixture
def scattered():
    return placed(np.random.default_rng(0).uniform(0, 100, (70, 2)))


def edges(graph):
    rows, cols = graph.connectivities.nonzero()
    return set(zip(rows.tolist(), cols.tolist()))


@pytest.mark.parametrize("kind", ["knn", "radius", "delaunay"])
def test_graphs_are_symmetric_without_loops(scattered, kind):
    graph = spatial_graph(scattered, kind=kind, radius=20.0)
    dense = graph.connectivities.toarray()
    np.testing.assert_array_equal(dense, dense.T)
    assert not dense.diagonal().any()
    places = scattered.obsm["spatial"]
    rows, cols = graph.distances.nonzero()
    apart = np.linalg.norm(places[rows] - places[cols], axis=1)
    np.testing.assert_allclose(graph.distances.toarray()[rows, cols], apart, rtol=1e-5)
    assert apart.max() <= 20


def test_knn_and_radius_equal_brute_force(scattered):
    places = scattered.obsm["spatial"]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    near = set()
    for i in range(70):
        for j in np.argsort(apart[i])[:5]:
            near |= {(i, int(j)), (int(j), i)}
    assert edges(spatial_graph(scattered, n_neighbors=5)) == near
    within = set(zip(*(a.tolist() for a in np.nonzero(apart <= 12))))
    assert edges(spatial_graph(scattered, kind="radius", radius=12)) == within


def test_delaunay_of_a_square_with_its_centre():
    graph = spatial_graph(placed([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1]]), kind="delaunay")
    outline = {(0, 1), (1, 2), (2, 3), (0, 3)}
    spokes = {(i, 4) for i in range(4)}
    assert {(i, j) for i, j in edges(graph) if i < j} == outline | spokes


@pytest.mark.parametrize("kind", ["knn", "delaunay"])
def test_cells_at_one_place_are_no_strangers(kind):
    """Qhull drops twins and a tree may return a twin for oneself: neither loses a cell."""
    rng = np.random.default_rng(1)
    places = rng.uniform(0, 9, (20, 2))
    places[10:14] = places[3]
    graph = spatial_graph(placed(places), kind=kind, n_neighbors=3)
    degree = np.diff(graph.connectivities.indptr)
    assert (degree > 0).all()
    assert not graph.connectivities.diagonal().any()


def test_slides_never_meet(scattered):
    scattered.obs["slide"] = ["a", "b"] * 35
    graph = spatial_graph(scattered, kind="delaunay", library_key="slide")
    assert all((i - j) % 2 == 0 for i, j in edges(graph))
    with pytest.raises(DataError, match="no column 'slidd'"):
        spatial_graph(scattered, library_key="slidd")


def test_refusals(scattered):
    with pytest.raises(ConfigError, match="needs a radius"):
        spatial_graph(scattered, kind="radius")
    with pytest.raises(ConfigError, match="kind='voronoi'"):
        spatial_graph(scattered, kind="voronoi")
    line = placed([[i, i] for i in range(9)])
    with pytest.raises(DataError, match="one line or in one place"):
        spatial_graph(line, kind="delaunay")
    scattered.obsm["spatial"][3, 1] = np.nan
    with pytest.raises(DataError, match=r"\[3\] = .*nan.* is not finite \(1 such"):
        coordinates_of(scattered)
    del scattered.obsm["spatial"]
    with pytest.raises(DataError, match="There are no coordinates"):
        coordinates_of(scattered)
    scattered.obs["center_x"], scattered.obs["center_y"] = 1.0, 2.0
    assert coordinates_of(scattered)[0].tolist() == [1, 2]


def test_composition_counts_neighbours():
    cells = placed([[0, 0], [1, 0], [2, 0], [3, 0]], cell_type=["a", "b", "b", None])
    graph = spatial_graph(cells, kind="radius", radius=1.0)
    shares = neighbourhood_composition(cells, graph=graph)
    assert shares.loc["c1"].to_dict() == {"a": 0.5, "b": 0.5}
    assert shares.loc["c2"].to_dict() == {"a": 0, "b": 1}
    own = neighbourhood_composition(cells, graph=graph, include_self=True)
    assert own.loc["c0"].to_dict() == {"a": 0.5, "b": 0.5}
    with pytest.raises(DataError, match="has no column 'kind'"):
        neighbourhood_composition(cells, label_key="kind")


def test_density_of_a_lattice():
    grid = placed([[i, j] for i in range(21) for j in range(21)])
    density = local_density(grid, radius=5.0).reshape(21, 21)
    inside = sum(i * i + j * j <= 25 for i in range(-5, 6) for j in range(-5, 6)) - 1
    assert density[10, 10] == pytest.approx(inside / (np.pi * 25))
    near = local_density(grid, n_neighbors=4).reshape(21, 21)
    assert near[10, 10] == pytest.approx(4 / np.pi)


def test_patches_are_cut_where_cells_lie():
    image = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
    cells = placed([[10, 8], [0, 0]])
    got = image_patches(cells, size=4, image=image)
    np.testing.assert_array_equal(got[0], image[6:10, 8:12])
    np.testing.assert_array_equal(got[1][2:, 2:], image[:2, :2])
    assert not got[1][:2].any()
    assert got.dtype == np.uint16
    assert image_patches(cells, size=4, image=image, rows=[1]).shape == (1, 4, 4, 3)


def test_patches_follow_the_scale_of_the_stored_image():
    image = np.random.default_rng(0).integers(0, 255, (10, 10, 3), dtype=np.uint8)
    cells = placed([[50, 40]])
    slide = {"images": {"hires": image}, "scalefactors": {"tissue_hires_scalef": 0.1}}
    cells.uns["spatial"] = {"s": slide}
    np.testing.assert_array_equal(image_patches(cells, size=2)[0], image[3:5, 4:6])
    cells.uns["spatial"]["t"] = slide
    with pytest.raises(DataError, match=r"\['s', 't'\], asked for None"):
        image_patches(cells)


def test_technologies_have_one_name():
    assert technology_label("Vizgen MERSCOPE").nicheformer == "merfish"
    assert technology_label("10x Visium").single_cell is False
    with pytest.raises(ConfigError, match="Did you mean 'xenium'"):
        technology_label("xeniun")


def test_sparse_neighbours_of_other_data_are_refused(scattered):
    graph = spatial_graph(scattered)
    part = scattered[:10].copy()
    part.obs["cell_type"] = "a"
    with pytest.raises(DataError, match="graph has 70 cells, the data 10"):
        neighbourhood_composition(part, graph=graph)
    assert sp.issparse(graph.connectivities)
