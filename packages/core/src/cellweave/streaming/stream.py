"""The stream: windows read ahead by one thread into owned buffers, batches gathered from them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.sparse as sp
from numba import njit

from cellweave.errors import ConfigError
from cellweave.streaming.order import BlockOrder
from cellweave.streaming.store import RowBuffer

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.records import Tokens
    from cellweave.tokenizing import SparseTokenizer

_NONE = np.empty(0, dtype=np.int32)

__all__ = ["CellBatch", "CellSource", "CellStream"]


class CellSource(Protocol):
    """What a stream reads from: a store or files."""

    n_cells: int
    features: np.ndarray

    def buffer(self) -> RowBuffer:
        """Return an empty buffer in the source's types."""
        ...

    def read_blocks(self, starts: np.ndarray, stops: np.ndarray, into: RowBuffer) -> None:
        """Fill a buffer with rows."""
        ...

    def names(self, cells: np.ndarray) -> np.ndarray:
        """Return cell names."""
        ...

    def codes(self, key: str, cells: np.ndarray) -> np.ndarray:
        """Return codes of a column of ``obs``."""
        ...

    def categories(self, key: str) -> list[str]:
        """Return what the codes mean."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBatch:
    """Hold one batch; its arrays are reused by the next unless the stream copies.

    Parameters
    ----------
    index
        Number of the batch in its epoch.
    cells
        Places of the cells in the whole data.
    matrix
        ``(n, n_features)`` CSR, float32.
    source
        Where names and ``obs`` come from.
    """

    index: int
    cells: np.ndarray
    matrix: sp.csr_matrix
    source: CellSource = field(repr=False)

    @property
    def names(self) -> np.ndarray:
        """Give the cells' names."""
        return self.source.names(self.cells)

    def obs(self, *keys: str) -> pd.DataFrame:
        """Return columns of ``obs`` as a table."""
        import pandas as pd

        columns = {
            key: pd.Categorical.from_codes(
                self.source.codes(key, self.cells).astype(int),
                pd.Index(self.source.categories(key)),
            )
            for key in keys
        }
        return pd.DataFrame(columns, index=pd.Index(self.names))


