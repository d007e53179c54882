"""Look at the metadata of a zarr folder before any array of it is opened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cellweave.data.untrusted import check_digest, unreadable
from cellweave.storage import has_manifest

__all__ = ["check_zarr_before_reading", "is_zarr"]

_SIGNS = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata")
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_LARGEST_METADATA = 64 << 20
_UNPACKED = 1 << 30
_UNPACKED_PER_BYTE = 100
# Codecs that only turn bytes into bytes or numbers. `pickle` is a codec too: it is not among them.
_CODECS = frozenset(
    {"blosc", "zstd", "lz4", "gzip", "zlib", "lzma", "bz2", "crc32c", "crc32", "adler32", "bytes"}
    | {"vlen-utf8", "vlen-bytes", "vlen-array", "transpose", "sharding_indexed", "delta"}
    | {"fixedscaleoffset", "packbits", "shuffle", "quantize", "bitround", "endian", "fletcher32"}
)


def is_zarr(path: Path) -> bool:
    """Tell whether ``path`` is a folder in zarr format 2 or 3."""
    return path.is_dir() and any((path / sign).is_file() for sign in _SIGNS)


def check_zarr_before_reading(folder: Path) -> None:
    """Vouch for a zarr folder: by our digests where there are, else by its metadata.

    Refused are codecs that could run code, arrays that unpack to more than the folder can hold,
    metadata that are no JSON, and links out of the folder.
    """
    if has_manifest(folder):
        check_digest(folder)
        return
    on_disk = 0
    promised = 0
    for entry in folder.rglob("*"):
        if entry.is_symlink():
            raise unreadable(folder, f"{entry.name!r} is a link")
        if not entry.is_file():
            continue
        size = entry.stat().st_size
        on_disk += size
        if entry.name in _METADATA:
            if size > _LARGEST_METADATA:
                raise unreadable(folder, f"{entry.name!r} holds {size} bytes of metadata")
            promised += _promised_bytes(folder, entry)
    if promised > _UNPACKED + _UNPACKED_PER_BYTE * on_disk:
        raise unreadable(folder, f"it unpacks to {promised / 2**30:.1f} GiB, more than it can hold")


def _promised_bytes(folder: Path, metadata: Path) -> int:
    try:
        values = json.loads(metadata.read_bytes())
        for codec in _codecs(values):
            if str(codec).lower().removeprefix("numcodecs.") not in _CODECS:
                raise unreadable(folder, f"it asks for the codec {str(codec)[:40]!r}")
        shape = values.get("shape", []) if isinstance(values, dict) else []
        total = 8 if shape else 0
        for n in shape:
            total *= int(n)
    except (ValueError, TypeError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and "Get the file again" in str(error):
            raise
        raise unreadable(folder, f"{metadata.name!r} is damaged ({error})") from error
    return total


def _codecs(values: Any) -> Iterator[Any]:
    """Yield every codec that metadata name, consolidated ones included."""
    if isinstance(values, list):
        for item in values:
            yield from _codecs(item)
    if not isinstance(values, dict):
        return
    for key, item in values.items():
        if key in ("filters", "codecs", "index_codecs"):
            for codec in item or ():
                yield codec.get("id", codec.get("name")) if isinstance(codec, dict) else codec
        elif key == "compressor" and item is not None:
            yield item.get("id") if isinstance(item, dict) else item
        if key != "attributes":
            yield from _codecs(item)
