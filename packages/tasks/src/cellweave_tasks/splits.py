"""Split cells so that nothing of the test is seen in training, and refuse splits that leak."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave_tasks.features import column_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "Split",
    "by_fraction",
    "by_group",
    "by_tiles",
    "by_unseen",
    "grouped_folds",
    "refuse_leaks",
]

_EQUAL_BY_CHANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows of training and test, with a name for tables."""

    name: str
    train: np.ndarray
    test: np.ndarray


def by_group(adata: AnnData, group_key: str, test_groups: list[str]) -> Split:
    """Put whole groups (donors, batches, technologies) on one side."""
    groups = column_of(adata, group_key)
    unknown = sorted(set(test_groups) - set(groups.tolist()))
    if unknown:
        msg = (
            f"`adata.obs[{group_key!r}]` has no group {unknown[0]!r}. "
            f"It has: {', '.join(sorted(set(groups.tolist())))}."
        )
        raise DataError(msg)
    is_test = np.isin(groups, test_groups)
    if is_test.all() or not is_test.any():
        msg = f"Test groups {test_groups!r} leave no cell on one side. Choose fewer or more."
        raise DataError(msg)
    name = f"{group_key}={'+'.join(sorted(test_groups))}"
    return Split(name=name, train=np.flatnonzero(~is_test), test=np.flatnonzero(is_test))


def grouped_folds(adata: AnnData, group_key: str) -> Iterator[Split]:
    """Leave out one group after the other."""
    for group in sorted(set(column_of(adata, group_key).tolist())):
        yield by_group(adata, group_key, [group])


def by_unseen(adata: AnnData, keys: list[str], *, test_share: float = 0.2, seed: int = 0) -> Split:
    """Hold a share of the groups of each key out: new drugs, new donors, or both at once.

    With several keys the test is new in all of them, and training shares none of its groups; rows
    that are new in some only are left out.
    """
    if not keys or not 0 < test_share < 1:
        msg = f"keys is {keys!r}, test_share {test_share!r}. Expected columns, and a share."
        raise DataError(msg)
    rng = np.random.default_rng(seed)
    new = []
    for key in keys:
        groups = column_of(adata, key)
        kinds = np.unique(groups)
        if len(kinds) < 2:
            msg = (
                f"`adata.obs[{key!r}]` holds one group, {str(kinds[0])!r}. Two or more are needed."
            )
            raise DataError(msg)
        n = min(max(1, round(test_share * len(kinds))), len(kinds) - 1)
        new.append(np.isin(groups, rng.permutation(kinds)[:n]))
    is_test, is_train = np.all(new, axis=0), ~np.any(new, axis=0)
    if not is_test.any() or not is_train.any():
        msg = f"{keys!r} leave no row that is new, or known, in all. Give a larger test_share."
        raise DataError(msg)
    name = f"unseen {' and '.join(keys)} {test_share:g}"
    return Split(name=name, train=np.flatnonzero(is_train), test=np.flatnonzero(is_test))


def by_fraction(n_cells: int, *, test_fraction: float = 0.2, seed: int = 0) -> Split:
    """Draw single cells; right only where cells are independent of donor and batch."""
    if not 0 < test_fraction < 1:
        msg = f"test_fraction is {test_fraction!r}. Expected a number between 0 and 1."
        raise DataError(msg)
    order = np.random.default_rng(seed).permutation(n_cells)
    n_test = min(max(1, round(n_cells * test_fraction)), n_cells - 1)
    name = f"random {test_fraction:g}"
    return Split(name=name, train=np.sort(order[n_test:]), test=np.sort(order[:n_test]))


def by_tiles(
    adata: AnnData,
    *,
    spatial_key: str = "spatial",
    tiles: int = 5,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Split:
    """Put whole squares of a tissue on one side, so that test cells are not next to training.

    For data of one section; with several, leave a section out by :func:`by_group`.
    """
    if spatial_key not in adata.obsm:
        msg = (
            f"`adata.obsm` has no {spatial_key!r}. Tiles need the place of each cell: name its key "
            "by `spatial_key`."
        )
        raise DataError(msg)
    points = np.asarray(adata.obsm[spatial_key], dtype=np.float64)[:, :2]
    low, span = points.min(axis=0), np.ptp(points, axis=0)
    place = np.minimum((tiles * (points - low) / np.maximum(span, 1e-12)).astype(int), tiles - 1)
    of_cell = place[:, 0] * tiles + place[:, 1]
    order = np.random.default_rng(seed).permutation(np.unique(of_cell))
    share = np.cumsum([(of_cell == tile).sum() for tile in order]) / len(points)
    n_test = max(1, int(np.searchsorted(share, test_fraction)) + 1)
    is_test = np.isin(of_cell, order[: min(n_test, len(order) - 1)])
    name = f"tiles {test_fraction:g}"
    return Split(name=name, train=np.flatnonzero(~is_test), test=np.flatnonzero(is_test))


def refuse_leaks(
    *,
    train_cells: np.ndarray,
    test_cells: np.ndarray,
    train_groups: np.ndarray | None = None,
    test_groups: np.ndarray | None = None,
    group_key: str = "",
) -> None:
    """Raise when one cell, or one group, is on both sides.

    Cells are compared by the digest of their values, so renaming one does not hide it. Where few
    features are measured, two cells may be equal by chance: up to 1 % of the test, in cells.
    """
    n_shared = int(np.isin(test_cells, train_cells).sum())
    if n_shared > _EQUAL_BY_CHANCE * len(test_cells):
        msg = (
            f"{n_shared} of {len(test_cells)} cells to be scored were seen in training. "
            "Scores would be too good: split first, e.g. with `cellweave_tasks.by_group`."
        )
        raise DataError(msg)
    if train_groups is None or test_groups is None:
        return
    both = sorted(set(train_groups.tolist()) & set(test_groups.tolist()))
    if both:
        msg = (
            f"{len(both)} groups of `obs[{group_key!r}]` are in training and in the test, e.g. "
            f"{both[0]!r}. Keep every group on one side."
        )
        raise DataError(msg)