class CellStream:
    """Give the cells of a source in batches, in a random order that any batch can be reached in.

    Parameters
    ----------
    source
        A :class:`~cellweave.streaming.CellStore` or :class:`~cellweave.streaming.CellFiles`.
    batch_size
        Cells of a batch.
    block, blocks_per_window, seed, rank, n_ranks, shuffle
        As for :class:`~cellweave.streaming.BlockOrder`.
    equal_steps
        Give every rank the same number of batches: the few left over are not given this epoch.
    copy
        Give every batch arrays of its own; without, a batch is valid until the next.
    """

    def __init__(
        self,
        source: CellSource,
        *,
        batch_size: int = 1024,
        block: int = 64,
        blocks_per_window: int = 256,
        seed: int = 0,
        rank: int = 0,
        n_ranks: int = 1,
        shuffle: bool = True,
        equal_steps: bool = False,
        copy: bool = False,
    ) -> None:
        if batch_size < 1:
            msg = f"batch_size={batch_size!r}. Expected at least 1 cell a batch."
            raise ConfigError(msg)
        self.source = source
        self.batch_size = batch_size
        self.copy = copy
        self.equal_steps = equal_steps
        self._settings = {
            "n_cells": source.n_cells,
            "block": block,
            "blocks_per_window": blocks_per_window,
            "seed": seed,
            "rank": rank,
            "n_ranks": n_ranks,
            "shuffle": shuffle,
        }
        self._spare: list[RowBuffer] = []
        self.order(0)

    def order(self, epoch: int) -> BlockOrder:
        """Return the order of one epoch."""
        return BlockOrder(epoch=epoch, **self._settings)  # type: ignore[arg-type]

    def n_batches(self, epoch: int = 0) -> int:
        """Count the batches of an epoch, for this rank."""
        order = self.order(epoch)
        if not self.equal_steps:
            return -(-len(order) // self.batch_size)
        every = range(order.n_ranks)
        settings = {k: v for k, v in self._settings.items() if k != "rank"}
        lengths = [len(BlockOrder(epoch=epoch, rank=r, **settings)) for r in every]  # type: ignore[arg-type]
        return min(lengths) // self.batch_size

    def batches(self, *, epoch: int = 0, start: int = 0) -> Iterator[CellBatch]:
        """Yield the batches of an epoch from number ``start`` on, without reading those before."""
        order, total = self.order(epoch), self.n_batches(epoch)
        if start >= total:
            return
        first_window = order.window_at(start * self.batch_size)
        gather = _Gatherer(len(self.source.features), copy=self.copy)
        wanted, skip = start, start * self.batch_size - order.window_start(first_window)
        with _Reader(self.source, order, first_window, self._spare) as windows:
            for window, buffer in windows:
                cells = order.window_cells(window)
                rows = order.window_mixing(window, len(cells))
                at, skip = skip, 0
                while at < len(rows):
                    taken = gather.take(buffer, rows, cells, at, self.batch_size)
                    at += taken
                    if gather.filled == self.batch_size:
                        yield gather.finished(wanted, self.source)
                        wanted += 1
                        if wanted == total:
                            return
        if gather.filled and wanted < total:
            yield gather.finished(wanted, self.source)

    def batch(self, index: int, *, epoch: int = 0) -> CellBatch:
        """Return one batch alone."""
        for found in self.batches(epoch=epoch, start=index):
            return found
        msg = f"There is no batch {index!r}: epoch {epoch} has {self.n_batches(epoch)}."
        raise ConfigError(msg)

    def tokens(
        self,
        tokenizer: SparseTokenizer,
        *,
        epoch: int = 0,
        start: int = 0,
        obs: tuple[str, ...] = (),
    ) -> Iterator[Tokens]:
        """Yield the tokens of each batch; ``obs`` names the columns the tokenizer needs."""
        places = tokenizer.places(self.source.features)
        for batch in self.batches(epoch=epoch, start=start):
            table = batch.obs(*obs)
            names = np.asarray(table.index, dtype=str)
            yield tokenizer.encode_matrix(batch.matrix, places, names=names, obs=table)


class _Reader:
    """Read windows ahead in one thread; two buffers go back and forth, and on to the next epoch."""

    def __init__(
        self, source: CellSource, order: BlockOrder, first: int, spare: list[RowBuffer]
    ) -> None:
        self._source, self._order, self._first, self._spare = source, order, first, spare
        self._buffers = [spare.pop() if spare else source.buffer() for _ in range(2)]
        self._free: queue.Queue[RowBuffer | None] = queue.Queue()
        self._full: queue.Queue[tuple[int, RowBuffer] | BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="cell-reader", daemon=True)

    def __enter__(self) -> Iterator[tuple[int, RowBuffer]]:
        for buffer in self._buffers:
            self._free.put(buffer)
        self._thread.start()
        return self._windows()

    def __exit__(self, *_: object) -> None:
        self._free.put(None)
        self._thread.join()
        self._spare[:] = self._buffers

    def _windows(self) -> Iterator[tuple[int, RowBuffer]]:
        while (found := self._full.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
            self._free.put(found[1])

    def _run(self) -> None:
        order = self._order
        try:
            for window in range(self._first, order.n_windows):
                buffer = self._free.get()
                if buffer is None:
                    return
                starts, stops = _runs(order.window_blocks(window), order)
                self._source.read_blocks(starts, stops, buffer)
                self._full.put((window, buffer))
        except BaseException as error:  # noqa: BLE001 - it is raised again by the consumer
            self._full.put(error)
            return
        self._full.put(None)


def _runs(blocks: np.ndarray, order: BlockOrder) -> tuple[np.ndarray, np.ndarray]:
    """Join blocks that follow each other on disk, so that one call reads them."""
    first = np.flatnonzero(np.r_[True, np.diff(blocks) != 1])
    last = np.append(first[1:], len(blocks)) - 1
    stops = np.minimum((blocks[last] + 1) * order.block, order.n_cells)
    return blocks[first] * order.block, stops


class _Gatherer:
    """Put rows of windows side by side until a batch is full, in arrays that are used again."""

    def __init__(self, n_features: int, *, copy: bool) -> None:
        self._n_features, self._copy = n_features, copy
        self._indices = np.empty(0, dtype=np.int32)
        self._data = np.empty(0, dtype=np.float32)
        self._lengths: list[np.ndarray] = []
        self._cells: list[np.ndarray] = []
        self.filled = 0
        self._used = 0

    def take(
        self, buffer: RowBuffer, rows: np.ndarray, cells: np.ndarray, at: int, size: int
    ) -> int:
        chosen = rows[at : at + size - self.filled]
        lengths = buffer.offsets[chosen + 1] - buffer.offsets[chosen]
        self._make_room(int(lengths.sum()))
        _gather(
            chosen, buffer.offsets, buffer.indices, buffer.values, self._indices, self._data,
            self._used,
        )  # fmt: skip
        self._used += int(lengths.sum())
        self._lengths.append(lengths)
        self._cells.append(cells[at : at + len(chosen)])
        self.filled += len(chosen)
        return len(chosen)

    def finished(self, index: int, source: CellSource) -> CellBatch:
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))])
        indices, data = self._indices[: self._used], self._data[: self._used]
        if self._copy:
            indices, data = indices.copy(), data.copy()
        shape = (self.filled, self._n_features)
        matrix = sp.csr_matrix((np.empty(0, np.float32), (_NONE, _NONE)), shape=shape)
        # Set directly: the constructor would scan and copy what we know to be right.
        matrix.indptr, matrix.indices, matrix.data = indptr.astype(np.int64), indices, data
        matrix.has_sorted_indices = True
        cells = np.concatenate(self._cells)
        self._lengths, self._cells, self.filled, self._used = [], [], 0, 0
        return CellBatch(index=index, cells=cells, matrix=matrix, source=source)

    def _make_room(self, more: int) -> None:
        need = self._used + more
        if need > len(self._indices):
            size = int(need * 1.2) + 1
            indices, data = np.empty(size, np.int32), np.empty(size, np.float32)
            indices[: self._used] = self._indices[: self._used]
            data[: self._used] = self._data[: self._used]
            self._indices, self._data = indices, data


@njit(cache=True, nogil=True)
def _gather(rows, offsets, indices, values, out_indices, out_values, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for i in range(len(rows)):
        row = slice(offsets[rows[i]], offsets[rows[i] + 1])
        columns, counts = indices[row], values[row]
        n = len(columns)
        to_columns, to_counts = out_indices[at : at + n], out_values[at : at + n]
        for k in range(n):
            to_columns[k] = columns[k]
        for k in range(n):
            to_counts[k] = counts[k]
        at += n
