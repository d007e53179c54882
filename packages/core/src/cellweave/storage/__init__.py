"""The one place that writes: beside, fsync, rename; every output with a manifest of digests."""

from __future__ import annotations

from cellweave.storage.atomic import atomic_file, atomic_folder, write_bytes
from cellweave.storage.manifest import (
    Verification,
    has_manifest,
    inspect,
    verify,
    verify_or_raise,
)
from cellweave.storage.recovery import recover

__all__ = [
    "Verification",
    "atomic_file",
    "atomic_folder",
    "has_manifest",
    "inspect",
    "recover",
    "verify",
    "verify_or_raise",
    "write_bytes",
]
