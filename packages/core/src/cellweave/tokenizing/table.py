"""The table a fitted tokenizer stands on: which name has which id, and numbers by feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellweave.errors import DataError, StateMismatchError
from cellweave.records import Vocabulary

__all__ = ["SPECIAL_NAMES", "UNKNOWN", "TokenTable", "context_name", "table_from_names"]

SPECIAL_NAMES = ("<pad>", "<mask>", "<cls>", "<eos>")
UNKNOWN = "<unknown>"
_PREFIX = "feature/"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """Map features and context values to ids.

    Parameters
    ----------
    vocabulary
        All names; position is the id.
    features
        Feature names that get tokens, ascending in their ids.
    ids
        Their ids, int32.
    context
        For each column of ``obs``: value to id.
    numbers
        Arrays with one entry a feature (scaling factors, coordinates …), in that order.
    facts
        Other JSON values a tokenizer learnt.
    """

    vocabulary: Vocabulary
    features: np.ndarray
    ids: np.ndarray
    context: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse ids that do not ascend and numbers that do not fit the features."""
        if len(self.features) != len(self.ids) or np.any(np.diff(self.ids) <= 0):
            msg = (
                f"A table of {len(self.features)} features has {len(self.ids)} ids, or ids that "
                "do not ascend. Give every feature one id of its own and sort by it."
            )
            raise DataError(msg)
        wrong = {k: len(v) for k, v in self.numbers.items() if len(v) != len(self.features)}
        if wrong:
            msg = f"Numbers {wrong!r} do not fit {len(self.features)} features. Give one each."
            raise DataError(msg)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the numeric part for a :class:`~cellweave.records.ComponentState`."""
        return {"ids": self.ids, **{_PREFIX + k: v for k, v in self.numbers.items()}}

    def to_json(self) -> dict[str, Any]:
        """Return the rest as JSON values."""
        return {
            "names": list(self.vocabulary.names),
            "special": dict(self.vocabulary.special),
            "features": [str(name) for name in self.features],
            "context": {k: dict(v) for k, v in self.context.items()},
            "facts": dict(self.facts),
        }

    @classmethod
    def from_parts(cls, values: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TokenTable:
        """Rebuild from :meth:`to_json` and :meth:`to_arrays`."""
        missing = [k for k in ("names", "special", "features", "context") if k not in values]
        if missing or "ids" not in arrays:
            msg = f"The state lacks {', '.join(missing or ['ids'])}. Save the tokenizer again."
            raise StateMismatchError(msg)
        return cls(
            vocabulary=Vocabulary(names=tuple(values["names"]), special=values["special"]),
            features=np.asarray(values["features"], dtype=str),
            ids=np.asarray(arrays["ids"], dtype=np.int32),
            context=values["context"],
            numbers={
                k.removeprefix(_PREFIX): v for k, v in arrays.items() if k.startswith(_PREFIX)
            },
            facts=values.get("facts", {}),
        )


def context_name(key: str, value: str) -> str:
    """Return the token name of one value of one column of ``obs``."""
    return f"<{key}={value}>"


def table_from_names(
    features: Sequence[str],
    *,
    context: Mapping[str, Sequence[str]] | None = None,
    extra: Sequence[str] = (),
    numbers: Mapping[str, np.ndarray] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> TokenTable:
    """Build a table: specials first, then context values, then features in the given order.

    Parameters
    ----------
    features
        Feature names, unique.
    context
        Column of ``obs`` to its values; each column also gets an id for values never seen.
    extra
        Further tokens that are no feature, after the specials; role is the name without ``<>``.
    numbers, facts
        Passed on to :class:`TokenTable`.
    """
    fixed = [*SPECIAL_NAMES, *extra]
    special = {name.strip("<>"): i for i, name in enumerate(fixed)}
    names = list(fixed)
    context_ids: dict[str, dict[str, int]] = {}
    for key, values in (context or {}).items():
        context_ids[key] = {}
        for value in (UNKNOWN, *sorted(set(values) - {UNKNOWN})):
            context_ids[key][value] = len(names)
            names.append(context_name(key, value))
    first = len(names)
    vocabulary = Vocabulary(names=(*names, *map(str, features)), special=special)
    return TokenTable(
        vocabulary=vocabulary,
        features=np.asarray(features, dtype=str),
        ids=np.arange(first, first + len(features), dtype=np.int32),
        context=context_ids,
        numbers=dict(numbers or {}),
        facts=dict(facts or {}),
    )


def table_from_ids(
    token_ids: Mapping[str, int],
    *,
    special: Mapping[str, str],
    not_features: Sequence[str] = (),
    context: Mapping[str, Mapping[str, int]] | None = None,
    numbers: Mapping[str, Mapping[str, float]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> TokenTable:
    """Build a table from a published vocabulary (name → id).

    Parameters
    ----------
    token_ids
        Name to id; ids are 0 … n − 1 once each.
    special
        Role (``pad``, ``mask``, ``cls`` …) to token name; names that are not there are refused.
    not_features
        Further names that are no feature (context tokens, auxiliary slots).
    context
        Column of ``obs`` to (value → id).
    numbers
        Name of a number to (feature → value). Features without one are left out of the table.
    facts
        Other JSON values.
    """
    ordered = sorted(token_ids, key=lambda name: int(token_ids[name]))
    _check_ids(token_ids, ordered, special)
    aside = {*special.values(), *not_features}
    tables = dict(numbers or {})
    kept = [n for n in ordered if n not in aside and all(n in t for t in tables.values())]
    if not kept:
        msg = (
            "No feature of the vocabulary has all the numbers it needs "
            f"({', '.join(tables)}). Give tables that use the same names, e.g. {ordered[-1]!r}."
        )
        raise DataError(msg)
    return TokenTable(
        vocabulary=Vocabulary(
            names=tuple(ordered), special={r: int(token_ids[n]) for r, n in special.items()}
        ),
        features=np.asarray(kept, dtype=str),
        ids=np.array([int(token_ids[n]) for n in kept], dtype=np.int32),
        context={k: dict(v) for k, v in (context or {}).items()},
        numbers={
            k: np.array([float(table[n]) for n in kept], dtype=np.float64)
            for k, table in tables.items()
        },
        facts=dict(facts or {}),
    )


def _check_ids(
    token_ids: Mapping[str, int], ordered: list[str], special: Mapping[str, str]
) -> None:
    found = [int(token_ids[name]) for name in ordered]
    if found != list(range(len(ordered))):
        gap = next((i for i, value in enumerate(found) if value != i), len(found))
        msg = (
            f"The vocabulary's ids are not 0 … {len(ordered) - 1} once each: the first that is "
            f"wrong stands at {gap}. Give the published file whole."
        )
        raise DataError(msg)
    missing = [name for name in special.values() if name not in token_ids]
    if missing:
        msg = (
            f"The vocabulary has no token {missing[0]!r}. Name its special tokens with "
            "special={'pad': '<pad>', …}."
        )
        raise DataError(msg)
