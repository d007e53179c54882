"""The pictures of networks, gene sets, drugs, in-silico perturbation, surroundings and genes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from cellweave import pl
from cellweave.errors import DataError
from cellweave.pl.axes import new_axes, plain, short
from cellweave.pl.colours import ACCENT, INK, MUTED, palette
from cellweave.reporting import Figure, Table
from cellweave.reporting.numbers import format_number
from cellweave_tasks.drug import DrugTask
from cellweave_tasks.genes import GeneTask
from cellweave_tasks.genesets import GeneSetTask
from cellweave_tasks.insilico import InSilicoTask
from cellweave_tasks.neighbourhood import DENSITY, NeighbourhoodTask
from cellweave_tasks.networks import NetworkTask

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from cellweave.records import Scores

__all__ = ["PICTURES", "curve_figure", "likeness_figure", "precision_recall"]

Blocks = tuple[Figure | Table, ...]
_MOST_POINTS = 2000
_MOST_ROWS = 15
_MOST_NAMED = 10


def precision_recall(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw precision over recall for several scores, and the line of chance.

    Parameters
    ----------
    curves
        Name to what is true (bool) and its score; the first is drawn strongest.
    title
        Above the picture.
    ax
        Where to draw.
    """
    ax = new_axes(ax, width=4.8, height=3.4)
    colours = {**palette(list(curves)), next(iter(curves)): ACCENT}
    shares = [float(np.mean(truth)) for truth, _ in curves.values()]
    is_shared = np.ptp(shares) < 1e-9
    for i, (name, (truth, values)) in enumerate(curves.items()):
        precision, recall, _ = precision_recall_curve(truth, values)
        if len(recall) > _MOST_POINTS:
            at = np.unique(np.linspace(0, len(recall) - 1, _MOST_POINTS).astype(int))
            precision, recall = precision[at], recall[at]
        area = float(average_precision_score(truth, values))
        ax.step(
            recall, precision, where="post", color=colours[name], lw=2.0 if i == 0 else 1.2,
            label=f"{short(name, 30)}  {area:.3f}" + ("" if is_shared else f" of {shares[i]:.3f}"),
            zorder=3 if i == 0 else 2,
        )  # fmt: skip
    if is_shared:
        ax.axhline(shares[0], color=MUTED, lw=1, ls="--", label=f"chance  {shares[0]:.3f}")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.03)
    ax.set_xlabel("recall", fontsize=9, color=INK)
    ax.set_ylabel("precision", fontsize=9, color=INK)
    ax.legend(
        frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0),
        title="area" if is_shared else "area, and that of chance", title_fontsize=8,
    )  # fmt: skip
    return plain(ax, title)


def curve_figure(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, name: str, title: str
) -> Figure:
    """Return precision over recall as a figure of a page."""
    ax = precision_recall(curves, title=title)
    return Figure(
        name=name,
        title=title,
        canvas=ax.figure,  # type: ignore[arg-type]
        look_for="Good: the curve stays high towards the right, far above the dashed line.",
    )


def likeness_figure(scores: Scores, *, own: str, rival: str) -> Figure | None:
    """Return the correlation of changes by how like training a perturbation is."""
    groups = ("unlike training", "between", "like training")
    found = {
        method: [
            s.value
            for g in groups
            for s in scores.items
            if (s.metric, s.method, s.group) == ("pearson_delta", method, g)
        ]
        for method in (own, rival)
    }
    if any(len(v) != len(groups) or None in v for v in found.values()):
        return None
    ax = new_axes(None, width=4.6, height=3.0)
    for i, (method, values) in enumerate(found.items()):
        heights = [float(v) for v in values if v is not None]
        places = np.arange(len(groups)) + 0.38 * (i - 0.5)
        ax.bar(places, heights, width=0.36, color=(ACCENT, MUTED)[i], label=short(method, 30))
    ax.set_xticks(range(len(groups)), groups)
    ax.set_ylabel("correlation of the change", fontsize=9, color=INK)
    ax.legend(
        frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0)
    )
    ax.axhline(0, color=INK, lw=0.6)
    return Figure(
        name="likeness",
        title="By likeness to training",
        canvas=plain(ax, "By likeness to training").figure,  # type: ignore[arg-type]
        look_for="Thirds of the test by the nearest training perturbation. Good: blue above grey "
        "on the left too.",
    )


