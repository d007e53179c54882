"""Many h5ad or zarr files as one run of cells, features aligned to one vocabulary on the fly."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from cellweave.errors import ConfigError, DataError, UnreadableFileError, closest, one_of
from cellweave.kernels.ragged import count_kept, filter_rows, look_over_rows, realign_rows
from cellweave.streaming.direct import StoredValues, stored_values
from cellweave.streaming.store import RowBuffer

__all__ = ["CellFiles"]

_DAMAGE = (OSError, EOFError, KeyError, ValueError, RuntimeError, IndexError, TypeError)


@dataclass(slots=True)
class _Part:
    """One open file: where its matrix is, how many cells, how its columns map."""

    path: Path
    file: Any
    matrix: Any
    indptr: np.ndarray
    n_columns: int
    names: np.ndarray
    features: np.ndarray
    places: np.ndarray
    order: Literal["same", "ascending", "other"] = "other"
    descriptor: int | None = None
    stored: dict[str, StoredValues | None] = field(default_factory=dict)

    @property
    def n_cells(self) -> int:
        return len(self.indptr) - 1


def _order_of(places: np.ndarray) -> Literal["same", "ascending", "other"]:
    """Say how the places of columns run: all in their order, some in order, or neither."""
    known = places[places >= 0]
    if len(known) and np.any(np.diff(known) <= 0):
        return "other"
    same = len(known) == len(places) and np.array_equal(known, np.arange(len(known)))
    return "same" if same else "ascending"


class CellFiles:
    """Read CSR cells from several files as if they were one.

    Parameters
    ----------
    paths
        ``.h5ad`` files or ``.zarr`` folders, CSR in ``X`` or the named layer.
    features
        The vocabulary: other features are left out, missing ones are simply not expressed;
        ``None`` takes the union, in the order in which features are first seen.
    layer
        Layer to read; ``None`` takes ``layers["counts"]`` where the first file has it, else ``X``.
    obs
        Columns of ``obs`` to hand on; each file must have them.
    threads
        Threads that unpack the chunks of files packed by gzip.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        features: Sequence[str] | None = None,
        layer: str | None = None,
        obs: Sequence[str] = (),
        threads: int = 1,
    ) -> None:
        if not paths:
            msg = "No files were given. Give at least one .h5ad or .zarr."
            raise ConfigError(msg)
        if threads < 1:
            msg = f"threads={threads!r}. Expected at least 1."
            raise ConfigError(msg)
        self._pool = ThreadPoolExecutor(threads, "cell-unpacker") if threads > 1 else None
        self.paths = [Path(p) for p in paths]
        self._parts = [_opened(path, layer) for path in self.paths]
        self.features = np.asarray(_union(self._parts) if features is None else features, str)
        for part in self._parts:
            part.places = _places(part, self.features)
            part.order = _order_of(part.places)
        self._first = np.concatenate([[0], np.cumsum([p.n_cells for p in self._parts])])
        self.n_cells = int(self._first[-1])
        self.obs_keys = tuple(obs)
        self._codes, self._categories = _columns(self._parts, self.obs_keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        if self._pool is not None:
            self._pool.shutdown()
        for part in self._parts:
            if hasattr(part.file, "close"):
                part.file.close()
            if part.descriptor is not None:
                os.close(part.descriptor)
                part.descriptor, part.stored = None, {}

    def buffer(self) -> RowBuffer:
        """Return an empty buffer."""
        return RowBuffer(
            offsets=np.zeros(1, dtype=np.int64),
            indices=np.empty(0, dtype=np.uint32),
            values=np.empty(0, dtype=np.float32),
        )

    def names(self, cells: np.ndarray) -> np.ndarray:
        """Return the names of cells."""
        cells = np.asarray(cells)
        owner = np.searchsorted(self._first, cells, side="right") - 1
        out = np.empty(len(cells), dtype=object)
        for number in np.unique(owner):
            mine = owner == number
            out[mine] = self._parts[number].names[cells[mine] - self._first[number]]
        return out.astype(str)

    def codes(self, key: str, cells: np.ndarray) -> np.ndarray:
        """Return the codes of one column of ``obs``; -1 for missing."""
        if key not in self._codes:
            msg = (
                f"No column {key!r} was asked for.{closest(key, self._codes)} There are: "
                f"{one_of(self._codes)}. Open the files with obs=[…]."
            )
            raise ConfigError(msg)
        return self._codes[key][cells]

    def categories(self, key: str) -> list[str]:
        """Return what the codes of one column mean."""
        return self._categories[key]

    def read_blocks(self, starts: np.ndarray, stops: np.ndarray, into: RowBuffer) -> None:
        """Fill ``into`` with the rows ``starts[i]`` … ``stops[i] - 1`` of every block in turn."""
        pieces = [piece for a, b in zip(starts, stops) for piece in self._pieces(int(a), int(b))]
        into.fit(sum(int(part.indptr[stop] - part.indptr[start]) for part, start, stop in pieces))
        for part, start, stop in pieces:
            for stored in filter(None, part.stored.values()):
                stored.announce(int(part.indptr[start]), int(part.indptr[stop]))
        lengths, at = [np.zeros(1, dtype=np.int64)], 0
        for part, start, stop in pieces:
            found = _read_aligned(part, start, stop, into, at, self._pool)
            lengths.append(found)
            at += int(found.sum())
        into.offsets = np.cumsum(np.concatenate(lengths))

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[_Part, int, int]]:
        """Yield the stretches of one block, file by file."""
        while start < stop:
            number = int(np.searchsorted(self._first, start, side="right")) - 1
            part, offset = self._parts[number], int(self._first[number])
            end = min(stop, int(self._first[number + 1]))
            yield part, start - offset, end - offset
            start = end


