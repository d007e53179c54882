"""The one place that writes: beside, fsync, rename; every output with a manifest of digests."""

from __future__ import annotations

from cellweave.storage.atomic import atomic_file, atomic_folder, write_bytes
from cellweave.storage.manifest import verify, verify_or_raise

__all__ = ["atomic_file", "atomic_folder", "verify", "verify_or_raise", "write_bytes"]