def _network(task: NetworkTask, test: AnnData, scores: Scores) -> Blocks:
    table = task.table(test).head(_MOST_ROWS)
    rows = [
        (str(s), str(t), format_number(float(v)))
        for s, t, v in table[["source", "target", "score"]].to_numpy(dtype=object)
    ]
    links = Table(header=("Regulator", "Target", "Score"), rows=rows, title="The strongest links")
    curves = task.curves()
    if not curves:
        return (links,)
    return curve_figure(curves, name="precision-recall", title="Known links found"), links


def _gene_sets(task: GeneSetTask, test: AnnData, scores: Scores) -> Blocks:
    table = task.selected().head(_MOST_ROWS)
    if table.empty:
        return ()
    labels = [c for c in table.columns if c not in ("weight", "n_genes", "stability")]
    values = table[labels].to_numpy(dtype=float)
    size = 0.9 + 0.24 * len(table)
    ax = new_axes(None, width=3.6 + 0.42 * len(labels), height=size + 0.5)
    most = float(np.abs(values).max()) or 1.0
    signed = bool((values < 0).any())
    dots = ax.imshow(
        values, cmap="RdBu_r" if signed else "Blues", vmin=-most if signed else 0, vmax=most,
        aspect="auto",
    )  # fmt: skip
    ax.set_yticks(range(len(table)), [short(str(n).replace("_", " "), 44) for n in table.index])
    names = [short(str(c), 18) for c in labels]
    ax.set_xticks(range(len(labels)), names, rotation=45, ha="right", rotation_mode="anchor")
    if ax.figure is not None:
        bar = ax.figure.colorbar(dots, ax=ax, shrink=0.7, aspect=14, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)
    figure = Figure(
        name="gene-sets",
        title="Sets that decide",
        canvas=plain(ax, "What each set tells of each label").figure,  # type: ignore[arg-type]
        look_for="Rows are the chosen sets, strongest on top; dark: much told of this label.",
        wide=True,
    )
    rows = [
        (str(n), *(format_number(float(v)) for v in r))
        for n, r in zip(table.index, table.iloc[:, :3].to_numpy(dtype=float), strict=True)
    ]
    header = ("Set", *(str(c) for c in table.columns[:3]))
    return figure, Table(header=header, rows=rows, title="The sets in numbers")


def _drugs(task: DrugTask, test: AnnData, scores: Scores) -> Blocks:
    said = np.asarray(task.predict(test).values, dtype=float)
    true = test.obs[task.response_key].to_numpy(dtype=float)
    ax = new_axes(None, width=3.8, height=3.6)
    ax.axline((float(true.mean()), float(true.mean())), slope=1, color=INK, lw=0.6)
    ax.scatter(true, said, s=5, color=ACCENT, lw=0, alpha=0.6, rasterized=True)
    ax.set_xlabel("measured response", fontsize=9, color=INK)
    ax.set_ylabel("predicted response", fontsize=9, color=INK)
    pairs = Figure(
        name="responses",
        title="Measured and predicted",
        canvas=plain(ax, "One dot a pair").figure,  # type: ignore[arg-type]
        look_for="Good: dots on the line. A mean of each drug makes a good cloud too: see beside.",
    )
    own = {
        s.group.removeprefix("drug:"): max(s.value, 0.0)
        for s in scores.items
        if s.metric == "pearson_per_drug" and s.method == task.name and s.group and s.value
    }
    if not own:
        return (pairs,)
    ax = pl.worst_types(own, most=20, title="Correlation over cells, worst drug on top")
    ax.set_xlabel("correlation within the drug", fontsize=9, color=INK)
    return pairs, Figure(name="drugs", title="Within each drug", canvas=ax.figure)  # type: ignore[arg-type]


