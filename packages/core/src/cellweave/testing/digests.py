"""Digests of data containers, to see whether anything in them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from cellweave.testing.matrices import is_sparse

__all__ = ["changed_parts", "digest_of", "digests_of"]

_SLOTS = ("X", "obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns")


def digests_of(data: Any) -> dict[str, str]:
    """Return a digest of every part of an AnnData or MuData, by its place."""
    if hasattr(data, "mod"):
        parts = {"order of modalities": digest_of(list(data.mod))}
        for slot in ("obs", "var", "obsm", "uns"):
            parts[f"mdata.{slot}"] = digest_of(getattr(data, slot))
        for name, adata in data.mod.items():
            parts |= {f"mdata[{name!r}].{k}": v for k, v in digests_of(adata).items()}
        return parts
    parts = {}
    for slot in _SLOTS:
        value = getattr(data, slot)
        if hasattr(value, "keys") and not isinstance(value, pd.DataFrame):
            parts[f"{slot} keys"] = digest_of(list(value.keys()))
            parts |= {f"{slot}[{k!r}]": digest_of(value[k]) for k in list(value.keys())}
        else:
            parts[slot] = digest_of(value)
    return parts


def changed_parts(before: dict[str, str], data: Any) -> list[str]:
    """Name the parts of ``data`` whose digest is not what it was."""
    after = digests_of(data)
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def digest_of(value: Any) -> str:
    """Return the digest of one value: its type, its shape, its bytes."""
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    digest.update(type(value).__name__.encode())
    if isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
        return
    parts = _parts_of(value)
    if parts is None:
        digest.update(repr(value).encode())
        return
    for part in parts:
        _feed(digest, part)


def _parts_of(value: Any) -> list[Any] | None:
    """Return what a container holds, with its names and shapes, or ``None`` for a plain value."""
    if is_sparse(value):
        stored = value if hasattr(value, "indptr") else value.tocsr()
        return [repr(value.shape), stored.data, stored.indices, stored.indptr]
    if isinstance(value, pd.DataFrame):
        head = repr([*map(str, value.columns), *map(str, value.dtypes)])
        return [head, pd.util.hash_pandas_object(value).to_numpy()]
    if hasattr(value, "keys"):
        return [part for key in list(value.keys()) for part in (str(key), value[key])]
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, part.name) for part in fields(value)]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    if hasattr(value, "detach"):
        return [value.detach().cpu().numpy()]
    return None
