"""Splits of perturbation data: whole perturbations, or a whole context, on one side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave_tasks.features import column_of
from cellweave_tasks.perturbation_names import AUTO, context_column, named_conditions
from cellweave_tasks.splits import Split

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["unseen_context", "unseen_pairs", "unseen_perturbations"]


def unseen_context(
    adata: AnnData,
    context: str,
    *,
    condition_key: str | None = None,
    control: str | None = None,
    context_key: str = AUTO,
) -> Split:
    """Hold out the perturbed cells of one cell type; its control cells stay in training."""
    context_key = context_column(adata, context_key) or "cell_type"
    contexts = column_of(adata, context_key)
    known = sorted(set(contexts.tolist()))
    if context not in known:
        msg = (
            f"`adata.obs[{context_key!r}]` has no {context!r}.{closest(context, known)} "
            f"It has: {one_of(known)}."
        )
        raise DataError(msg)
    perturbed = np.array([bool(u) for u in _units(adata, condition_key, control)])
    is_test = (contexts == context) & perturbed
    if not is_test.any():
        msg = f"{context!r} has no perturbed cell. Hold out another of: {one_of(known)}."
        raise DataError(msg)
    name = f"{context_key}={context}"
    return Split(name=name, train=np.flatnonzero(~is_test), test=np.flatnonzero(is_test))


def unseen_perturbations(
    adata: AnnData,
    *,
    condition_key: str | None = None,
    control: str | None = None,
    seen_share: float = 0.75,
    combo_share: float = 0.75,
    seed: int = 0,
) -> Split:
    """Hold perturbations out as GEARS' simulation split does; control cells stay in training.

    A share of the perturbed genes is seen. Singles of the others are held out, and so are pairs
    with one or none seen. Of pairs with both seen, a share is trained on. The groups of the scores
    (unseen single, combo seen 0, 1, 2) follow from what training holds.
    """
    units = _units(adata, condition_key, control)
    genes = sorted({p for unit in units for p in unit})
    if len(genes) < 2:
        msg = (
            f"There are {len(genes)} perturbations. Two or more are needed to hold some out; to "
            "hold a cell type out use `unseen_context`, on the command line --split context:NAME."
        )
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    n_seen = min(max(1, round(seen_share * len(genes))), len(genes) - 1)
    seen = set(rng.permutation(genes)[:n_seen].tolist())
    trained: set[tuple[str, ...]] = {()}
    trained |= {u for u in set(units) if len(u) == 1 and u[0] in seen}
    pairs = sorted(u for u in set(units) if len(u) > 1 and set(u) <= seen)
    order = rng.permutation(len(pairs))
    trained |= {pairs[i] for i in order[: round(combo_share * len(pairs))]}
    is_train = np.array([u in trained for u in units])
    name = f"perturbations {1 - seen_share:g} unseen"
    return Split(name=name, train=np.flatnonzero(is_train), test=np.flatnonzero(~is_train))


def unseen_pairs(
    adata: AnnData,
    *,
    seen: int,
    condition_key: str | None = None,
    control: str | None = None,
    test_share: float = 0.25,
    seed: int = 0,
) -> Split:
    """Hold pairs out of which exactly ``seen`` (0, 1 or 2) members remain in training as singles.

    With 2, a share of the pairs is held out. With 1 or 0, a share of the genes is hidden: singles
    and pairs with a hidden gene leave training, and the pairs with as many seen are the test.
    """
    if seen not in (0, 1, 2) or not 0 < test_share < 1:
        msg = f"seen is {seen!r}, test_share {test_share!r}. Expected 0, 1 or 2, and a share."
        raise DataError(msg)
    units = _units(adata, condition_key, control)
    kinds = sorted(set(units))
    singles = {u[0] for u in kinds if len(u) == 1}
    pairs = [u for u in kinds if len(u) == 2]
    rng = np.random.default_rng(seed)
    if seen == 2:
        full = [p for p in pairs if set(p) <= singles]
        order = rng.permutation(len(full))[: max(1, round(test_share * len(full)))]
        tested, hidden = {full[i] for i in order}, set()
    else:
        genes = sorted({g for p in pairs for g in p})
        share = test_share if seen == 1 else max(test_share, 0.5)
        hidden = set(rng.permutation(genes)[: max(1, round(share * len(genes)))].tolist())
        tested = {p for p in pairs if sum(g not in hidden for g in p) == seen}
        tested = {p for p in tested if {g for g in p if g not in hidden} <= singles}
    is_test = np.array([u in tested for u in units])
    is_train = np.array([u not in tested and not set(u) & hidden for u in units])
    if not is_test.any() or not any(u and t for u, t in zip(units, is_train, strict=True)):
        msg = (
            f"{len(pairs)} pairs of {len(singles)} singles leave no pair with {seen} seen and "
            "something to learn from. Measure more pairs, or ask for another number."
        )
        raise DataError(msg)
    name = f"pairs, {seen} of 2 seen"
    return Split(name=name, train=np.flatnonzero(is_train), test=np.flatnonzero(is_test))


def _units(adata: AnnData, key: str | None, control: str | None) -> list[tuple[str, ...]]:
    """Return what each cell was perturbed with; refuse cells without a condition."""
    named = named_conditions(adata, key, control)
    missing = sum(u is None for u in named.units)
    if missing:
        msg = f"{missing} of {adata.n_obs} cells lack a condition in obs[{named.column!r}]. "
        raise DataError(msg + "Drop them first.")
    return [u or () for u in named.units]
