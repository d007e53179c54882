"""Digests of data containers, to see whether anything in them has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

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
    if sp.issparse(value):
        digest.update(repr(value.shape).encode())
        parts = (value.data, value.indices, value.indptr) if hasattr(value, "indptr") else ()
        for array in parts or (value.tocsr().data, value.tocsr().indices):
            _feed(digest, array)
    elif isinstance(value, pd.DataFrame):
        digest.update(repr([*map(str, value.columns), *map(str, value.dtypes)]).encode())
        digest.update(pd.util.hash_pandas_object(value).to_numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(repr(value.tolist()).encode() if value.dtype == object else value.tobytes())
    elif isinstance(value, Mapping) or hasattr(value, "keys"):
        for key in list(value.keys()):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            _feed(digest, getattr(value, part.name))
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for part in value:
            _feed(digest, part)
    elif hasattr(value, "detach"):
        _feed(digest, value.detach().cpu().numpy())
    else:
        digest.update(repr(value).encode())
