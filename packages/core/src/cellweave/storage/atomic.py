"""Write files and folders beside their place, fsync them, then rename: old or new, never less.

Writers of one folder take turns only while they publish (a lock on the folder itself, which the
system releases when a process dies), so two processes that write one path leave one of the two
outputs, whole, with the manifest that belongs to it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cellweave.errors import IntegrityError, UnwritableError
from cellweave.storage.exchange import exchange
from cellweave.storage.failures import told_as_ours
from cellweave.storage.manifest import (
    FOLDER_MANIFEST,
    describe_file,
    manifest_bytes,
    read_manifest,
    real_path,
    sidecar_of,
)
from cellweave.storage.recovery import recover, sweep, temporary_name

__all__ = ["atomic_file", "atomic_folder", "write_bytes"]

# A folder with one of these may be replaced whole: we wrote it, or it is a zarr store.
_REPLACEABLE = (FOLDER_MANIFEST, "zarr.json", ".zgroup", ".zattrs")


@contextmanager
def atomic_file(path: str | Path, *, kind: str) -> Iterator[Path]:
    """Yield a temporary path; on success its content becomes ``path``, with a manifest.

    On any error the temporary file is removed and what was at ``path`` stays. A symbolic link is
    followed: the file it points to is replaced.
    """
    path = real_path(path)
    with told_as_ours(path):
        _refuse_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = temporary_name(path)
        try:
            yield temporary
            _refuse_nothing(temporary, path)
            _fsync(temporary)
            new = describe_file(temporary)
            with _turn(path.parent):
                _publish_file(temporary, path, kind, new)
        finally:
            _discard(temporary)


@contextmanager
def atomic_folder(path: str | Path, *, kind: str) -> Iterator[Path]:
    """Yield a temporary folder; on success it becomes ``path``, its manifest written last.

    An existing folder is replaced only when cellweave wrote it, or it is a zarr store or empty.
    """
    path = real_path(path)
    with told_as_ours(path):
        recover(path)
        _refuse_foreign_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = temporary_name(path)
        temporary.mkdir()
        try:
            yield temporary
            _write_folder_manifest(temporary, kind)
            with _turn(path.parent):
                _publish_folder(temporary, path)
        finally:
            _discard(temporary)


def write_bytes(path: str | Path, data: bytes, *, kind: str) -> None:
    """Write ``data`` to ``path`` atomically, with a manifest."""
    with atomic_file(path, kind=kind) as temporary:
        temporary.write_bytes(data)


def _publish_file(temporary: Path, path: Path, kind: str, new: dict[str, Any]) -> None:
    sidecar = sidecar_of(path)
    old = _accepted_now(path, sidecar)
    _replace_manifest(sidecar, {"kind": kind, "accepted": [*old, new]})
    temporary.replace(path)
    _fsync(path.parent)
    _replace_manifest(sidecar, {"kind": kind, "accepted": [new]})


def _accepted_now(path: Path, sidecar: Path) -> list[dict[str, Any]]:
    """Give the digests of the old file: as it was written where we know, else as it is."""
    if not path.is_file():
        return []
    try:
        accepted = list(read_manifest(sidecar, path).get("accepted", []))
    except IntegrityError:
        return [describe_file(path)]
    if len(accepted) > 1:
        # A writer died in between: keep only the one of its two digests that is really there.
        found = describe_file(path)
        return [found] if found in accepted else accepted
    return accepted


def _publish_folder(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
    elif not exchange(temporary, path):
        _swap_in_two_steps(temporary, path)
    _fsync(path.parent)


def _swap_in_two_steps(temporary: Path, path: Path) -> None:
    # The old folder steps aside by a name that `recover` brings back if we die in between.
    aside = temporary.with_name(temporary.name + ".old")
    path.rename(aside)
    try:
        temporary.rename(path)
    except OSError:
        aside.rename(path)
        raise
    _fsync(path.parent)
    _discard(aside)


def _write_folder_manifest(folder: Path, kind: str) -> None:
    files: dict[str, Any] = {}
    for entry in sorted(folder.rglob("*")):
        if entry.is_symlink():
            msg = f"{entry.name!r} is a symbolic link. Outputs hold plain files only: copy it."
            raise UnwritableError(msg)
        _fsync(entry)
        if entry.is_file():
            files[entry.relative_to(folder).as_posix()] = describe_file(entry)
    _replace_manifest(folder / FOLDER_MANIFEST, {"kind": kind, "files": files})
    _fsync(folder)


def _replace_manifest(path: Path, body: dict[str, Any]) -> None:
    temporary = temporary_name(path)
    try:
        temporary.write_bytes(manifest_bytes(body))
        _fsync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _fsync(path.parent)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        msg = (
            f"Cannot write the file {str(path)!r}: a folder of that name exists. Use another name."
        )
        raise UnwritableError(msg)


def _refuse_nothing(temporary: Path, path: Path) -> None:
    if not temporary.is_file():
        msg = (
            f"Cannot write {str(path)!r}: nothing was written to the temporary file. What stood "
            "there before is untouched. The code inside `with atomic_file(…)` must write to the "
            "path it is given."
        )
        raise UnwritableError(msg)


def _refuse_foreign_folder(path: Path) -> None:
    if not path.exists():
        return
    if not path.is_dir():
        msg = (
            f"Cannot write the folder {str(path)!r}: a file of that name exists. Use another name."
        )
        raise UnwritableError(msg)
    if any(path.iterdir()) and not any((path / name).exists() for name in _REPLACEABLE):
        msg = (
            f"Cannot replace the folder {str(path)!r}: it holds files that cellweave did not "
            "write, and they would be lost. Choose a new or empty folder."
        )
        raise UnwritableError(msg)


def _discard(temporary: Path) -> None:
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Hold the lock by which publishers of one folder take turns."""
    try:
        import fcntl
    except ImportError:  # Windows has no such lock; its renames refuse open files instead.
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A file system without locks refuses: single writers, the usual case, need none.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