def _read_aligned(
    part: _Part, start: int, stop: int, into: RowBuffer, at: int, pool: ThreadPoolExecutor | None
) -> np.ndarray:
    """Read rows straight into the buffer, align them there, and return their lengths."""
    first, last = int(part.indptr[start]), int(part.indptr[stop])
    columns, values = into.indices[at : at + last - first], into.values[at : at + last - first]
    try:
        _fill(part, "indices", first, last, columns.view(np.int32), pool)
        _fill(part, "data", first, last, values, pool)
    except _DAMAGE as error:
        raise _damaged(part.path, f"cells {start} to {stop - 1} cannot be read: {error}") from error
    indptr = part.indptr[start : stop + 1] - first
    in_range, sound, orderly = look_over_rows(indptr, columns, values, part.n_columns)
    if not in_range:
        raise _damaged(part.path, f"cells {start} to {stop - 1} point outside the features")
    # A negative zero looks unsound by its bits; it is none of the others.
    if not sound and not (np.isfinite(values).all() and values.min() >= 0):
        raise _damaged(part.path, f"cells {start} to {stop - 1} hold negative or infinite values")
    orderly = orderly and sound
    if orderly and part.order == "same":
        return np.diff(indptr)
    if orderly and part.order == "ascending":
        counts: np.ndarray = filter_rows(indptr, columns, values, part.places)
        return counts
    return _realigned(part, indptr, columns, values)


def _fill(
    part: _Part, name: str, first: int, last: int, out: np.ndarray, pool: ThreadPoolExecutor | None
) -> None:
    stored = part.stored.get(name)
    if stored is not None:
        stored.read(first, last, out, pool)
        return
    source = part.matrix[name]
    if hasattr(source, "read_direct") and last > first:
        source.read_direct(out, np.s_[first:last])  # HDF5 converts types on its way
        return
    found = np.asarray(source[first:last])
    if len(found) != len(out):
        msg = f"{len(found)} values where {len(out)} should be"
        raise ValueError(msg)
    out[:] = found


