"""Every picture draws on the axes it is given, returns it, and leaves pyplot alone."""

import io
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from cellweave import pl
from cellweave.errors import DataError
from cellweave.pl.colours import palette
from cellweave.records import Matches, Score

RNG = np.random.default_rng(0)
GENES = pd.DataFrame(
    {"chrom": ["chr1", "chr1"], "chromStart": [1000, 9000], "chromEnd": [3000, 9500],
     "strand": ["+", "-"]}, index=["MS4A1", "CD3E"],
)  # fmt: skip
REGIONS = pd.DataFrame(
    {"chrom": ["chr1", "chr1", "chr2"], "chromStart": [200, 8000, 5], "chromEnd": [700, 8500, 9]},
    index=["p0", "p1", "p2"],
)
LINKS = pd.DataFrame(
    {"source": ["MS4A1"] * 3 + ["CD3E"], "target": ["p0", "p1", "p2", "p1"],
     "weight": [0.9, 0.4, 0.3, 0.2], "sign": [1, -1, 1, 1]}
)  # fmt: skip
DRAWINGS = {
    "umap-names": lambda ax: pl.umap(RNG.normal(size=(50, 2)), color=["a", "b"] * 25, ax=ax),
    "umap-numbers": lambda ax: pl.umap(RNG.normal(size=(50, 2)), color=np.r_[np.nan, :49], ax=ax),
    "umap-plain": lambda ax: pl.umap(RNG.normal(size=(50, 2)), ax=ax),
    "umap-one-value": lambda ax: pl.umap(RNG.normal(size=(5, 2)), color=np.ones(5), ax=ax),
    "spatial": lambda ax: pl.spatial_map(RNG.normal(size=(50, 2)), color=["a"] * 50, ax=ax),
    "ion": lambda ax: pl.ion_image(np.argwhere(np.ones((4, 5))), np.arange(20), ax=ax),
    "confusion": lambda ax: pl.confusion(["a", "b", "b"], ["a", "b", "a"], ax=ax),
    "metrics": lambda ax: pl.metrics_table(
        [Score(metric="foscttm", value=0.1, method="glue", best=0.0, chance=0.5)], ax=ax
    ),
    "losses": lambda ax: pl.losses({"loss": np.arange(5.0), "$x_{": np.ones(1)}, ax=ax),
    "matches": lambda ax: pl.match_scores(
        Matches(source="rna", target="prot", rows=np.arange(9), cols=np.arange(9),
                scores=np.linspace(0, 1, 9)), ax=ax,
    ),
    "worst": lambda ax: pl.worst_types({"a": 0.2, "_b": 0.9}, chance=0.3, ax=ax),
    "genome": lambda ax: pl.links_on_genome(LINKS, GENES, REGIONS, gene="MS4A1", ax=ax),
    "violins": lambda ax: pl.qc_violins(
        pd.DataFrame({"n_genes": RNG.poisson(900, 60)}), "n_genes", by=["x"] * 59 + ["y"],
        limits=(200, None), log=True, ax=ax,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_on_the_axes_it_is_given(name):
    figure = Figure()
    ax = figure.add_subplot()
    assert DRAWINGS[name](ax) is ax
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert DRAWINGS[name](None).figure is not figure


def test_pyplot_is_never_loaded():
    import subprocess

    code = (
        "import sys, numpy as np; from cellweave import pl;"
        "pl.umap(np.eye(9, 2), color=np.arange(9.)).figure.savefig('/dev/null', format='png');"
        "pl.confusion(['a'], ['a']); pl.losses({'a': np.arange(3.)});"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_palette_has_apart_colours_and_grey_for_unknown():
    colours = pl.palette([f"t{i}" for i in range(24)] + ["unknown"])
    assert len(set(colours.values())) == 25
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours.values()])
    gaps = np.abs(rgb[:, None] - rgb[None]).sum(-1)[~np.eye(25, dtype=bool)]
    assert gaps.min() >= 40
    assert pl.palette(["a", "b"]) == {k: colours[f"t{i}"] for i, k in enumerate("ab")}


def test_genome_draws_only_the_genes_own_chromosome():
    ax = pl.links_on_genome(LINKS, GENES, REGIONS, gene="MS4A1")
    arcs = [line for line in ax.lines if len(line.get_xdata()) == 60]
    assert len(arcs) == 2  # p2 lies on another chromosome
    ends = sorted(float(line.get_xdata()[-1]) for line in arcs)
    np.testing.assert_allclose(ends, [450.0, 8250.0])
    starts = {float(line.get_xdata()[0]) for line in arcs}
    assert starts == {1000.0}  # forward strand: the promoter is the lower end
    back = pl.links_on_genome(LINKS, GENES, REGIONS, gene="CD3E")
    assert float(next(x for x in back.lines if len(x.get_xdata()) == 60).get_xdata()[0]) == 9500.0


def test_confusion_rows_are_shares():
    image = pl.confusion(["a", "a", "a", "b"], ["a", "a", "b", "b"]).images[0].get_array()
    np.testing.assert_allclose(image, [[2 / 3, 1 / 3], [0, 1]])


def test_ion_image_places_pixels():
    image = pl.ion_image([[5, 7], [6, 7], [5, 8]], [1.0, 2.0, 3.0]).images[0].get_array()
    np.testing.assert_allclose(np.ma.filled(image, -1), [[1, 2], [3, -1]])


def test_layout_of_cells_that_differ_by_rounding_alone_is_finite():
    rng = np.random.default_rng(0)
    points = (1.8 + 1e-6 * rng.normal(size=(200, 16))).astype("f4")
    assert np.isfinite(pl.layout(points)).all()


def test_layout_is_the_same_again_and_separates():
    points = np.r_[RNG.normal(size=(60, 8)), RNG.normal(size=(60, 8)) + 12]
    one, two = pl.layout(points, 3), pl.layout(points, 3)
    np.testing.assert_array_equal(one, two)
    centres = one[:60].mean(0), one[60:].mean(0)
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * one[:60].std()
    assert pl.layout(points[:5]).shape == (5, 2)
    assert pl.layout(np.ones((3, 1))).shape == (3, 2)


def test_errors_say_what_there_is():
    with pytest.raises(DataError, match="`color` has 2 values for 9 cells"):
        pl.umap(np.eye(9, 2), color=["a", "b"])
    with pytest.raises(DataError, match="'FOO' has no link"):
        pl.links_on_genome(LINKS, GENES, REGIONS, gene="FOO")
    with pytest.raises(DataError, match="`genes` lacks chrom"):
        pl.links_on_genome(LINKS, pd.DataFrame(index=["MS4A1"]), REGIONS, gene="MS4A1")
    with pytest.raises(DataError, match="no quality measure 'x'"):
        pl.qc_violins(pd.DataFrame({"n": [1]}), "x")
    with pytest.raises(DataError, match="no finite value"):
        pl.losses({})
    with pytest.raises(DataError, match="no type to draw"):
        pl.worst_types({})
    with pytest.raises(DataError, match="holds NaN"):
        pl.layout(np.full((30, 3), np.nan))


def test_types_named_differently_get_rows_and_columns_of_their_own():
    ax = pl.confusion(np.array(["a", "b", "b", "c"]), np.array(["z", "y", "y", "x"]))
    rows = [t.get_text() for t in ax.get_yticklabels()]
    columns = [t.get_text() for t in ax.get_xticklabels()]
    assert (rows, columns) == (["a", "b", "c"], ["z", "y", "x"])
    square = pl.confusion(np.array(["a", "b", "c"]), np.array(["a", "b", "d"]))
    assert len(square.get_xticklabels()) == len(square.get_yticklabels()) == 4


def test_many_types_have_colours_of_their_own_and_a_legend_that_fits():
    names = [f"a type with a long name {i}" for i in range(45)]
    assert len(set(palette(names).values())) == 45
    points = np.random.default_rng(0).normal(size=(450, 2))
    ax = pl.umap(points, color=np.repeat(names, 10))
    ax.figure.draw_without_rendering()
    shown = ax.get_legend().get_window_extent()
    assert shown.x1 <= ax.figure.bbox.x1 + 1
