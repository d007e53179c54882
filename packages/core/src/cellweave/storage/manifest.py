"""Manifests: sha256 and size of everything written, and the check that nothing has changed.

A folder carries ``MANIFEST.json``. A file carries a sidecar ``NAME.manifest.json``. The sidecar
and the file cannot be renamed in one step, so while a file is being replaced its sidecar lists the
digests of both the old and the new content; whichever of the two is found is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellweave.errors import IntegrityError
from cellweave.storage.recovery import recover

__all__ = [
    "FOLDER_MANIFEST",
    "Verification",
    "describe_file",
    "has_manifest",
    "inspect",
    "manifest_bytes",
    "real_path",
    "sha256_of",
    "sidecar_of",
    "verify",
    "verify_or_raise",
]

FOLDER_MANIFEST = "MANIFEST.json"
_BLOCK = 1 << 20
_LARGEST_MANIFEST = 256 << 20
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Say what was compared with its digest and what differs.

    Parameters
    ----------
    path
        What was verified.
    kind
        The kind of output, as its manifest says.
    checked
        Every file that was read and compared, relative to a folder's root.
    problems
        What differs; empty when all is as written.
    """

    path: str
    kind: str
    checked: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Tell whether everything is as it was written."""
        return not self.problems


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Return the size and digest of a file, as kept in manifests."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return {"size": size, "sha256": digest.hexdigest()}


def real_path(path: str | Path) -> Path:
    """Follow symbolic links: outputs are written to, and vouched for at, where a link points."""
    return Path(os.path.realpath(path))


def sidecar_of(path: Path) -> Path:
    """Return where the manifest of a single file stands."""
    path = real_path(path)
    return path.with_name(path.name + ".manifest.json")


def has_manifest(path: str | Path) -> bool:
    """Tell whether cellweave vouches for what is at ``path``."""
    path = real_path(path)
    return (path / FOLDER_MANIFEST if path.is_dir() else sidecar_of(path)).exists()


def inspect(path: str | Path) -> Verification:
    """Compare everything at ``path`` with its manifest and list what was compared.

    Raises
    ------
    IntegrityError
        When there is nothing at ``path``, no manifest to compare with, or a damaged one.
    """
    shown, path = str(path), real_path(path)
    recover(path)
    for _ in range(_TRIES):
        manifest = path / FOLDER_MANIFEST if path.is_dir() else sidecar_of(path)
        before = _bytes_or_none(manifest)
        try:
            found = _inspect_folder(path) if path.is_dir() else _inspect_file(path)
        except (IntegrityError, FileNotFoundError):
            if _bytes_or_none(manifest) != before:
                continue
            raise
        # Somebody may have replaced the output while we read it: then look at the new one.
        if found.ok or _bytes_or_none(manifest) == before:
            return found
    msg = f"{shown!r} changes faster than it can be verified. Wait until its writer is done."
    raise IntegrityError(msg)


def verify(path: str | Path) -> list[str]:
    """List what differs between ``path`` and its manifest; an empty list means it is whole.

    Raises
    ------
    IntegrityError
        When there is nothing at ``path``, no manifest to compare with, or a damaged one.
    """
    return list(inspect(path).problems)


def verify_or_raise(path: str | Path) -> None:
    """Raise when ``path`` has a manifest and differs from it; a file without one passes."""
    real = real_path(path)
    recover(real)
    if real.exists() and not real.is_dir() and not has_manifest(real):
        return
    if problems := verify(path):
        msg = (
            f"{str(path)!r} is not what was written: {'; '.join(problems[:5])}"
            f"{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}. "
            "Restore it from a copy or make it again; where another program changed it on "
            "purpose, delete its manifest."
        )
        raise IntegrityError(msg)


def read_manifest(manifest: Path, what: Path) -> dict[str, Any]:
    """Read a manifest that vouches for itself byte by byte, or raise."""
    try:
        if manifest.stat().st_size > _LARGEST_MANIFEST:
            raise _damaged(manifest)
        data = manifest.read_bytes()
    except FileNotFoundError:
        msg = (
            f"{str(what)!r} has no manifest ({manifest.name}), so it cannot be verified. "
            "Only what cellweave wrote has one."
        )
        raise IntegrityError(msg) from None
    try:
        values: dict[str, Any] = json.loads(data)
        body = {k: v for k, v in values.items() if k != "self"}
        intact = manifest_bytes(body) == data and _well_formed(body)
    except (ValueError, AttributeError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise _damaged(manifest)
    return values


def manifest_bytes(body: dict[str, Any]) -> bytes:
    """Return the one way a manifest is written: sorted, with the digest of itself."""
    return json.dumps({**body, "self": _digest(body)}, sort_keys=True, indent=1).encode()


def _inspect_file(path: Path) -> Verification:
    if not path.exists():
        msg = f"There is nothing at {str(path)!r}. Give the path of a file that cellweave wrote."
        raise IntegrityError(msg)
    if not stat.S_ISREG(path.stat().st_mode):
        msg = f"{str(path)!r} is not a regular file. Give the path of a file that cellweave wrote."
        raise IntegrityError(msg)
    values = read_manifest(sidecar_of(path), path)
    accepted = values.get("accepted", [])
    found = describe_file(path)
    problems = []
    if found not in accepted:
        written = _short(accepted[-1]) if accepted else "nothing"
        problems.append(f"{path.name}: found {_short(found)}, written as {written}")
    return Verification(
        path=str(path),
        kind=values.get("kind", ""),
        checked=(path.name,),
        problems=tuple(problems),
    )


def _inspect_folder(folder: Path) -> Verification:
    values = read_manifest(folder / FOLDER_MANIFEST, folder)
    listed = values.get("files", {})
    present, problems = _walk(folder)
    problems += [f"{name}: missing" for name in sorted(set(listed) - present)]
    problems += [f"{name}: not in the manifest" for name in sorted(present - set(listed))]
    checked = sorted(present & set(listed))
    for name in checked:
        found = describe_file(folder / name)
        if found != listed[name]:
            problems.append(f"{name}: found {_short(found)}, written as {_short(listed[name])}")
    return Verification(
        path=str(folder),
        kind=values.get("kind", ""),
        checked=tuple(checked),
        problems=tuple(problems),
    )


def _walk(folder: Path) -> tuple[set[str], list[str]]:
    """List regular files below ``folder``, and complain of links and devices."""
    present, problems = set(), []
    for entry in sorted(folder.rglob("*")):
        name = entry.relative_to(folder).as_posix()
        mode = entry.lstat().st_mode
        if stat.S_ISREG(mode):
            present.add(name)
        elif not stat.S_ISDIR(mode):
            problems.append(f"{name}: a link or a device, which cellweave never writes")
    return present - {FOLDER_MANIFEST}, problems


def _well_formed(body: dict[str, Any]) -> bool:
    entries = [*body.get("accepted", []), *body.get("files", {}).values()]
    return all(isinstance(e["size"], int) and isinstance(e["sha256"], str) for e in entries)


def _damaged(manifest: Path) -> IntegrityError:
    msg = f"The manifest {str(manifest)!r} is damaged. Restore it or make the output again."
    return IntegrityError(msg)


def _bytes_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _short(entry: dict[str, Any]) -> str:
    return f"{entry['size']} bytes sha256 {entry['sha256'][:12]}"
