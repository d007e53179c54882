"""Pictures and tables of embeddings side by side: UMAPs by type and by batch, who leads in what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellweave import pl
from cellweave.reporting import Figure, Table
from cellweave.reporting.numbers import format_number
from cellweave_tasks.features import column_of, labels_of

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Score, Scores
    from cellweave_tasks.integration import IntegrationTask, Representation

__all__ = ["embedding_figures", "integration_figures", "wide_table"]

_MOST_DRAWN = 5000


def integration_figures(task: IntegrationTask, test: AnnData, scores: Scores) -> tuple[Figure, ...]:
    """Draw the task's own representation, and the principal axes beside it."""
    cells = task.drawn(test)
    return embedding_figures(
        task.representations(cells, baselines=("PCA",)),
        labels_of(cells, task.label_key),
        column_of(cells, task.batch_key),
        seed=task.seed,
    )


def embedding_figures(
    representations: Sequence[Representation],
    labels: np.ndarray,
    batches: np.ndarray | None,
    *,
    seed: int = 0,
) -> tuple[Figure, ...]:
    """Draw each embedding twice, by type and by batch, in the same colours throughout."""
    rows = np.arange(len(labels))
    if len(rows) > _MOST_DRAWN:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), _MOST_DRAWN, replace=False))
    shown = [("type", labels[rows])]
    if batches is not None and len(set(batches.tolist())) > 1:
        shown.append(("batch", batches[rows]))
    hints = {"type": "Good: one island a type.", "batch": "Good: colours mixed in every island."}
    figures = []
    for i, found in enumerate(r for r in representations if r.values is not None):
        places = pl.layout(np.asarray(found.values)[rows], seed)
        for what, values in shown:
            colours = pl.palette(sorted(set(values.tolist())))
            ax = pl.umap(places, color=values, colours=colours, title=f"{found.name}, by {what}")
            figures.append(
                Figure(
                    name=f"umap-{i}-{what}",
                    title=f"{found.name}, by {what}",
                    canvas=ax.figure,  # type: ignore[arg-type]
                    look_for=hints[what],
                )
            )
    return tuple(figures)


def wide_table(items: Sequence[Score]) -> Table:
    """Return one row an embedding and one column a measure, the best of each marked."""
    whole = [s for s in items if not s.group]
    metrics = list(dict.fromkeys(s.metric for s in whole if s.value is not None))
    methods = list(dict.fromkeys(s.method for s in whole))
    value = {(s.method, s.metric): s for s in whole}
    best = {metric: _best(whole, metric) for metric in metrics}
    rows = []
    for method in methods:
        cells = [value.get((method, metric)) for metric in metrics]
        texts = [format_number(s.value) if s and s.value is not None else "–" for s in cells]
        marked = [f"{t} ★" if best[m] == method else t for t, m in zip(texts, metrics, strict=True)]
        rows.append((method, *marked))
    lower = sorted({s.metric for s in whole if s.higher_is_better is False})
    note = f"★ best of the column; higher is better, but not in {', '.join(lower)}."
    return Table(header=("Embedding", *metrics), rows=rows, note=note)


def _best(items: Sequence[Score], metric: str) -> str:
    found = [s for s in items if s.metric == metric and s.value is not None]
    sign = -1.0 if found[0].higher_is_better is False else 1.0
    return max(found, key=lambda s: sign * (s.value or 0.0)).method
