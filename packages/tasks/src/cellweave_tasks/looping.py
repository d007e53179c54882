"""Closed loop: predict, measure some perturbations, fold them in, predict better.

The loop is played on perturbations that were measured already: a pool stands for the laboratory.
Each round takes some out of the pool, with all their cells, adds them to training, fits again and
scores on the same test, so that rounds can be compared. ``"unlike"`` takes those least like any in
training, one after the other; ``"random"`` is what it must beat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.records import Score, Scores
from cellweave_tasks.perturbation_data import Unit, cells_of
from cellweave_tasks.perturbation_graph import correlations
from cellweave_tasks.perturbation_similarity import likeness

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_tasks.perturbation import PerturbationTask

__all__ = ["closed_loop"]

_CHOICES = ("unlike", "random")


def closed_loop(
    make: Callable[[], PerturbationTask],
    train: AnnData,
    pool: AnnData,
    test: AnnData,
    *,
    rounds: int = 3,
    per_round: int = 4,
    choose: Literal["unlike", "random"] = "unlike",
    seed: int = 0,
) -> Scores:
    """Score after each round of measurement.

    Parameters
    ----------
    make
        Makes the task.
    train, pool, test
        What is known, what could be measured, and what is scored; no perturbation in two.
    rounds, per_round
        How often, and how many perturbations at a time.
    choose
        ``"unlike"`` or ``"random"``.
    seed
        Of random choices.

    Returns
    -------
    Scores of the test in groups ``"after 0"``, ``"after 4"`` … measured perturbations. The summary
    names what was measured in each round.
    """
    if choose not in _CHOICES or rounds < 1 or per_round < 1:
        msg = (
            f"choose is {choose!r}, rounds {rounds!r}, per_round {per_round!r}."
            f"{closest(choose, _CHOICES)} Expected one of {one_of(_CHOICES)}, and numbers of 1 or "
            "more."
        )
        raise ConfigError(msg)
    task = make()
    known, waiting = (_units(a, task) for a in (train, pool))
    _refuse_shared(known, waiting, _units(test, task))
    rng = np.random.default_rng(seed)
    vectors = _vectors(train)
    picked: list[Unit] = []
    items = _scored(make, train, test, 0)
    history: list[list[str]] = []
    for _ in range(rounds):
        left = [u for u in waiting if u not in picked]
        new = _choose(choose, left, [*known, *picked], per_round, vectors, rng)
        if not new:
            break
        picked += new
        history.append([u.name for u in new])
        rows = np.sort(np.concatenate([waiting[u] for u in picked]))
        items += _scored(make, _joined(train, pool[rows]), test, len(picked))
    first, last = (_own(items, task.name, n) for n in (0, len(picked)))
    text = (
        f"{task.name}: pearson_delta {first:.3f} before, {last:.3f} after {len(picked)} measured "
        f"perturbations were folded in ({last - first:+.3f})."
    )
    return Scores(items=tuple(items), summary={"headline": text, "measured": history})


def _scored(
    make: Callable[[], PerturbationTask], train: AnnData, test: AnnData, n: int
) -> list[Score]:
    found = make().fit(train).evaluate(test)
    return [replace(s, group=f"after {n}") for s in found.items if not s.group]


def _choose(
    choose: str,
    left: list[Unit],
    known: list[Unit],
    n: int,
    vectors: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> list[Unit]:
    if choose == "random":
        order = rng.permutation(len(left))[:n]
        return [left[i] for i in np.sort(order)]
    new: list[Unit] = []
    while left and len(new) < n:
        away = likeness(left, [*known, *new], *vectors)
        new.append(left.pop(int(np.argmin(np.nan_to_num(away, nan=1.0)))))
    return new


def _units(adata: AnnData, task: PerturbationTask) -> dict[Unit, np.ndarray]:
    return cells_of(adata, task.condition_key, task.control, task.context_key).perturbed()


def _vectors(train: AnnData) -> tuple[np.ndarray, np.ndarray]:
    names = np.asarray(train.var_names, dtype=str)
    return names, correlations(train.X) + np.eye(len(names))


def _refuse_shared(*parts: dict[Unit, np.ndarray]) -> None:
    named = ("train", "pool", "test")
    for i in range(3):
        for j in range(i):
            both = sorted(set(parts[i]) & set(parts[j]))
            if both:
                msg = (
                    f"{len(both)} perturbations are in {named[j]} and in {named[i]}, e.g. "
                    f"{both[0].name!r}. Keep each in one of them."
                )
                raise DataError(msg)


def _joined(train: AnnData, more: AnnData) -> AnnData:
    import anndata

    return anndata.concat([train, more], join="inner", merge="same")


def _own(items: list[Score], method: str, n: int) -> float:
    return next(
        s.value or 0.0
        for s in items
        if (s.metric, s.method, s.group) == ("pearson_delta", method, f"after {n}")
    )