def _realigned(
    part: _Part, indptr: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Rename, drop and sort the columns of rows, in place; return the lengths."""
    counts: np.ndarray = count_kept(indptr, columns, values, part.places)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    out_columns = np.empty(offsets[-1], dtype=np.uint32)
    out_values = np.empty(offsets[-1], dtype=np.float32)
    realign_rows(indptr, columns, values, part.places, offsets, out_columns, out_values)
    columns[: offsets[-1]], values[: offsets[-1]] = out_columns, out_values
    return counts


def _opened(path: Path, layer: str | None) -> _Part:
    import h5py
    from anndata import io

    file: Any
    try:
        if path.suffix == ".zarr":
            import zarr

            file = zarr.open_group(str(path), mode="r")
        else:
            file = h5py.File(path, "r")
        matrix = file[_place_of_matrix(file, layer)]
        _check_sparse(path, matrix)
        indptr = np.asarray(matrix["indptr"], dtype=np.int64)
        var, obs = file["var"], file["obs"]
        features = _strings(io.read_elem(var[var.attrs["_index"]]))
        names = _strings(io.read_elem(obs[obs.attrs["_index"]]))
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise _damaged(path, str(error)) from error
    problem = _misfit(matrix, indptr, names)
    if problem:
        raise _damaged(path, problem)
    part = _Part(
        path=path, file=file, matrix=matrix, indptr=indptr, n_columns=len(features), names=names,
        features=features, places=np.empty(0, dtype=np.int64),
    )  # fmt: skip
    if isinstance(file, h5py.File):
        _look_for_bytes(part)
    return part


def _look_for_bytes(part: _Part) -> None:
    """Find out which values can be read from the file itself."""
    descriptor = os.open(part.path, os.O_RDONLY)
    names = ("indices", "data")
    part.stored = {n: stored_values(part.matrix[n], descriptor) for n in names}
    if any(part.stored.values()):
        part.descriptor = descriptor
    else:
        os.close(descriptor)


def _strings(values: Any) -> np.ndarray:
    """Return fixed-width text; numpy's own variable-width strings cannot be cast directly."""
    return np.asarray(values, dtype=object).astype(str)


def _place_of_matrix(file: Any, layer: str | None) -> str:
    if layer == "X" or (layer is None and "counts" not in file.get("layers", {})):
        return "X"
    return f"layers/{layer or 'counts'}"


def _check_sparse(path: Path, matrix: Any) -> None:
    kind = matrix.attrs.get("encoding-type", "dense")
    if kind != "csr_matrix":
        msg = (
            f"{str(path)!r} holds its matrix as {kind!r}. A stream reads 'csr_matrix'. Rewrite it: "
            "adata.X = scipy.sparse.csr_matrix(adata.X); adata.write_h5ad(…)."
        )
        raise DataError(msg)


def _misfit(matrix: Any, indptr: np.ndarray, names: np.ndarray) -> str | None:
    n_values = matrix["indices"].shape[0]
    if len(indptr) != len(names) + 1:
        return f"{len(names)} names for {len(indptr) - 1} rows"
    if indptr[0] != 0 or np.any(np.diff(indptr) < 0) or indptr[-1] != n_values:
        return f"row pointers do not describe the {n_values} entries there are"
    if matrix["data"].shape[0] != n_values:
        return f"{matrix['data'].shape[0]} values for {n_values} indices"
    return None


def _damaged(path: Path, what: str) -> UnreadableFileError:
    msg = (
        f"{str(path)!r} cannot be read as cells: {what}. Restore it from a copy, or leave it out "
        "of the list."
    )
    return UnreadableFileError(msg)


def _union(parts: list[_Part]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.features.tolist()))


def _places(part: _Part, features: np.ndarray) -> np.ndarray:
    import pandas as pd

    if len(np.unique(part.features)) != len(part.features):
        msg = (
            f"{str(part.path)!r} names a feature twice. Sum or rename such features first, since "
            "a token would stand twice."
        )
        raise DataError(msg)
    places = pd.Index(features).get_indexer(part.features).astype(np.int64)
    if len(places) and places.max() < 0:
        msg = (
            f"{str(part.path)!r} shares no feature with the vocabulary: it has "
            f"{part.features[0]!r}, the vocabulary {str(features[0])!r}. Map names first."
        )
        raise DataError(msg)
    return places


def _columns(
    parts: list[_Part], keys: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    import pandas as pd
    from anndata import io

    codes, categories = {}, {}
    for key in keys:
        columns = []
        for part in parts:
            if key not in part.file["obs"]:
                msg = f"{str(part.path)!r} has no obs[{key!r}]. Every file must have it."
                raise DataError(msg)
            columns.append(pd.Series(io.read_elem(part.file["obs"][key])).astype("string"))
        found, names = pd.factorize(pd.concat(columns, ignore_index=True))
        codes[key] = found.astype(np.int32)
        categories[key] = [str(n) for n in names]
    return codes, categories
