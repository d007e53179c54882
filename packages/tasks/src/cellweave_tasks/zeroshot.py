"""The zero-shot protocol (Kedzierska et al. 2025): models as published, beside plain baselines.

Up to 7 500 cells are drawn. Every model embeds them without any training on them; the variable
genes, their principal axes and Harmony on these are always scored beside, scVI when asked for. The
scores are those of :mod:`cellweave_tasks.embedding_scores`, once for each column of labels; cells
without a label of a column are left out of that column's scores. Models with a head of pretraining
also fill in hidden genes: :mod:`cellweave_tasks.masked_genes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.records import Score, Scores
from cellweave_tasks.features import as_dense, column_of, features_of
from cellweave_tasks.integration import IntegrationTask, Representation
from cellweave_tasks.masked_genes import MaskedGenes, masked_genes, masked_sentence
from cellweave_tasks.records import provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.contracts import Model

__all__ = ["ZeroShot", "find_models", "zero_shot"]

_NO_BATCHES = "one_batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShot:
    """Scores, the embeddings they are of, and the cells that were drawn.

    Parameters
    ----------
    scores
        Of the first column of labels in group ``""``, of others in group ``"labels:NAME"``.
    representations
        Models first, then the baselines.
    cells
        The cells drawn.
    models, baselines
        Names of both, as in the scores.
    label_keys, batch_key
        What was scored against.
    masked, unmasked
        What models said of hidden genes, and the models that have no head for it.
    """

    scores: Scores
    representations: tuple[Representation, ...]
    cells: AnnData
    models: tuple[str, ...]
    baselines: tuple[str, ...]
    label_keys: tuple[str, ...]
    batch_key: str
    masked: tuple[MaskedGenes, ...] = ()
    unmasked: tuple[str, ...] = ()


def find_models(names: Sequence[str], adata: AnnData) -> dict[str, Model | str]:
    """Return name to model folder loaded, or to the ``obsm`` key; all that are neither are told."""
    import cellweave

    wrong = [n for n in names if n not in adata.obsm and not Path(n).exists()]
    if wrong:
        hints = "".join(closest(n, adata.obsm) for n in wrong)
        msg = (
            f"{one_of(wrong)} is no folder, no file and no `obsm` key.{hints} `obsm` has: "
            f"{one_of(adata.obsm)}. Give a model's folder, or embed first."
        )
        raise ConfigError(msg)
    found: dict[str, Model | str] = {}
    for name in names:
        label = name if name in adata.obsm else Path(name).name
        if label in found:
            msg = f"Two models are called {label!r}. Rename a folder: names tell them apart."
            raise ConfigError(msg)
        found[label] = name if name in adata.obsm else cellweave.load(name)
    return found


def zero_shot(
    adata: AnnData,
    models: Mapping[str, Model | str],
    *,
    label_keys: Sequence[str] = ("cell_type",),
    batch_key: str | None = "batch",
    baselines: Sequence[str] = (),
    ontology: str | None = None,
    scib: bool = False,
    max_cells: int = 7500,
    masked_share: float = 0.15,
    batch_size: int = 32,
    device: str = "cpu",
    seed: int = 0,
) -> ZeroShot:
    """Score models on cells they were not trained on, beside HVG, PCA and Harmony.

    Parameters
    ----------
    adata
        Prepared cells; models read ``layers["counts"]``.
    models
        Name to a model, or to the ``obsm`` key of what it gave.
    label_keys
        ``obs`` columns of types.
    batch_key
        ``obs`` column of batches; ``None``, or a column of one value, where there is one.
    baselines
        More of them, e.g. ``["scvi"]``.
    ontology
        OBO file of the Cell Ontology, for scGraph-OntoRWR.
    scib
        Add the numbers of the package scib-metrics.
    max_cells
        Cells drawn.
    masked_share
        Of the genes of each cell, hidden from models that can fill them in; 0: this part is left.
    batch_size, device
        For the models.
    seed
        Of the draw, the hidden genes, the clusters and the baselines.
    """
    settings = {
        "models": sorted(models), "label_keys": list(label_keys), "batch_key": batch_key,
        "baselines": list(baselines), "ontology": ontology, "scib": scib, "max_cells": max_cells,
        "masked_share": masked_share,
    }  # fmt: skip
    _refuse_before_work(adata, models, label_keys, batch_key)
    _refuse_share(masked_share)
    task = IntegrationTask(
        use_rep=None, label_key=label_keys[0], batch_key=batch_key or _NO_BATCHES,
        baselines=list(baselines), ontology=ontology, scib=scib, max_cells=max_cells, seed=seed,
    )  # fmt: skip
    cells = _drawn(task, adata, label_keys, batch_key)
    plain = sorted(task.fit(cells).representations(cells), key=lambda r: r.name != "HVG")
    found = [*_embedded(cells, models, batch_size=batch_size, device=device), *plain]
    items: list[Score] = []
    for i, key in enumerate(label_keys):
        scored = _scored(task, cells, found, key)
        items += [replace(s, group=f"labels:{key}" if i else "") for s in scored]
    names, rivals = tuple(models), tuple(r.name for r in plain)
    masked, unable = _masked(
        cells, models, masked_share, batch_size=batch_size, device=device, seed=seed
    )
    summary = _summary(items, names, rivals, cells.n_obs)
    summary["sentences"] += [masked_sentence(one) for one in masked]
    scores = Scores(
        items=(*items, *(s for one in masked for s in one.scores)),
        provenance=provenance_of("zeroshot", settings, seed),
        summary=summary,
    )
    return ZeroShot(
        scores=scores, representations=tuple(found), cells=cells, models=names, baselines=rivals,
        label_keys=tuple(label_keys), batch_key=task.batch_key, masked=masked, unmasked=unable,
    )  # fmt: skip


def _masked(
    cells: AnnData, models: Mapping[str, Model | str], share: float, **how: Any
) -> tuple[tuple[MaskedGenes, ...], tuple[str, ...]]:
    """Hide genes from the models that are loaded; keys of ``obsm`` cannot be asked."""
    loaded = {name: model for name, model in models.items() if not isinstance(model, str)}
    return masked_genes(cells, loaded, share=share, **how) if share else ((), ())


def _refuse_share(masked_share: float) -> None:
    if not 0 <= masked_share < 1:
        msg = (
            f"masked_share={masked_share!r}. Give a share of each cell's genes, from 0 to below 1."
        )
        raise ConfigError(msg)


def _refuse_before_work(
    adata: AnnData,
    models: Mapping[str, Model | str],
    label_keys: Sequence[str],
    batch_key: str | None,
) -> None:
    if not models or not label_keys:
        msg = f"{len(models)} models and {len(label_keys)} columns of labels. Give one of each."
        raise ConfigError(msg)
    for key in [*label_keys, *([batch_key] if batch_key else [])]:
        column_of(adata, key)
    for model in models.values():
        if isinstance(model, str):
            features_of(adata, model)


def _drawn(
    task: IntegrationTask, adata: AnnData, label_keys: Sequence[str], batch_key: str | None
) -> AnnData:
    """Draw among the cells that have a label in any column."""
    known = np.any([column_of(adata, key) != "" for key in label_keys], axis=0)
    cells = task.drawn(adata[known]).copy()
    if batch_key is None:
        cells.obs[_NO_BATCHES] = "all"
    return cells


def _embedded(
    cells: AnnData, models: Mapping[str, Model | str], *, batch_size: int, device: str
) -> list[Representation]:
    found = []
    for name, model in models.items():
        if isinstance(model, str):
            values = as_dense(features_of(cells, model))
        else:
            values = model.embed(cells, batch_size=batch_size, device=device).values
        if not np.isfinite(values).all():
            msg = f"{name!r} gave NaN or infinity. Check the weights with `cellweave verify`."
            raise DataError(msg)
        found.append(Representation(name=name, values=values))
    return found


def _scored(
    task: IntegrationTask, cells: AnnData, found: list[Representation], key: str
) -> tuple[Score, ...]:
    known = column_of(cells, key) != ""
    if known.all():
        return task.score(cells, found, label_key=key).items
    kept = [replace(r, values=None if r.values is None else r.values[known]) for r in found]
    return task.score(cells[known], kept, label_key=key).items


def _summary(
    items: Sequence[Score], models: Sequence[str], baselines: Sequence[str], n_cells: int
) -> dict[str, Any]:
    """Compare each model with the best baseline in keeping types, and in mixing batches."""
    sentences, gaps = [], {}
    for metric, what in (("avg_bio", "keeping types apart"), ("avg_batch", "mixing batches")):
        value = {
            s.method: s.value
            for s in items
            if s.metric == metric and not s.group and s.value is not None
        }
        rivals = [b for b in baselines if b in value]
        if not rivals or not set(models) <= set(value):
            continue
        best = max(rivals, key=lambda b: value[b])
        for model in models:
            gap = value[model] - value[best]
            gaps[f"{metric}_gap:{model}"] = gap
            verb = "beats" if gap > 0 else "does NOT beat"
            sentences.append(
                f"{model} {verb} the best baseline, {best}, in {what} "
                f"({metric} {value[model]:.3f} to {value[best]:.3f})."
            )
    return {"headline": sentences[0], "sentences": sentences, "n_cells": n_cells, **gaps}
