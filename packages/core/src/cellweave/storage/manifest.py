"""Manifests: sha256 and size of everything written, and the check that nothing has changed.

A folder carries ``MANIFEST.json``. A file carries a sidecar ``NAME.manifest.json``. The sidecar
and the file cannot be renamed in one step, so while a file is being replaced its sidecar lists the
digests of both the old and the new content; whichever of the two is found is complete.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cellweave.errors import IntegrityError

__all__ = [
    "FOLDER_MANIFEST",
    "describe_file",
    "sha256_of",
    "sidecar_of",
    "verify",
    "verify_or_raise",
]

FOLDER_MANIFEST = "MANIFEST.json"
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Return the size and digest of a file, as kept in manifests."""
    return {"size": path.stat().st_size, "sha256": sha256_of(path)}


def sidecar_of(path: Path) -> Path:
    """Return where the manifest of a single file stands."""
    return path.with_name(path.name + ".manifest.json")


def verify(path: str | Path) -> list[str]:
    """List what differs between ``path`` and its manifest; an empty list means it is whole.

    Raises
    ------
    IntegrityError
        When there is nothing at ``path``, or no manifest to compare with.
    """
    path = Path(path)
    if path.is_dir():
        return _verify_folder(path)
    if not path.exists():
        msg = f"There is nothing at {str(path)!r}. Give the path of a file that cellweave wrote."
        raise IntegrityError(msg)
    sidecar = sidecar_of(path)
    accepted = _read_manifest(sidecar, path).get("accepted", [])
    found = describe_file(path)
    if found in accepted:
        return []
    return [f"{path.name}: found {_short(found)}, written as {_short(accepted[-1])}"]


def verify_or_raise(path: str | Path) -> None:
    """Raise when ``path`` has a manifest and differs from it; a file without one passes."""
    path = Path(path)
    manifest = path / FOLDER_MANIFEST if path.is_dir() else sidecar_of(path)
    if path.exists() and not path.is_dir() and not manifest.exists():
        return
    if problems := verify(path):
        msg = (
            f"{str(path)!r} is not what was written: {'; '.join(problems)}. "
            "Restore it from a copy or make it again."
        )
        raise IntegrityError(msg)


def _verify_folder(folder: Path) -> list[str]:
    listed = _read_manifest(folder / FOLDER_MANIFEST, folder).get("files", {})
    present = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p != folder / FOLDER_MANIFEST
    }
    problems = [f"{name}: missing" for name in sorted(set(listed) - present)]
    problems += [f"{name}: not in the manifest" for name in sorted(present - set(listed))]
    for name in sorted(present & set(listed)):
        found = describe_file(folder / name)
        if found != listed[name]:
            problems.append(f"{name}: found {_short(found)}, written as {_short(listed[name])}")
    return problems


def _read_manifest(manifest: Path, what: Path) -> dict[str, Any]:
    if not manifest.exists():
        msg = (
            f"{str(what)!r} has no manifest ({manifest.name}), so it cannot be verified. "
            "Only what cellweave wrote has one."
        )
        raise IntegrityError(msg)
    try:
        values: dict[str, Any] = json.loads(manifest.read_bytes())
        body = {k: v for k, v in values.items() if k != "self"}
        intact = values.get("self") == digest_of_manifest(body)
    except (ValueError, AttributeError):
        intact = False
    if not intact:
        msg = f"The manifest {str(manifest)!r} is damaged. Restore it or make the output again."
        raise IntegrityError(msg)
    return values


def digest_of_manifest(body: dict[str, Any]) -> str:
    """Return the digest by which a manifest vouches for itself."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _short(entry: dict[str, Any]) -> str:
    return f"{entry['size']} bytes sha256 {entry['sha256'][:12]}"
