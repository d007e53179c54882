"""Write files and folders beside their place, fsync them, then rename: old or new, never less."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cellweave.storage.manifest import (
    FOLDER_MANIFEST,
    describe_file,
    digest_of_manifest,
    sidecar_of,
)

__all__ = ["atomic_file", "atomic_folder", "write_bytes"]

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.cellweave-(?P<pid>\d+)-[0-9a-f]{8}(\.old)?")


@contextmanager
def atomic_file(path: str | Path, *, kind: str) -> Iterator[Path]:
    """Yield a temporary path; on success its content becomes ``path``, with a manifest.

    On any error the temporary file is removed and what was at ``path`` stays.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = _temporary_name(path)
    try:
        yield temporary
        _fsync(temporary)
        _publish_file(temporary, path, kind)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, *, kind: str) -> Iterator[Path]:
    """Yield a temporary folder; on success it becomes ``path``, its manifest written last."""
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    temporary = _temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        _write_folder_manifest(temporary, kind)
        _publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: str | Path, data: bytes, *, kind: str) -> None:
    """Write ``data`` to ``path`` atomically, with a manifest."""
    with atomic_file(path, kind=kind) as temporary:
        temporary.write_bytes(data)


def _publish_file(temporary: Path, path: Path, kind: str) -> None:
    new = describe_file(temporary)
    sidecar = sidecar_of(path)
    both = ([describe_file(path)] if path.is_file() else []) + [new]
    _replace_manifest(sidecar, {"kind": kind, "accepted": both})
    temporary.replace(path)
    _fsync(path.parent)
    _replace_manifest(sidecar, {"kind": kind, "accepted": [new]})


def _publish_folder(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.replace(path)
    else:
        # A folder cannot replace a full folder in one step: the old one steps aside by a name
        # that `_sweep` knows how to bring back if we die between the two renames.
        aside = temporary.with_name(temporary.name + ".old")
        path.replace(aside)
        temporary.replace(path)
        shutil.rmtree(aside, ignore_errors=True)
    _fsync(path.parent)


def _write_folder_manifest(folder: Path, kind: str) -> None:
    files: dict[str, Any] = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        _fsync(file)
        files[file.relative_to(folder).as_posix()] = describe_file(file)
    _replace_manifest(folder / FOLDER_MANIFEST, {"kind": kind, "files": files})
    _fsync(folder)


def _replace_manifest(path: Path, body: dict[str, Any]) -> None:
    temporary = _temporary_name(path)
    values = {**body, "self": digest_of_manifest(body)}
    temporary.write_text(json.dumps(values, sort_keys=True, indent=1))
    _fsync(temporary)
    temporary.replace(path)
    _fsync(path.parent)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.cellweave-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _sweep(folder: Path) -> None:
    """Remove what dead processes left; bring back a folder caught between its two renames."""
    for leftover in folder.glob(".*.cellweave-*"):
        match = _LEFTOVER.fullmatch(leftover.name)
        if match is None or _is_alive(int(match["pid"])):
            continue
        home = folder / match["name"]
        if leftover.name.endswith(".old") and not home.exists():
            leftover.replace(home)
        elif leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
