"""What killed processes leave behind: names that tell it, a sweeper, and a way back.

A temporary name is ``.NAME.cellweave-HOST-PID-RANDOM``. Where the system cannot exchange two
folders in one step, the old one steps aside under the same name with ``.old`` added; whoever reads
or writes next brings it back if its process died between the two renames.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from pathlib import Path

__all__ = ["recover", "sweep", "temporary_name"]

_LEFTOVER = re.compile(
    r"\.(?P<name>.+)\.cellweave-(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-[0-9a-f]{8}(?P<old>\.old)?"
)
_FOREIGN_AGE = 7 * 24 * 3600.0
_PATIENCE = 2.0


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that tells the sweeper whose it is."""
    unique = uuid.uuid4().hex[:8]
    return path.with_name(f".{path.name}.cellweave-{_host()}-{os.getpid()}-{unique}")


def sweep(folder: Path) -> None:
    """Remove what dead processes left; bring back folders caught between their two renames."""
    for leftover, match in _leftovers(folder):
        if _may_be_alive(leftover, match):
            continue
        home = folder / match["name"]
        if match["old"] and not home.exists():
            _rename_if_there(leftover, home)
        else:
            _remove(leftover)


def recover(path: Path) -> None:
    """Bring back a folder whose writer stands, or died, between its two renames."""
    deadline = time.monotonic() + _PATIENCE
    while not path.exists() and path.parent.is_dir():
        found = _leftovers(path.parent)
        aside = [(p, match) for p, match in found if match["old"] and match["name"] == path.name]
        if not aside or time.monotonic() > deadline:
            return
        for leftover, match in aside:
            if not _may_be_alive(leftover, match):
                _rename_if_there(leftover, path)
                return
        time.sleep(0.01)


def _leftovers(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    matched = ((entry, _LEFTOVER.fullmatch(entry.name)) for entry in folder.iterdir())
    return [(entry, match) for entry, match in matched if match]


def _may_be_alive(leftover: Path, match: re.Match[str]) -> bool:
    if match["host"] != _host():
        # Process numbers of another machine say nothing here: only age does.
        try:
            return time.time() - leftover.lstat().st_mtime < _FOREIGN_AGE
        except OSError:
            return True
    try:
        os.kill(int(match["pid"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:6]


def _remove(leftover: Path) -> None:
    if leftover.is_dir() and not leftover.is_symlink():
        shutil.rmtree(leftover, ignore_errors=True)
        return
    try:
        leftover.unlink(missing_ok=True)
    except OSError:
        # A leftover that is not ours to remove hurts nobody; the write goes on.
        return


def _rename_if_there(leftover: Path, home: Path) -> None:
    try:
        leftover.rename(home)
    except OSError:
        # Another process brought it back first, or the folder is read-only.
        return
