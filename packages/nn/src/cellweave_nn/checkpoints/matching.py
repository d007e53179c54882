"""Put published tensors into a network, strictly both ways, and report what became of every key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from cellweave.errors import StateMismatchError

__all__ = ["KeyReport", "fill", "renamed_by", "take"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """Say what became of every key.

    Parameters
    ----------
    used
        Published key to the parameter it filled.
    ignored
        Published keys that are known not to be needed, each with the reason.
    new
        Parameters that no published key fills and that keep their start.
    """

    used: Mapping[str, str]
    ignored: Mapping[str, str] = field(default_factory=dict)
    new: Sequence[str] = ()

    def __str__(self) -> str:
        """Count them in one line."""
        return f"{len(self.used)} used, {len(self.ignored)} ignored, {len(self.new)} new"


def renamed_by(patterns: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    """Return a function that replaces the start of a name by the first pattern that fits it.

    Parameters
    ----------
    patterns
        Regular expression of a published start and our own, with groups as in ``re``.
    """
    compiled = [(re.compile(pattern), ours) for pattern, ours in patterns]

    def renamed(name: str) -> str:
        for pattern, ours in compiled:
            if found := pattern.match(name):
                return found.expand(ours) + name[found.end() :]
        return name

    return renamed


def take(
    tensors: Mapping[str, torch.Tensor], names: Iterable[str], *, source: Path
) -> list[torch.Tensor]:
    """Return the named tensors, or tell all that are missing."""
    wanted = list(names)
    if missing := [n for n in wanted if n not in tensors]:
        raise _misfit(source, missing=missing)
    return [tensors[n] for n in wanted]


def fill(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    *,
    source: Path,
    rename: Callable[[str], str] | Mapping[str, str] | None = None,
    ignored: Mapping[str, str] | None = None,
    new: Sequence[str] = (),
) -> KeyReport:
    """Copy tensors into the parameters and buffers of ``module``.

    Parameters
    ----------
    module
        What is filled.
    tensors
        Published tensors by name.
    source
        Where they come from, for errors.
    rename
        Published name to the module's, as a function or a table (others keep their name).
    ignored
        Pattern (whole name, regular expression) to the reason why such keys are not needed.
    new
        Patterns of parameters that may stay as they are.
    """
    own = module.state_dict(keep_vars=True)
    left_out = {k: r for k in tensors for p, r in (ignored or {}).items() if re.fullmatch(p, k)}
    used = {k: _renamed(k, rename) for k in tensors if k not in left_out}
    unused = sorted(k for k, n in used.items() if n not in own)
    unfilled = sorted(own.keys() - set(used.values()))
    fresh = [n for n in unfilled if any(re.fullmatch(p, n) for p in new)]
    missing = [n for n in unfilled if n not in fresh]
    shapes = [
        f"{k} {tuple(tensors[k].shape)} for {tuple(own[n].shape)}"
        for k, n in used.items()
        if n in own and own[n].shape != tensors[k].shape
    ]
    twice = len(set(used.values())) < len(used)
    if unused or missing or shapes or twice:
        raise _misfit(source, unused=unused, missing=missing, shapes=shapes)
    with torch.no_grad():
        for key, name in used.items():
            own[name].copy_(tensors[key])
    return KeyReport(used=used, ignored=left_out, new=tuple(fresh))


def _renamed(name: str, rename: Callable[[str], str] | Mapping[str, str] | None) -> str:
    if rename is None:
        return name
    return rename.get(name, name) if isinstance(rename, Mapping) else rename(name)


def _misfit(
    source: Path,
    *,
    unused: Sequence[str] = (),
    missing: Sequence[str] = (),
    shapes: Sequence[str] = (),
) -> StateMismatchError:
    msg = (
        f"The weights in {str(source)!r} do not fit. Not used: {_some(unused)}. "
        f"Missing: {_some(missing)}. Other shapes: {_some(shapes)}. "
        "Give the published file whole, with the configuration that belongs to it."
    )
    return StateMismatchError(msg)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return (", ".join(names[:8]) or "none") + more
