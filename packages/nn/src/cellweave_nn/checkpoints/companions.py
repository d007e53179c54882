"""Find and read what stands beside the weights: settings, vocabularies, tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cellweave.errors import ConfigError, UnreadableFileError, one_of
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, Limits, refuse, size_of
from cellweave_nn.checkpoints.pickled import read_pickled_table

__all__ = ["find_companion", "find_companions", "head_count", "read_json", "read_table"]

_MOST_HEADS = 10_000


def find_companions(folders: Iterable[Path], patterns: Sequence[str]) -> list[Path]:
    """Return every file that fits one of ``patterns``, folders and patterns in order."""
    found = [p for f in folders if f.is_dir() for g in patterns for p in sorted(f.glob(g))]
    return [p for p in dict.fromkeys(found) if p.is_file()]


def find_companion(folders: Sequence[Path], patterns: Sequence[str], *, what: str) -> Path:
    """Return the first file that fits, or say what is missing and where it was looked for."""
    found = find_companions(folders, patterns)
    if not found:
        places = ", ".join(repr(str(f)) for f in dict.fromkeys(folders))
        msg = (
            f"The {what} is missing: no file {' or '.join(map(repr, patterns))} in {places}. "
            "Put the file that the authors publish with these weights beside them."
        )
        raise UnreadableFileError(msg)
    return found[0]


def read_json(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Read a JSON object of bounded size."""
    size_of(path, limits.header_bytes)
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise refuse(path, f"it is no JSON ({str(error)[:80]})") from error
    if not isinstance(values, dict):
        raise refuse(path, f"it holds a {type(values).__name__}, expected an object")
    return values


def read_table(path: Path, *, of: type | tuple[type, ...], what: str) -> dict[str, Any]:
    """Read names and values from JSON or a pickle of plain values; others are refused.

    Parameters
    ----------
    path
        The file.
    of
        Type of the values.
    what
        What the table is, for errors.
    """
    table = read_json(path) if path.suffix == ".json" else read_pickled_table(path)
    wrong = [k for k, v in table.items() if not isinstance(k, str) or not isinstance(v, of)]
    wrong += [k for k, v in table.items() if isinstance(v, bool) and k not in wrong]
    if wrong or not table:
        raise refuse(path, f"it is no {what}: odd entries {one_of(map(repr, wrong), limit=3)}")
    return table


def head_count(given: str | Path | None, *, usual: int) -> int:
    """Return the number of attention heads, which no file tells: ``usual`` when not given."""
    text = str(usual if given is None else given)
    if not text.isdecimal() or not 0 < int(text) < _MOST_HEADS:
        msg = f"heads={given!r} is no number of attention heads. Give a whole number such as "
        raise ConfigError(msg + f"{usual}.")
    return int(text)
