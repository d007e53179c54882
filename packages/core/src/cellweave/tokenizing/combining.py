"""Tokens of several modalities of one cell put into one sequence, each opened by its token.

Cells are matched by name. A cell that lacks a modality simply has no stretch of it (mosaic data).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellweave.errors import DataError, one_of
from cellweave.records import Tokens, Vocabulary
from cellweave.tokenizing.table import SPECIAL_NAMES, context_name

__all__ = ["MultiOmicTokens", "combine_tokens", "joined_vocabulary", "with_frame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiOmicTokens:
    """Hold combined tokens with the vocabulary they point to.

    Parameters
    ----------
    tokens
        One sequence a cell; ``tokens.modality`` says of which modality each token is.
    vocabulary
        Specials, one token a modality, then every modality's names as ``modality:name``.
    first_ids
        Where each modality's own ids start: own id + first id = id here.
    """

    tokens: Tokens
    vocabulary: Vocabulary
    first_ids: Mapping[str, int]


def combine_tokens(
    parts: Mapping[str, Tokens],
    vocabularies: Mapping[str, Vocabulary],
    *,
    modality_tokens: bool = True,
    names: np.ndarray | None = None,
) -> MultiOmicTokens:
    """Join the tokens of several modalities cell by cell, in the order of ``parts``.

    Parameters
    ----------
    parts
        Modality to its tokens.
    vocabularies
        Modality to the vocabulary its ids point to.
    modality_tokens
        Open each modality's stretch with its own token.
    names
        The cells of the result, in order; ``None``: as they are first seen, part by part.
    """
    _check_parts(parts, vocabularies)
    vocabulary, first_ids = joined_vocabulary(vocabularies)
    cells, rows = _joined_cells(parts, names)
    extra = int(modality_tokens)
    lengths = np.zeros(len(cells), dtype=np.int64)
    for name, part in parts.items():
        np.add.at(lengths, rows[name], part.lengths + extra)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    out = _Joined(offsets=offsets, parts=parts)
    for number, (name, part) in enumerate(parts.items()):
        opener = vocabulary.special_id(f"modality:{name}") if modality_tokens else None
        out.add(part, rows[name], number=number, first_id=first_ids[name], opener=opener)
    tokens = Tokens(
        offsets=offsets,
        ids=out.ids,
        obs_names=cells,
        values=out.values,
        modality=out.modality,
        modalities=tuple(parts),
        positions=out.positions,
        context=_joined_context(parts, rows, len(cells)),
    )
    return MultiOmicTokens(tokens=tokens, vocabulary=vocabulary, first_ids=first_ids)


def joined_vocabulary(
    vocabularies: Mapping[str, Vocabulary], *, context: Mapping[str, Sequence[str]] | None = None
) -> tuple[Vocabulary, dict[str, int]]:
    """Return one vocabulary for all modalities, and where each one's own ids start in it.

    Context values stand last, so that the ids of everything else do not depend on them.
    """
    names = [*SPECIAL_NAMES, *(f"<modality:{m}>" for m in vocabularies)]
    special = {name.strip("<>"): i for i, name in enumerate(names)}
    first_ids = {}
    for modality, vocabulary in vocabularies.items():
        first_ids[modality] = len(names)
        names.extend(f"{modality}:{name}" for name in vocabulary.names)
    for key, values in (context or {}).items():
        names.extend(context_name(key, value) for value in values)
    return Vocabulary(names=tuple(names), special=special), first_ids


class _Joined:
    """The arrays of the joined sequences while they are filled, part by part."""

    def __init__(self, *, offsets: np.ndarray, parts: Mapping[str, Tokens]) -> None:
        n = int(offsets[-1])
        self.next = offsets[:-1].copy()
        self.ids = np.empty(n, dtype=np.int32)
        self.modality = np.empty(n, dtype=np.uint8)
        shape = _value_shape(parts)
        self.values = None if shape is None else np.zeros((n, *shape), dtype=np.float32)
        # Positions count from 0 in each modality; only explicit ones survive joining.
        self.positions = np.empty(n, dtype=np.int32)

    def add(
        self, part: Tokens, rows: np.ndarray, *, number: int, first_id: int, opener: int | None
    ) -> None:
        starts, extra = self.next[rows], int(opener is not None)
        if opener is not None:
            self.ids[starts] = opener
            self.modality[starts] = number
            self.positions[starts] = 0
        own = np.arange(len(part.ids)) - np.repeat(part.offsets[:-1], part.lengths)
        at = np.repeat(starts + extra, part.lengths) + own
        self.ids[at] = part.ids + first_id
        self.modality[at] = number
        self.positions[at] = (own if part.positions is None else part.positions) + extra
        if self.values is not None and part.values is not None:
            if self.values.ndim == 1:
                self.values[at] = part.values
            else:
                wide = part.values if part.values.ndim == 2 else part.values[:, None]
                self.values[at, : wide.shape[1]] = wide
        self.next[rows] = starts + part.lengths + extra


def with_frame(tokens: Tokens, before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Tokens:
    """Put ids, one a cell each, before and after every cell's tokens.

    The frame belongs to no modality: its code is that of a further one, named ``"frame"``. Its
    values are 0, and so are its positions; those of the tokens stay as they are.
    """
    if not before and not after:
        return tokens
    width = len(before) + len(after)
    offsets = tokens.offsets + width * np.arange(tokens.n_cells + 1)
    at = np.arange(len(tokens.ids)) + np.repeat(
        len(before) + width * np.arange(tokens.n_cells), tokens.lengths
    )

    def spread(array: np.ndarray, fill: int) -> np.ndarray:
        out = np.full((offsets[-1], *array.shape[1:]), fill, dtype=array.dtype)
        out[at] = array
        return out

    ids = spread(tokens.ids, 0)
    for j, column in enumerate(before):
        ids[offsets[:-1] + j] = column
    for j, column in enumerate(after):
        ids[offsets[1:] - len(after) + j] = column
    modality = tokens.modality
    if modality is not None:
        modality = spread(modality, len(tokens.modalities))
    return replace(
        tokens,
        offsets=offsets,
        ids=ids,
        values=None if tokens.values is None else spread(tokens.values, 0),
        modality=None
        if tokens.modality is None
        else spread(tokens.modality, len(tokens.modalities)),
        modalities=(*tokens.modalities, "frame"),
        positions=None if tokens.positions is None else spread(tokens.positions, 0),
    )


def _value_shape(parts: Mapping[str, Tokens]) -> tuple[int, ...] | None:
    widths = [p.values.shape[1:] for p in parts.values() if p.values is not None]
    if not widths:
        return None
    return max(widths, key=lambda shape: shape[0] if shape else 0)


def _joined_cells(
    parts: Mapping[str, Tokens], names: np.ndarray | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    import pandas as pd

    everyone = np.concatenate([np.asarray(p.obs_names, dtype=str) for p in parts.values()])
    cells = pd.unique(everyone) if names is None else np.asarray(names, dtype=str)
    index = pd.Index(cells)
    rows = {name: index.get_indexer(np.asarray(p.obs_names, str)) for name, p in parts.items()}
    return np.asarray(cells, dtype=str), rows


def _joined_context(
    parts: Mapping[str, Tokens], rows: Mapping[str, np.ndarray], n: int
) -> dict[str, np.ndarray]:
    """Keep each part's context as ``modality:name``; ``has:modality`` says who has it."""
    found: dict[str, np.ndarray] = {}
    for modality, part in parts.items():
        has = np.zeros(n, dtype=bool)
        has[rows[modality]] = True
        found[f"has:{modality}"] = has
        for key, values in part.context.items():
            wide = np.zeros((n, *values.shape[1:]), dtype=values.dtype)
            wide[rows[modality]] = values
            found[f"{modality}:{key}"] = wide
    return found


def _check_parts(parts: Mapping[str, Tokens], vocabularies: Mapping[str, Vocabulary]) -> None:
    if set(parts) != set(vocabularies) or not parts:
        msg = (
            f"Tokens are of {one_of(parts)} but vocabularies of {one_of(vocabularies)}. "
            "Give one vocabulary for each modality."
        )
        raise DataError(msg)
    for name, part in parts.items():
        cells, counts = np.unique(np.asarray(part.obs_names, dtype=str), return_counts=True)
        if np.any(counts > 1):
            msg = (
                f"Modality {name!r} holds the cell {str(cells[np.argmax(counts)])!r} more than "
                "once. Cells are matched by name: make names unique."
            )
            raise DataError(msg)
