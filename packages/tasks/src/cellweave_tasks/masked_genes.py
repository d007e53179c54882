"""Masked genes: what models say of entries hidden from them, beside what the shown ones say alone.

The second half of the zero-shot protocol (Kedzierska et al. 2025). Values (bins of scGPT and
scBERT, log-normalised ones of scFoundation) are scored by

    mse = mean (guess - truth)^2;  r2 = 1 - mse / var(truth);  pearson = corr(guess, truth)

beside the mean of all shown values and the mean of the gene's. Genes (Geneformer, Nicheformer) by
how often the hidden gene is named, and by the rank correlation of its place with the place at which
the named gene usually stands, beside the gene most often shown there. Each model is scored in its
own units, so that scores are compared with its baselines and not between models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.records import Score

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.reporting import Figure, Section

__all__ = ["MaskedGenes", "masked_figure", "masked_genes", "masked_section", "masked_sentence"]

_MOST_CELLS = 1000
_MOST_DRAWN = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedGenes:
    """Hold what one model said of hidden genes, and its scores.

    Parameters
    ----------
    model
        Its name.
    found
        The hidden entries: a ``cellweave_nn.checkpoints.Reconstruction``.
    scores
        Group ``"masked:NAME"``; the model first, then the baselines.
    """

    model: str
    found: Any
    scores: tuple[Score, ...]


def masked_genes(
    cells: AnnData,
    models: Mapping[str, Any],
    *,
    share: float,
    batch_size: int,
    device: str,
    seed: int,
) -> tuple[tuple[MaskedGenes, ...], tuple[str, ...]]:
    """Score the models that can fill in hidden genes, on up to 1 000 cells; name the others."""
    done, unable = [], []
    cells = _some(cells, seed)
    for name, model in models.items():
        if getattr(model, "reconstructs", None) is None:
            unable.append(name)
            continue
        found = model.reconstruct(
            cells, share=share, batch_size=batch_size, device=device, seed=seed
        )
        done.append(MaskedGenes(model=name, found=found, scores=tuple(_scores(name, found))))
    return tuple(done), tuple(unable)


def _some(cells: AnnData, seed: int) -> AnnData:
    """Draw cells: of each hundreds of genes are hidden, and a decoder of all genes is slow."""
    if cells.n_obs <= _MOST_CELLS:
        return cells
    rows = np.random.default_rng(seed).choice(cells.n_obs, _MOST_CELLS, replace=False)
    return cells[np.sort(rows)].copy()


def _scores(name: str, found: Any) -> list[Score]:
    compute = _of_values if found.kind == "values" else _of_genes
    items = []
    for method, guess in {name: found.guess, **found.baselines}.items():
        for metric, value in compute(found, np.asarray(guess)).items():
            lower = metric == "masked_mse"
            items.append(
                Score(
                    metric=metric, value=value, method=method, group=f"masked:{name}",
                    higher_is_better=not lower, best=0.0 if lower else 1.0,
                    note="" if value is not None else "guesses or hidden values are all the same",
                )
            )  # fmt: skip
    return items


def _of_values(found: Any, guess: np.ndarray) -> dict[str, float | None]:
    truth = np.asarray(found.truth, dtype=np.float64)
    error = float(np.mean((guess - truth) ** 2))
    spread = float(truth.var())
    return {
        "masked_mse": error,
        "masked_r2": 1 - error / spread if spread > 0 else None,
        "masked_pearson": _correlation(guess.astype(np.float64), truth),
    }


def _of_genes(found: Any, guess: np.ndarray) -> dict[str, float | None]:
    usual = found.place_of[guess]
    known = np.isfinite(usual)
    return {
        "masked_accuracy": float(np.mean(guess == found.truth)),
        "masked_rank_correlation": _correlation(_ranks(usual[known]), _ranks(found.places[known])),
    }


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    ranks: np.ndarray = rankdata(values)
    return ranks


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def masked_sentence(done: MaskedGenes) -> str:
    """Say whether the model beats its best baseline."""
    metric = "masked_r2" if done.found.kind == "values" else "masked_accuracy"
    value = {s.method: s.value for s in done.scores if s.metric == metric and s.value is not None}
    if done.model not in value:
        return f"Nothing can be told of {done.model}'s guesses: all hidden values are the same."
    rivals = [m for m in value if m != done.model]
    best = max(rivals, key=lambda m: value[m])
    verb = "beats" if value[done.model] > value[best] else "does NOT beat"
    return (
        f"Of hidden genes {done.model} {verb} the best baseline, {best} "
        f"({metric} {value[done.model]:.3f} to {value[best]:.3f})."
    )


def masked_figure(done: MaskedGenes) -> Figure:
    """Draw what the model said against what was hidden."""
    from cellweave.pl.axes import new_axes
    from cellweave.pl.colours import ACCENT, MUTED
    from cellweave.reporting import Figure

    found = done.found
    if found.kind == "values":
        x, y, labels = found.truth, found.guess, ("hidden value", "what the model says")
    else:
        x, y = found.places, found.place_of[found.guess]
        labels = ("place of the hidden gene", "usual place of the gene that the model names")
    rows = np.flatnonzero(np.isfinite(y))
    if len(rows) > _MOST_DRAWN:
        rows = np.sort(np.random.default_rng(0).choice(rows, _MOST_DRAWN, replace=False))
    ax = new_axes(None)
    ax.scatter(x[rows], y[rows], s=3, color=ACCENT, alpha=0.3, linewidths=0, rasterized=True)
    ends = (float(np.min(x)), float(np.max(x)))
    ax.plot(ends, ends, color=MUTED, linewidth=1)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    ax.set_title(f"{done.model}: hidden genes")
    return Figure(
        name=f"masked-{done.model}",
        title=f"{done.model}: hidden genes",
        canvas=ax.figure,  # type: ignore[arg-type]
        look_for="Good: points along the line.",
    )


def masked_section(done: Sequence[MaskedGenes], unable: Sequence[str]) -> Section:
    """Return the part of the page: a table and a picture a model."""
    from dataclasses import replace

    from cellweave.reporting import Section
    from cellweave_tasks.embedding_pages import wide_table

    blocks: list[Any] = []
    for one in done:
        blocks += [wide_table([replace(s, group="") for s in one.scores]), masked_figure(one)]
    lead = (
        "A share of the genes of up to 1,000 cells is hidden. Baselines read the shown ones alone."
    )
    if unable:
        lead += f" No head for this in {', '.join(unable)}."
    return Section(title="Hidden genes", lead=lead, blocks=tuple(blocks))
