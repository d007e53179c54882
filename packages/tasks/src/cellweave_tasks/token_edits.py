"""Edit the tokens of cells as if a gene were lost or switched on, in front of any token model.

- *delete*: the gene's tokens are taken out;
- *overexpress*: in models of ranks the gene moves to the front (behind framing tokens), expressed
  or not; in models of values it gets the largest value of its cell.

A cell that grows beyond the longest there was loses its last features; framing at the end stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.records import Tokens, Vocabulary

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["EDITS", "EditedTokenizer", "edit_tokens", "feature_ids", "has_any"]

EDITS = ("delete", "overexpress")


class EditedTokenizer:
    """Give ready tokens, edited, for cells that were encoded before; the rest as the inner one."""

    def __init__(
        self, inner: Any, tokens: Tokens, edit: Callable[[Tokens], Tokens] | None = None
    ) -> None:
        self._inner, self._tokens, self._edit = inner, tokens, edit
        self._at = {str(name): i for i, name in enumerate(tokens.obs_names)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, adata: AnnData) -> Tokens:
        """Return the edited tokens of every cell, in input order."""
        found = self._tokens.take([self._at[str(name)] for name in adata.obs_names])
        return found if self._edit is None else self._edit(found)


def feature_ids(tokenizer: Any) -> dict[str, int]:
    """Return the id of every feature that has a token, special and context tokens left out."""
    table = getattr(tokenizer, "table", None)
    if table is not None:
        return dict(zip(map(str, table.features), table.ids.tolist(), strict=True))
    vocabulary: Vocabulary = tokenizer.vocabulary
    special = set(vocabulary.special.values())
    return {name: i for i, name in enumerate(vocabulary.names) if i not in special}


def has_any(tokens: Tokens, ids: Sequence[int]) -> np.ndarray:
    """Tell which cells hold one of the ids."""
    cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    return np.bincount(cells[np.isin(tokens.ids, ids)], minlength=tokens.n_cells) > 0


def edit_tokens(tokens: Tokens, ids: Sequence[int], *, how: str, features: np.ndarray) -> Tokens:
    """Return edited tokens.

    Parameters
    ----------
    tokens
        Of the cells.
    ids
        Of the genes, edited together.
    how
        ``"delete"`` or ``"overexpress"``.
    features
        Ids of all features; what else stands in a cell is framing.
    """
    if how not in EDITS:
        msg = f"how is {how!r}.{closest(how, EDITS)} Expected one of: {one_of(EDITS)}."
        raise ConfigError(msg)
    without = _kept(tokens, ~np.isin(tokens.ids, ids))
    if how == "delete":
        return without
    if tokens.positions is not None:
        msg = (
            "These tokens carry places of their own (chromosomes, patches), where a new token has "
            "none. Use how='delete'."
        )
        raise DataError(msg)
    grown = _inserted(without, np.asarray(ids, dtype=np.int32), tokens, features)
    return _cut(grown, int(tokens.lengths.max(initial=0)), features)


def _kept(tokens: Tokens, keep: np.ndarray) -> Tokens:
    total = np.concatenate([[0], np.cumsum(keep)])
    return _with(tokens, total[tokens.offsets].astype(np.int64), lambda a: a[keep])


def _inserted(without: Tokens, ids: np.ndarray, before: Tokens, features: np.ndarray) -> Tokens:
    """Put the genes before the first feature of each cell, with its cell's largest value."""
    n_new = len(ids)
    places = _first_features(without, features)
    at = np.repeat(places, n_new)
    offsets = without.offsets + n_new * np.arange(without.n_cells + 1)
    new_values = None
    if before.values is not None:
        if before.values.ndim != 1:
            msg = "Tokens with several values each cannot be overexpressed. Use how='delete'."
            raise DataError(msg)
        top = _largest_values(before, features)
        new_values = np.insert(without.values, at, np.repeat(top, n_new))  # type: ignore[arg-type]
    modality = without.modality
    if modality is not None:
        kinds = {int(i): int(m) for i, m in zip(before.ids, modality_of(before), strict=True)}
        own = np.array([kinds.get(int(i), 0) for i in ids], dtype=np.uint8)
        modality = np.insert(modality, at, np.tile(own, without.n_cells))
    return replace(
        without,
        offsets=offsets,
        ids=np.insert(without.ids, at, np.tile(ids, without.n_cells)).astype(np.int32),
        values=new_values,
        modality=modality,
    )


def modality_of(tokens: Tokens) -> np.ndarray:
    """Return the modality of each token, 0 where there is one only."""
    return np.zeros(len(tokens.ids), np.uint8) if tokens.modality is None else tokens.modality


def _first_features(tokens: Tokens, features: np.ndarray) -> np.ndarray:
    """Return where the first feature of each cell stands.

    Framing is alike in all cells: one without features has its place after as many tokens.
    """
    is_feature = np.isin(tokens.ids, features)
    at = np.flatnonzero(is_feature)
    next_feature = np.searchsorted(at, tokens.offsets[:-1])
    first = np.append(at, len(tokens.ids))[next_feature]
    has_one = first < tokens.offsets[1:]
    ahead = (first - tokens.offsets[:-1])[has_one]
    usual = int(ahead.max(initial=0)) if len(ahead) else int(tokens.lengths.max(initial=0))
    other = tokens.offsets[:-1] + np.minimum(usual, tokens.lengths)
    return np.asarray(np.where(has_one, first, other))


def _largest_values(tokens: Tokens, features: np.ndarray) -> np.ndarray:
    assert tokens.values is not None
    is_feature = np.isin(tokens.ids, features)
    cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)[is_feature]
    top = np.full(tokens.n_cells, -np.inf)
    np.maximum.at(top, cells, tokens.values[is_feature])
    highest = float(top.max(initial=-np.inf))
    return np.where(np.isfinite(top), top, highest if np.isfinite(highest) else 1.0).astype(
        np.float32
    )


def _cut(tokens: Tokens, longest: int, features: np.ndarray) -> Tokens:
    """Drop the last features of cells that grew too long."""
    over = np.maximum(tokens.lengths - longest, 0)
    if not over.any():
        return tokens
    is_feature = np.isin(tokens.ids, features)
    cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    total = np.concatenate([[0], np.cumsum(is_feature)])
    rank = total[1:] - total[tokens.offsets[:-1]][cells]
    count = (total[tokens.offsets[1:]] - total[tokens.offsets[:-1]])[cells]
    return _kept(tokens, ~is_feature | (rank <= count - over[cells]))


def _with(tokens: Tokens, offsets: np.ndarray, pick: Callable[[np.ndarray], np.ndarray]) -> Tokens:
    def picked(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else pick(array)

    return replace(
        tokens,
        offsets=offsets,
        ids=pick(tokens.ids),
        values=picked(tokens.values),
        modality=picked(tokens.modality),
        positions=picked(tokens.positions),
    )