def _in_silico(task: InSilicoTask, test: AnnData, scores: Scores) -> Blocks:
    table = task.table(test)
    ax = new_axes(None, width=4.6, height=3.6)
    surely = table["q"].to_numpy() < 0.05
    height = -np.log10(np.maximum(table["q"].to_numpy(), 1e-50))
    ax.scatter(table["shift"], height, s=8, c=np.where(surely, ACCENT, MUTED), lw=0)
    for i, gene in enumerate(table.index[:_MOST_NAMED]):
        ax.annotate(
            short(str(gene), 18), (table["shift"].iloc[i], height[i]), xytext=(1.03, 1 - 0.075 * i),
            textcoords="axes fraction", fontsize=7.5, color=INK, va="center",
            arrowprops={"arrowstyle": "-", "color": MUTED, "lw": 0.4, "shrinkB": 2},
        )  # fmt: skip
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel("shift towards the goal" if task.goal else "impact", fontsize=9, color=INK)
    ax.set_ylabel("−log10 q", fontsize=9, color=INK)
    figure = Figure(
        name="shifts",
        title="What editing each gene does",
        canvas=plain(ax, f"{task.how}, one dot a gene").figure,  # type: ignore[arg-type]
        look_for="Right: towards the goal. Blue: q below 0.05. The ten furthest are named.",
    )
    if task.truth_key not in test.var:
        return (figure,)
    truth = test.var[task.truth_key].astype(bool).reindex(table.index).fillna(value=False)
    curves = {task.name: (truth.to_numpy(dtype=bool), table["shift"].to_numpy())}
    return figure, curve_figure(curves, name="precision-recall", title="Known genes found")


def _surroundings(task: NeighbourhoodTask, test: AnnData, scores: Scores) -> Blocks:
    found = task.predict(test)
    truth = task.truth(test)
    columns = np.asarray(found.columns, dtype=str)
    places = np.asarray(test.obsm[task.spatial_key])[:, :2]
    most = int(truth[:, :-1].std(axis=0).argmax())
    figures: list[Figure | Table] = []
    for at in (most, len(columns) - 1):
        what = "Density" if columns[at] == DENSITY else f"Share of {short(str(columns[at]), 20)}"
        for name, values in (("measured", truth), ("predicted", found.values)):
            ax = pl.spatial_map(places, color=values[:, at], title=f"{what}, {name}")
            figures.append(
                Figure(name=f"map-{at}-{name}", title=f"{what}, {name}", canvas=ax.figure)  # type: ignore[arg-type]
            )
    own = {
        s.group: max(s.value, 0.0)
        for s in scores.items
        if s.metric == "pearson" and s.method == task.name and s.group and s.value is not None
    }
    if own:
        ax = pl.worst_types(own, most=20, title="Correlation, worst type on top")
        ax.set_xlabel("correlation of the share", fontsize=9, color=INK)
        figures.append(Figure(name="types", title="How well each is told", canvas=ax.figure))  # type: ignore[arg-type]
    return tuple(figures)


def _genes(task: GeneTask, test: AnnData, scores: Scores) -> Blocks:
    found = task.predict(test)
    labels = test.var[task.label_key]
    known = labels.notna().to_numpy() & (labels.astype(str) != "").to_numpy()
    truth = labels.astype(str).to_numpy()[known]
    if found.probabilities is None or found.columns is None:
        msg = "Predictions of genes carry no probabilities. Fit the task again."
        raise DataError(msg)
    curves = {
        str(c): (truth == c, found.probabilities[known, i].astype(float))
        for i, c in enumerate(found.columns)
        if 0 < (truth == c).sum() < len(truth)
    }
    if not curves:
        return ()
    return (curve_figure(curves, name="precision-recall", title="Genes of each class found"),)


PICTURES: dict[type, Callable[[Any, AnnData, Scores], Blocks]] = {
    NetworkTask: _network,
    GeneSetTask: _gene_sets,
    DrugTask: _drugs,
    InSilicoTask: _in_silico,
    NeighbourhoodTask: _surroundings,
    GeneTask: _genes,
}
