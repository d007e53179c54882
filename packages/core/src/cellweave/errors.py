"""The errors that cellweave raises; each is also a builtin, so plain ``except ValueError`` works.

Every text has three parts: what failed with the value, what was expected, what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CellweaveError",
    "ConfigError",
    "DataError",
    "DataNotice",
    "IntegrityError",
    "LicenceNotice",
    "MissingDependencyError",
    "NotFittedError",
    "NumericalError",
    "PluginConflictError",
    "PluginLoadError",
    "StateMismatchError",
    "StoppedError",
    "UnknownComponentError",
    "UnreadableFileError",
    "UnwritableError",
    "closest",
    "one_of",
]


class LicenceNotice(UserWarning):
    """Say before files are read that their licence forbids some uses; the command line shows it."""


class DataNotice(UserWarning):
    """Say that data look like something else than was asked for, where work can go on."""


class CellweaveError(Exception):
    """Signal a problem that the caller can mend; the root of all our errors."""


class DataError(CellweaveError, ValueError):
    """Signal that data given to us are not what the step needs."""


class UnreadableFileError(DataError, OSError):
    """Signal that a file is damaged, of another format, or took too long or too much to read."""


class UnwritableError(CellweaveError, OSError):
    """Signal that an output could not be written; what stood in its place is untouched."""


class IntegrityError(DataError):
    """Signal that bytes on disk differ from the digests they were written with."""


class ConfigError(CellweaveError, ValueError):
    """Signal a configuration or an argument that does not fit its schema."""


class StateMismatchError(CellweaveError, ValueError):
    """Signal saved state whose keys, shapes or settings do not match what loads it."""


class StoppedError(CellweaveError, RuntimeError):
    """Signal work that was stopped when asked to; the text says what is kept and how to go on."""


class NotFittedError(CellweaveError, RuntimeError):
    """Signal a result asked for before ``fit``."""


class NumericalError(CellweaveError, ArithmeticError):
    """Signal NaN or infinity that appeared while computing, with the place where it did."""


class UnknownComponentError(CellweaveError, LookupError):
    """Signal a component name that no loaded plugin offers."""


class PluginLoadError(CellweaveError, ImportError):
    """Signal a plugin or component that could not be imported."""


class MissingDependencyError(PluginLoadError):
    """Signal an optional library that is not installed; the text holds the pip command."""


class PluginConflictError(CellweaveError, ValueError):
    """Signal one component name offered by two distributions."""


def closest(name: str, available: Iterable[str]) -> str:
    """Say the closest available name as a sentence, or nothing when none is close."""
    import difflib

    matches = difflib.get_close_matches(name, _named(available), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def one_of(available: Iterable[str], *, limit: int = 10) -> str:
    """List names for an error text: sorted, at most ``limit``, the rest counted."""
    names = _named(available)
    shown = ", ".join(names[:limit]) or "none"
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _named(available: Iterable[str | None]) -> list[str]:
    """Sort names; anndata 0.13 lists `X` among the layers under the key None."""
    return sorted(str(name) for name in available if name is not None)
