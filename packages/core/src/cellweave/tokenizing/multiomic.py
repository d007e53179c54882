"""Several modalities of one cell in one sequence, each opened by its modality token.

Cells are matched by name. A cell that lacks a modality simply has no stretch of it (mosaic data);
cells stand in the order in which they are first seen, modality by modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from cellweave.errors import ConfigError, DataError, NotFittedError, StateMismatchError, one_of
from cellweave.records import ComponentState, Provenance, Tokens, Vocabulary

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.contracts import Tokenizer

__all__ = ["MultiOmicTokenizer", "MultiOmicTokens", "combine_tokens"]

_SPECIAL = ("<pad>", "<mask>", "<cls>", "<eos>")


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
    """
    _check_parts(parts, vocabularies)
    vocabulary, first_ids = joined_vocabulary(vocabularies)
    cells, rows = _joined_cells(parts)
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
    vocabularies: Mapping[str, Vocabulary],
) -> tuple[Vocabulary, dict[str, int]]:
    """Return one vocabulary for all modalities, and where each one's own ids start in it."""
    names = [*_SPECIAL, *(f"<modality:{m}>" for m in vocabularies)]
    special = {name.strip("<>"): i for i, name in enumerate(names)}
    first_ids = {}
    for modality, vocabulary in vocabularies.items():
        first_ids[modality] = len(names)
        names.extend(f"{modality}:{name}" for name in vocabulary.names)
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


def _value_shape(parts: Mapping[str, Tokens]) -> tuple[int, ...] | None:
    widths = [p.values.shape[1:] for p in parts.values() if p.values is not None]
    if not widths:
        return None
    return max(widths, key=lambda shape: shape[0] if shape else 0)


def _joined_cells(parts: Mapping[str, Tokens]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    import pandas as pd

    everyone = np.concatenate([np.asarray(p.obs_names, dtype=str) for p in parts.values()])
    cells = pd.unique(everyone)
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


def _no_tokens() -> Tokens:
    return Tokens(
        offsets=np.zeros(1, dtype=np.int64),
        ids=np.empty(0, dtype=np.int32),
        obs_names=np.empty(0, dtype=str),
    )


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


class MultiOmicTokenizer:
    """Tokenize each modality with a tokenizer of its own and join the sequences.

    Parameters
    ----------
    parts
        Modality to the registry name of its tokenizer.
    settings
        Modality to that tokenizer's arguments.
    modality_tokens
        Open each modality's stretch with its own token.
    """

    component: ClassVar[str] = "multiomic"
    modality: ClassVar[str] = "*"

    def __init__(
        self,
        *,
        parts: dict[str, str],
        settings: dict[str, dict[str, Any]] | None = None,
        modality_tokens: bool = True,
    ) -> None:
        unknown = sorted(set(settings or {}) - set(parts))
        if unknown or not parts:
            msg = (
                f"{self.component!r} got settings for {unknown!r} and tokenizers for "
                f"{one_of(parts)}. Give at least one tokenizer, and settings only for those."
            )
            raise ConfigError(msg)
        self.parts = dict(parts)
        self.settings = {k: dict(v) for k, v in (settings or {}).items()}
        self.modality_tokens = modality_tokens
        self._made: dict[str, Tokenizer] = {}

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]:
        """Give the fitted tokenizers by modality."""
        if not self._made:
            msg = f"{self.component!r} is not fitted. Call fit(mdata) or load a state first."
            raise NotFittedError(msg)
        return self._made

    @property
    def vocabulary(self) -> Vocabulary:
        """Give the joined vocabulary."""
        return joined_vocabulary({m: t.vocabulary for m, t in self.tokenizers.items()})[0]

    def fit(self, mdata: MuData) -> Self:
        """Fit each modality's tokenizer on its data."""
        from cellweave.verbs.components import create

        missing = [m for m in self.parts if m not in mdata.mod]
        if missing:
            msg = f"The data have no {one_of(missing)}. Modalities: {one_of(mdata.mod)}."
            raise DataError(msg)
        self._made = {
            modality: create("tokenizer", name, **self.settings.get(modality, {})).fit(
                mdata.mod[modality]
            )
            for modality, name in self.parts.items()
        }
        return self

    def encode(self, mdata: MuData) -> Tokens:
        """Return one sequence a cell; modalities that ``mdata`` lacks are lacked by all cells."""
        present = {m: t for m, t in self.tokenizers.items() if m in mdata.mod}
        if not present:
            msg = f"The data have none of {one_of(self.parts)}. They have: {one_of(mdata.mod)}."
            raise DataError(msg)
        parts = {m: t.encode(mdata.mod[m]) for m, t in present.items()}
        absent = {m: _no_tokens() for m in self.tokenizers if m not in present}
        ordered = {m: (parts | absent)[m] for m in self.tokenizers}
        vocabularies = {m: t.vocabulary for m, t in self.tokenizers.items()}
        return combine_tokens(ordered, vocabularies, modality_tokens=self.modality_tokens).tokens

    def state(self) -> ComponentState:
        """Return the states of all tokenizers in one."""
        states = {m: t.state() for m, t in self.tokenizers.items()}
        return ComponentState(
            component=self.component,
            parameters={
                "parts": self.parts,
                "settings": self.settings,
                "modality_tokens": self.modality_tokens,
            },
            arrays={f"{m}/{k}": v for m, s in states.items() for k, v in s.arrays.items()},
            extra={
                m: {"parameters": dict(s.parameters), "extra": dict(s.extra)}
                for m, s in states.items()
            },
            provenance=Provenance(component=self.component, version="1"),
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted tokenizer; a state of another component is refused."""
        from cellweave.plugins import get_plugin_manager
        from cellweave.records.component import ComponentKind

        if state.component != cls.component:
            msg = (
                f"This is a state of {state.component!r}. Expected one of {cls.component!r}. "
                "Load it with the tokenizer that wrote it."
            )
            raise StateMismatchError(msg)
        made = cls(**dict(state.parameters))
        registry = get_plugin_manager().registry(ComponentKind.TOKENIZER)
        for modality, name in made.parts.items():
            part = ComponentState(
                component=name,
                parameters=state.extra[modality]["parameters"],
                arrays={
                    k.removeprefix(f"{modality}/"): v
                    for k, v in state.arrays.items()
                    if k.startswith(f"{modality}/")
                },
                extra=state.extra[modality]["extra"],
            )
            made._made[modality] = registry[name].load().from_state(part)
        return made
