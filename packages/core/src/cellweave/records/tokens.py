"""Ragged tokens: what every tokenizer makes and every encoder eats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.errors import DataError, closest
from cellweave.records._files import load_arrays, save_arrays
from cellweave.records.provenance import Provenance, reduce_record

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Tokens", "Vocabulary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Map token names to ids; the id is the position in ``names``.

    Parameters
    ----------
    names
        Token names, unique; position is the id.
    special
        Role to id for tokens that are no feature: ``pad``, ``mask``, ``cls``, ``eos`` …
    """

    names: tuple[str, ...]
    special: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse duplicate names and special ids outside the table."""
        if len(set(self.names)) != len(self.names):
            seen: set[str] = set()
            twice = next(n for n in self.names if n in seen or seen.add(n))  # type: ignore[func-returns-value]
            msg = f"Vocabulary holds {twice!r} more than once. Names must be unique."
            raise DataError(msg)
        wrong = {k: v for k, v in self.special.items() if not 0 <= v < len(self.names)}
        if wrong:
            msg = f"Special tokens {wrong!r} lie outside the {len(self.names)} ids."
            raise DataError(msg)
        object.__setattr__(self, "special", MappingProxyType(dict(self.special)))

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_record(self)

    def __len__(self) -> int:
        """Count all ids, special ones included."""
        return len(self.names)

    def index(self) -> dict[str, int]:
        """Return a new name → id dictionary."""
        return {name: i for i, name in enumerate(self.names)}

    def special_id(self, role: str) -> int:
        """Return the id of a special token, or say which roles there are."""
        if role not in self.special:
            msg = (
                f"The vocabulary has no {role!r} token.{closest(role, self.special)} "
                f"It has: {', '.join(sorted(self.special)) or 'none'}."
            )
            raise DataError(msg)
        return self.special[role]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Hold the tokens of many cells without padding.

    Cell ``i`` owns ``ids[offsets[i]:offsets[i + 1]]`` and the same stretch of the other
    per-token arrays.

    Parameters
    ----------
    offsets
        ``(n_cells + 1,)`` int64, starts at 0, never falls.
    ids
        ``(n_tokens,)`` int32, into the vocabulary.
    obs_names
        ``(n_cells,)`` names, in the order of the input.
    values
        ``(n_tokens,)`` or ``(n_tokens, width)`` float32; ``None`` for pure id tokens.
    modality
        ``(n_tokens,)`` uint8, index into ``modalities``; ``None`` when there is one modality.
    modalities
        Names that ``modality`` points to.
    positions
        ``(n_tokens,)`` int32 where the place in the sequence is not the running index
        (chromosome order, patches).
    context
        Per-cell arrays with ``n_cells`` rows: species, assay, batch codes, coordinates …
    provenance
        What made it.
    """

    offsets: np.ndarray
    ids: np.ndarray
    obs_names: np.ndarray
    values: np.ndarray | None = None
    modality: np.ndarray | None = None
    modalities: tuple[str, ...] = ()
    positions: np.ndarray | None = None
    context: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit each other."""
        object.__setattr__(self, "context", MappingProxyType(dict(self.context)))
        problem = _first_misfit(self)
        if problem:
            msg = f"Tokens are inconsistent: {problem}."
            raise DataError(msg)

    def __reduce__(self) -> tuple[Any, ...]:
        return reduce_record(self)

    @property
    def n_cells(self) -> int:
        """Count cells."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Give the number of tokens of each cell."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray | Sequence[int]) -> Tokens:
        """Return the tokens of ``rows``, in that order."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        at = np.arange(offsets[-1], dtype=np.int64) + starts

        def gathered(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[at]

        return replace(
            self,
            offsets=offsets,
            obs_names=self.obs_names[rows],
            context={k: v[rows] for k, v in self.context.items()},
            ids=self.ids[at],
            values=gathered(self.values),
            modality=gathered(self.modality),
            positions=gathered(self.positions),
        )

    def padded(self, *, pad_id: int, pad_value: float = 0.0) -> tuple[np.ndarray, ...]:
        """Return dense ``ids``, ``values`` and ``is_token`` of shape ``(n_cells, longest)``."""
        is_token = np.arange(max(self.lengths.max(initial=0), 1)) < self.lengths[:, None]
        ids = np.full(is_token.shape, pad_id, dtype=np.int32)
        ids[is_token] = self.ids
        tail = () if self.values is None else self.values.shape[1:]
        values = np.full(is_token.shape + tail, pad_value, dtype=np.float32)
        if self.values is not None:
            values[is_token] = self.values
        return ids, values, is_token

    def save(self, path: str | Path) -> None:
        """Write to one ``.npz`` file, atomically and with a manifest."""
        arrays: dict[str, np.ndarray] = {
            "offsets": self.offsets,
            "ids": self.ids,
            "obs_names": self.obs_names.astype(str),
        }
        for name in ("values", "modality", "positions"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        arrays |= {f"context/{k}": v for k, v in self.context.items()}
        meta: dict[str, Any] = {
            "modalities": list(self.modalities),
            "provenance": self.provenance.to_dict() if self.provenance else None,
        }
        save_arrays(path, kind="tokens", arrays=arrays, meta=meta)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote."""
        arrays, meta = load_arrays(path, kind="tokens")
        context = {k[8:]: arrays.pop(k) for k in list(arrays) if k.startswith("context/")}
        provenance = meta["provenance"]
        return cls(
            **arrays,
            context=context,
            modalities=tuple(meta["modalities"]),
            provenance=Provenance.from_dict(provenance) if provenance else None,
        )


def _first_misfit(tokens: Tokens) -> str | None:
    offsets, n_tokens = tokens.offsets, len(tokens.ids)
    if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
        return "`offsets` must start at 0 and never fall"
    if offsets[-1] != n_tokens:
        return f"`offsets` end at {offsets[-1]} but there are {n_tokens} ids"
    if len(tokens.obs_names) != len(offsets) - 1:
        return f"{len(tokens.obs_names)} names for {len(offsets) - 1} cells"
    for name in ("values", "modality", "positions"):
        array = getattr(tokens, name)
        if array is not None and len(array) != n_tokens:
            return f"`{name}` has {len(array)} entries for {n_tokens} tokens"
    for name, array in tokens.context.items():
        if len(array) != len(offsets) - 1:
            return f"context {name!r} has {len(array)} rows for {len(offsets) - 1} cells"
    return None
