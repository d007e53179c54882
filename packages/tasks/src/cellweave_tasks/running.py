"""Run tasks on files: read, prepare what is raw, split, fit, score; once, or over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellweave.errors import ConfigError, DataError, one_of
from cellweave.records import Prediction, Score, Scores
from cellweave.storage import write_bytes
from cellweave_tasks.features import column_of
from cellweave_tasks.perturbation_splits import (
    unseen_context,
    unseen_pairs,
    unseen_perturbations,
)
from cellweave_tasks.records import provenance_of
from cellweave_tasks.splits import (
    Split,
    by_fraction,
    by_group,
    by_tiles,
    by_unseen,
    grouped_folds,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.contracts import Task

__all__ = [
    "arranged",
    "bench",
    "default_split",
    "load_cells",
    "new_task",
    "only_labelled",
    "split_cells",
    "with_group",
    "write_prediction",
]

_SPLITS = (
    "fraction:0.2, tiles:0.2, group:KEY=NAME+NAME, unseen:KEY=0.2, unseen:KEY+KEY=0.2, each:KEY "
    "(bench), context:NAME, perturbations, pairs:0, pairs:1, pairs:2, all"
)
_ONE_KIND = (".h5ad",)
_WITH_LOGARITHMS = ("rna", "spatial")  # whose preparation takes `values="log1p"`


def new_task(name: str, **parameters: Any) -> Task:
    """Create a task by its name, with or without the ``tasks.`` before it."""
    import cellweave

    full = name if "." in name else f"tasks.{name}"
    task: Task = cellweave.create("task", full, **parameters)
    return task


def load_cells(
    path: str, *, modality: str | None = None, target: str | None = None, seed: int = 0
) -> AnnData:
    """Read one modality, prepared if its values are raw; with ``target`` in ``obsm``, if asked."""
    from mudata import MuData

    from cellweave.cli.commands_data import load_inputs

    # A file of one kind is of the kind that was named, whatever its values look like.
    named = modality and "=" not in path and Path(path).suffix in _ONE_KIND
    text = f"{modality}={path}" if named else path
    mdata = _by_kind(load_inputs([text]), [m for m in (modality, target) if m])
    chosen = modality or ("rna" if "rna" in mdata.mod else next(iter(mdata.mod)))
    wanted = [chosen] if target is None else [chosen, target]
    absent = [name for name in wanted if name not in mdata.mod]
    if absent:
        msg = f"{path!r} has no modality {absent[0]!r}. It has: {one_of(mdata.mod)}."
        raise DataError(msg)
    found = {name: _ready(MuData({name: mdata.mod[name]}), name, seed) for name in wanted}
    if target is None:
        return found[chosen]
    from cellweave_tasks.cross_modality import with_target

    return with_target(found[chosen], found[target])


def default_split(task: Task) -> str:
    """Return how cells are split when nobody says: the task's own way, or a fifth at random.

    Where groups must stay on one side, whole groups are held out.
    """
    group = getattr(task, "group_key", None)
    usual = f"unseen:{group}=0.2" if group else "fraction:0.2"
    return str(getattr(task, "default_split", usual))


def with_group(name: str, parameters: dict[str, Any], split: str | None) -> dict[str, Any]:
    """Add ``group_key`` where a split by groups names it and the task knows groups.

    The task then refuses a leak, and settles what it settles by groups of training.
    """
    kind, _, rest = (split or "").partition(":")
    key = rest.partition("=")[0]
    if kind not in ("group", "unseen", "each") or not key or "+" in key:
        return parameters
    if "group_key" in parameters or not hasattr(new_task(name, **parameters), "group_key"):
        return parameters
    return parameters | {"group_key": key}


def only_labelled(task: Task, adata: AnnData) -> tuple[AnnData, str]:
    """Leave out the cells whose label a task needs and that have none; say how many."""
    keys = getattr(task, "needs_labels", lambda cells: ())(adata)
    if not keys:
        return adata, ""
    kept = np.all([column_of(adata, key) != "" for key in keys], axis=0)
    n_out = int((~kept).sum())
    if n_out in (0, adata.n_obs):
        return adata, ""
    named = " or ".join(f"obs[{key!r}]" for key in keys)
    return adata[kept].copy(), f"{n_out} of {adata.n_obs} cells have no {named} and are left out."


def split_cells(
    adata: AnnData, text: str, *, parameters: dict[str, Any] | None = None, seed: int = 0
) -> Split:
    """Split by a short text, e.g. ``"group:batch=b1+b2"``."""
    kind, _, rest = text.partition(":")
    own = parameters or {}
    perturbed: dict[str, Any] = {k: own[k] for k in ("condition_key", "control") if k in own}
    if kind == "fraction":
        return by_fraction(adata.n_obs, test_fraction=_share(rest or "0.2", text), seed=seed)
    if kind == "tiles":
        key, share = own.get("spatial_key", "spatial"), _share(rest or "0.2", text)
        return by_tiles(adata, spatial_key=key, test_fraction=share, seed=seed)
    if kind == "group" and "=" in rest:
        key, _, names = rest.partition("=")
        return by_group(adata, key, names.split("+"))
    if kind == "unseen" and "=" in rest:
        keys, _, wanted = rest.partition("=")
        return by_unseen(adata, keys.split("+"), test_share=_share(wanted, text), seed=seed)
    if kind == "context" and rest:
        if own.get("context_key"):
            perturbed["context_key"] = own["context_key"]
        return unseen_context(adata, rest, **perturbed)
    if kind == "all":
        # For tasks that read no label before they score; any other refuses such a split.
        rows = np.arange(adata.n_obs)
        return Split(name="none: all cells", train=rows, test=rows)
    if kind == "perturbations":
        return unseen_perturbations(adata, seed=seed, **perturbed)
    if kind == "pairs" and rest in ("0", "1", "2"):
        return unseen_pairs(adata, seen=int(rest), seed=seed, **perturbed)
    raise ConfigError(_not_understood(text, kind, rest))


def _not_understood(text: str, kind: str, rest: str) -> str:
    if kind == "each" and rest:
        return (
            f"--split {text!r} leaves each group out in turn, which `cellweave bench` does. For "
            f"one task write --split group:{rest}=NAME."
        )
    return f"--split {text!r} is not understood. Write one of: {_SPLITS}."


def bench(
    name: str,
    adata: AnnData,
    *,
    methods: Sequence[str] = (),
    reps: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    split: str = "fraction:0.2",
    parameters: dict[str, Any] | None = None,
) -> Scores:
    """Score each method on each representation with each seed; means with spread, best first.

    The test cells of a seed are the same for all. ``"X"`` among ``reps`` stands for the values.
    ``split="each:KEY"`` leaves each group out in turn; the spread is then over the groups.
    """
    own = with_group(name, dict(parameters or {}), split)
    choices = [
        own | _given("method", m) | _given("use_rep", None if r == "X" else r, skip=r is None)
        for m in (methods or [None])  # type: ignore[list-item]
        for r in (reps or [None])  # type: ignore[list-item]
    ]
    for choice in choices:
        new_task(name, **choice)  # wrong names are told before work starts
    collected: dict[tuple[str, str], list[Score]] = {}
    headlines = []
    for shown, seed, parts in _parts(adata, split, seeds, own):
        train, test = adata[parts.train].copy(), adata[parts.test].copy()
        done: set[tuple[str, str]] = set()
        for choice in choices:
            scores = new_task(name, **(choice | {"seed": seed})).fit(train).evaluate(test)
            headlines.append(f"{shown}: {scores.summary.get('headline', '')}")
            for score in scores.items:
                key = score.metric, score.method
                if not score.group and score.value is not None and key not in done:
                    done.add(key)
                    collected.setdefault(key, []).append(score)
    over = "groups" if split.startswith("each:") else "seeds"
    items = [_over(found, over) for found in collected.values()]
    settings = {"split": split, "methods": list(methods), "reps": list(reps), **own}
    return Scores(
        items=tuple(_ranked(items)),
        provenance=provenance_of(f"bench {name}", settings | {"seeds": list(seeds)}, seeds[0]),
        summary={"headlines": headlines, "seeds": list(seeds), "n_cells": adata.n_obs},
    )


def _parts(
    adata: AnnData, split: str, seeds: Sequence[int], own: dict[str, Any]
) -> Iterator[tuple[str, int, Split]]:
    """Yield what each fit is called, its seed and its split."""
    if split.startswith("each:"):
        for part in grouped_folds(adata, split.partition(":")[2]):
            yield part.name, seeds[0], part
        return
    for seed in seeds:
        yield f"seed {seed}", seed, split_cells(adata, split, parameters=own, seed=seed)


def arranged(task: Task, adata: AnnData) -> AnnData:
    """Return the rows that a task splits: cells, or what it makes of them (drugs: pairs)."""
    arrange = getattr(task, "arranged", None)
    found: AnnData = adata if arrange is None else arrange(adata)
    return found


def write_prediction(task: Task, adata: AnnData, path: Path) -> None:
    """Predict and write: into a copy of the cells for h5ad, as arrays for npz, as a csv table."""
    found = task.predict(adata)
    if path.suffix == ".csv":
        write_bytes(path, _as_table(found).to_csv().encode(), kind="prediction_table")
        return
    if path.suffix == ".npz":
        found.save(path)
        return
    from cellweave.verbs.read import write

    copy = adata.copy()
    found.write(copy, key_added="prediction")
    write(copy, path)


def _as_table(found: Prediction) -> pd.DataFrame:
    values = np.asarray(found.values)
    columns = ["value"] if values.ndim == 1 else None
    if columns is None:
        named = found.columns is not None and len(found.columns) == values.shape[1]
        columns = [str(c) for c in found.columns] if named else None  # type: ignore[union-attr]
    table = pd.DataFrame(values, index=pd.Index(found.names, name="name"), columns=columns)
    return table if found.confidence is None else table.assign(confidence=found.confidence)


def _by_kind(mdata: Any, wanted: list[str]) -> Any:
    """Rename modalities that go by another name, such as ``adt``, to what their values show."""
    from mudata import MuData

    from cellweave.plugins import get_plugin_manager

    if all(name in mdata.mod for name in wanted):
        return mdata
    guess = get_plugin_manager().guess_modality
    named = {}
    for key, adata in mdata.mod.items():
        kind = None if key in wanted else guess(adata)
        named[kind if kind in wanted and kind not in mdata.mod else key] = adata
    return MuData(named)


def _ready(mdata: Any, name: str, seed: int) -> AnnData:
    """Return the modality prepared; values that somebody normalised are taken as they are."""
    from cellweave.validation import summarise_values
    from cellweave.validation.values import ValueKind
    from cellweave.verbs.prepare import is_prepared, prepare

    adata: AnnData = mdata.mod[name]
    kind = summarise_values(adata.X).kind
    if is_prepared(adata) or (kind is not ValueKind.COUNTS and "X_pca" in adata.obsm):
        return adata
    if kind is ValueKind.COUNTS or "counts" in adata.layers:
        return prepare(mdata, seed=seed).mod[name]
    if kind is ValueKind.LOG1P and name in _WITH_LOGARITHMS:
        return prepare(mdata, settings={name: {"values": "log1p"}}, seed=seed).mod[name]
    return adata


def _share(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        msg = f"--split {whole!r} has no share. Write one of: {_SPLITS}."
        raise ConfigError(msg) from error


def _given(key: str, value: Any, *, skip: bool = False) -> dict[str, Any]:
    if skip or (key == "method" and value is None):
        return {}
    return {key: value}


def _over(scores: list[Score], what: str) -> Score:
    values = np.array([s.value for s in scores], dtype=np.float64)
    spread = f"± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    note = f"{spread} over {len(values)} {what}" if spread else f"one of the {what}"
    return replace(scores[0], value=float(values.mean()), seed=None, note=note)


def _ranked(items: list[Score]) -> list[Score]:
    """Sort metrics as they came, methods of each from best to worst."""
    metrics = list(dict.fromkeys(s.metric for s in items))

    def key(score: Score) -> tuple[int, float, str]:
        value = score.value if score.value is not None else 0.0
        sign = -1.0 if score.higher_is_better else 1.0
        return metrics.index(score.metric), sign * value, score.method

    return sorted(items, key=key)
