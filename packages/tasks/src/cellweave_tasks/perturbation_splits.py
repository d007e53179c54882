"""Splits of perturbation data: whole perturbations, or a whole context, on one side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave_tasks.features import column_of
from cellweave_tasks.perturbation_data import parse_condition
from cellweave_tasks.splits import Split

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["unseen_context", "unseen_perturbations"]


def unseen_context(
    adata: AnnData,
    context: str,
    *,
    condition_key: str = "condition",
    control: str = "ctrl",
    context_key: str = "cell_type",
) -> Split:
    """Hold out the perturbed cells of one cell type; its control cells stay in training."""
    contexts = column_of(adata, context_key)
    known = sorted(set(contexts.tolist()))
    if context not in known:
        msg = (
            f"`adata.obs[{context_key!r}]` has no {context!r}.{closest(context, known)} "
            f"It has: {one_of(known)}."
        )
        raise DataError(msg)
    perturbed = np.array(
        [bool(parse_condition(c, control)) for c in column_of(adata, condition_key)]
    )
    is_test = (contexts == context) & perturbed
    if not is_test.any():
        msg = f"{context!r} has no perturbed cell. Hold out another of: {one_of(known)}."
        raise DataError(msg)
    name = f"{context_key}={context}"
    return Split(name=name, train=np.flatnonzero(~is_test), test=np.flatnonzero(is_test))


def unseen_perturbations(
    adata: AnnData,
    *,
    condition_key: str = "condition",
    control: str = "ctrl",
    seen_share: float = 0.75,
    combo_share: float = 0.75,
    seed: int = 0,
) -> Split:
    """Hold perturbations out as GEARS' simulation split does; control cells stay in training.

    A share of the perturbed genes is seen. Singles of the others are held out, and so are pairs
    with one or none seen. Of pairs with both seen, a share is trained on. The groups of the scores
    (unseen single, combo seen 0, 1, 2) follow from what training holds.
    """
    units = [parse_condition(c, control) for c in column_of(adata, condition_key)]
    genes = sorted({p for unit in units for p in unit})
    if len(genes) < 2:
        msg = f"There are {len(genes)} perturbations. Two or more are needed to hold some out."
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
