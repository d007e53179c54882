"""Count fragments in peaks or bins, in blocks of lines: memory is bounded by the result.

A fragments file has one line a fragment: chromosome, start, end (half-open, 0-based), barcode,
and further columns that are not read. It need not be sorted. Its two cut sites are the first and
the last base; ``count="insertions"`` counts each in the peak it falls into, as Cell Ranger does,
``count="fragments"`` counts a fragment once in every peak it overlaps.

Where a tabix index lies beside the file, :func:`fragments_near`, and the counting of few peaks in
known cells, unpack only what lies near (:mod:`cellweave_atac.tabix`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave.linking import (
    Regions,
    open_limited,
    overlapping_pairs,
    region_columns,
    regions_of,
    require_regions,
)
from cellweave.linking.regions import plain_chromosome

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = [
    "Fragments",
    "bin_counts",
    "fragment_blocks",
    "fragments_near",
    "peak_counts",
    "peak_frame",
    "scan_fragments",
]

Counting = Literal["insertions", "fragments"]
MAX_BYTES = 1 << 40
_ROWS = 1_000_000
_PENDING = 8_000_000
_FEW_PEAKS = 5000  # for more, one reading of everything is faster than many leaps
_COLUMNS = ["chrom", "start", "end", "barcode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragments:
    """Say what a fragments file holds.

    Parameters
    ----------
    path
        The file.
    counts
        Fragments of each barcode; the index is sorted by name.
    chromosome_ends
        Chromosome, as the file spells it, to the largest end seen.
    """

    path: Path
    counts: pd.Series
    chromosome_ends: dict[str, int]

    def barcodes(self, *, min_fragments: int = 1000) -> list[str]:
        """Return the barcodes with at least ``min_fragments`` fragments, sorted."""
        return [str(b) for b in self.counts.index[self.counts >= min_fragments]]


def scan_fragments(path: str | Path, *, max_bytes: int = MAX_BYTES) -> Fragments:
    """Read the file once: fragments of each barcode, and how far chromosomes reach."""
    import pandas as pd

    counts: pd.Series = pd.Series(dtype=np.int64)
    ends: dict[str, int] = {}
    for block in fragment_blocks(path, max_bytes=max_bytes):
        counts = counts.add(block["barcode"].value_counts(), fill_value=0)
        for chrom, end in block.groupby("chrom", observed=True)["end"].max().items():
            ends[str(chrom)] = max(ends.get(str(chrom), 0), int(end))
    if counts.empty:
        msg = f"{str(path)!r} holds no fragment. Expected chromosome, start, end, barcode."
        raise UnreadableFileError(msg)
    counts = counts.astype(np.int64).sort_index()
    return Fragments(path=Path(path), counts=counts, chromosome_ends=ends)


def peak_counts(
    path: str | Path,
    peaks: Sequence[str] | pd.DataFrame,
    *,
    barcodes: Sequence[str] | None = None,
    min_fragments: int = 1000,
    count: Counting = "insertions",
    max_bytes: int = MAX_BYTES,
) -> AnnData:
    """Return cells × peaks from a fragments file.

    Parameters
    ----------
    path
        Fragments, plain or gzipped.
    peaks
        Names such as ``chr1:10-20``, or a frame with BED columns (index: names).
    barcodes
        Cells, in the wanted order; those with ``min_fragments`` when not given (a second reading).
    min_fragments
        Fewest fragments of a cell when ``barcodes`` are not given.
    count
        ``"insertions"`` or ``"fragments"``.
    max_bytes
        Most bytes that the file may unpack to.
    """
    import pandas as pd

    _check_counting(count)
    var = peak_frame(peaks)
    regions = regions_of(var)
    require_regions(regions, what="the peaks")
    chromosomes = pd.Index(np.unique(regions.chrom[regions.known].astype(str)))
    codes = np.where(regions.known, chromosomes.get_indexer(regions.chrom.astype(str)), -1)
    target = (codes, regions.starts, regions.ends)

    def columns_of(block: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        chrom = chromosomes.get_indexer(pd.Index(plain_chromosome(block["chrom"].astype("str"))))
        return _hits(chrom, block, target, count)

    chosen = _barcodes(path, barcodes, min_fragments, max_bytes)
    near = regions if barcodes is not None and len(var) <= _FEW_PEAKS else None
    matrix = _counted(path, chosen, columns_of, len(var), max_bytes, near=near)
    return _as_adata(matrix, chosen, region_columns(var))


def fragments_near(path: str | Path, regions: Sequence[str] | pd.DataFrame) -> pd.DataFrame:
    """Return the fragments that overlap any of the regions: ``chrom, start, end, barcode``.

    Parameters
    ----------
    path
        Fragments; with a ``.tbi`` beside them only what lies near is unpacked.
    regions
        Names such as ``chr1:10-20``, or a frame with BED columns.
    """
    import pandas as pd

    wanted = regions_of(peak_frame(regions))
    require_regions(wanted, what="the regions")
    codes = pd.Index(np.unique(wanted.chrom[wanted.known].astype(str)))
    target = (codes.get_indexer(wanted.chrom.astype(str)), wanted.starts, wanted.ends)
    found = []
    for block in fragment_blocks(path, near=wanted):
        chrom = codes.get_indexer(pd.Index(plain_chromosome(block["chrom"].astype("str"))))
        query = (chrom, block["start"].to_numpy(), block["end"].to_numpy())
        found.append(block.iloc[np.unique(overlapping_pairs(query, target)[0])])
    if not found:
        return pd.DataFrame({name: [] for name in _COLUMNS})
    return pd.concat(found, ignore_index=True).astype({"chrom": str})


def bin_counts(
    path: str | Path,
    *,
    bin_size: int = 5000,
    barcodes: Sequence[str] | None = None,
    min_fragments: int = 1000,
    max_bytes: int = MAX_BYTES,
) -> AnnData:
    """Return cells × genome bins that hold a cut site, from a fragments file (read twice)."""
    import pandas as pd

    if bin_size < 1:
        msg = f"Got bin_size={bin_size!r}. Expected 1 or more bases."
        raise ConfigError(msg)
    scanned = scan_fragments(path, max_bytes=max_bytes)
    chosen = _required(
        list(barcodes) if barcodes is not None else scanned.barcodes(min_fragments=min_fragments),
        path, min_fragments,
    )  # fmt: skip
    chromosomes = pd.Index(sorted(scanned.chromosome_ends))
    n_bins = np.array([-(-scanned.chromosome_ends[c] // bin_size) for c in chromosomes])
    first = np.concatenate([[0], np.cumsum(n_bins)])

    def columns_of(block: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        offset = first[chromosomes.get_indexer(pd.Index(block["chrom"].astype("str")))]
        cuts = [block["start"].to_numpy(), block["end"].to_numpy() - 1]
        rows = np.arange(len(block))
        return np.concatenate([rows, rows]), np.concatenate([offset + c // bin_size for c in cuts])

    matrix = _counted(path, chosen, columns_of, int(first[-1]), max_bytes)
    seen = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]))
    chrom_at = np.searchsorted(first, seen, side="right") - 1
    starts = (seen - first[chrom_at]) * bin_size
    var = pd.DataFrame(
        {"chrom": chromosomes[chrom_at], "chromStart": starts, "chromEnd": starts + bin_size}
    )
    var.index = pd.Index([f"{c}:{s}-{e}" for c, s, e in var.itertuples(index=False)])
    return _as_adata(sp.csr_matrix(matrix[:, seen]), chosen, var)


def peak_frame(peaks: Sequence[str] | pd.DataFrame) -> pd.DataFrame:
    """Return peaks given as names or as a frame as a frame."""
    import pandas as pd

    if isinstance(peaks, pd.DataFrame):
        return peaks
    return pd.DataFrame(index=pd.Index([str(p) for p in peaks]))


def fragment_blocks(
    path: str | Path,
    *,
    max_bytes: int = MAX_BYTES,
    rows: int = _ROWS,
    near: Regions | None = None,
) -> Iterator[pd.DataFrame]:
    """Yield blocks of fragments with ``chrom, start, end, barcode``; damage names file and line.

    With ``near`` and a tabix index, at least those that overlap the regions, and few others.
    """
    import pandas as pd

    path = Path(path)
    line = 0
    with _opened(path, max_bytes, near) as file:
        line += _skip_header(file)
        try:
            reader = pd.read_csv(
                file, sep="\t", header=None, names=_COLUMNS, usecols=[0, 1, 2, 3], chunksize=rows,
                dtype={"chrom": "category", "start": "int64", "end": "int64", "barcode": "str"},
                quoting=3, keep_default_na=False,
            )  # fmt: skip
            for block in reader:
                _check_block(block, path, line)
                line += len(block)
                yield block
        except pd.errors.EmptyDataError:
            return
        except (pd.errors.ParserError, ValueError) as error:
            if isinstance(error, UnreadableFileError):
                raise
            msg = (
                f"Cannot read {str(path)!r} after line {line:,}: {error}. Expected lines of "
                "chromosome, start, end, barcode, separated by tabs. Fetch the file again."
            )
            raise UnreadableFileError(msg) from error


@contextmanager
def _opened(path: Path, max_bytes: int, near: Regions | None) -> Iterator[BinaryIO]:
    """Open the whole file, or what its index says lies near the regions."""
    from cellweave_atac.tabix import index_beside, open_stretches

    index = index_beside(path) if near is not None else None
    if index is None or near is None:
        with open_limited(path, max_bytes=max_bytes) as whole:
            yield whole
        return
    known = near.known
    with open_stretches(path, index, near.chrom[known], near.starts[known], near.ends[known]) as f:
        yield f


def _skip_header(file: BinaryIO) -> int:
    assert isinstance(file, io.BufferedReader)  # ours: open_limited gives nothing else
    lines = 0
    while file.peek(1)[:1] == b"#":
        file.readline()
        lines += 1
    return lines


def _check_block(block: pd.DataFrame, path: Path, line: int) -> None:
    starts, ends = block["start"].to_numpy(), block["end"].to_numpy()
    wrong = np.flatnonzero((starts < 0) | (ends <= starts) | (block["barcode"] == "").to_numpy())
    if len(wrong):
        row = block.iloc[wrong[0]]
        msg = (
            f"{str(path)!r}, line {line + wrong[0] + 1:,}: {row.tolist()!r} is no fragment "
            f"({len(wrong)} such lines in its block). Expected 0 <= start < end and a barcode."
        )
        raise UnreadableFileError(msg)


def _hits(
    chrom: np.ndarray,
    block: pd.DataFrame,
    target: tuple[np.ndarray, np.ndarray, np.ndarray],
    count: Counting,
) -> tuple[np.ndarray, np.ndarray]:
    starts, ends = block["start"].to_numpy(), block["end"].to_numpy()
    if count == "fragments":
        return overlapping_pairs((chrom, starts, ends), target)
    cuts = np.concatenate([starts, ends - 1])
    both = (np.concatenate([chrom, chrom]), cuts, cuts + 1)
    at, columns = overlapping_pairs(both, target)
    return at % len(block), columns


def _counted(
    path: str | Path,
    barcodes: list[str],
    columns_of: Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]],
    n_columns: int,
    max_bytes: int,
    near: Regions | None = None,
) -> sp.csr_matrix:
    import pandas as pd

    index = pd.Index(barcodes)
    shape = (len(barcodes), n_columns)
    total, pending, waiting = _empty(shape), [], 0
    for block in fragment_blocks(path, max_bytes=max_bytes, near=near):
        cell = index.get_indexer(pd.Index(block["barcode"]))
        kept = block[cell >= 0]
        at, columns = columns_of(kept)
        pending.append((cell[cell >= 0][at], columns))
        waiting += len(columns)
        if waiting > _PENDING:
            total, pending, waiting = total + _summed(pending, shape), [], 0
    return sp.csr_matrix(total + _summed(pending, shape))


def _empty(shape: tuple[int, int]) -> sp.csr_matrix:
    nothing = np.empty(0, dtype=np.int64)
    return sp.csr_matrix((np.empty(0, np.float32), (nothing, nothing)), shape=shape)


def _summed(pending: list[tuple[np.ndarray, np.ndarray]], shape: tuple[int, int]) -> sp.csr_matrix:
    if not pending:
        return _empty(shape)
    rows, columns = (np.concatenate(parts) for parts in zip(*pending, strict=True))
    ones = np.ones(len(rows), dtype=np.float32)
    return sp.csr_matrix((ones, (rows, columns)), shape=shape)


def _barcodes(
    path: str | Path, barcodes: Sequence[str] | None, min_fragments: int, max_bytes: int
) -> list[str]:
    if barcodes is None:
        found = scan_fragments(path, max_bytes=max_bytes).barcodes(min_fragments=min_fragments)
        return _required(found, path, min_fragments)
    return _required([str(b) for b in barcodes], path, min_fragments)


def _required(barcodes: list[str], path: str | Path, min_fragments: int) -> list[str]:
    if not barcodes:
        msg = (
            f"No barcode of {str(path)!r} has {min_fragments:,} fragments. Lower min_fragments, "
            "or give barcodes."
        )
        raise DataError(msg)
    if len(set(barcodes)) != len(barcodes):
        msg = f"{len(barcodes) - len(set(barcodes))} barcodes are given twice. Give each once."
        raise DataError(msg)
    return barcodes


def _check_counting(count: str) -> None:
    if count not in ("insertions", "fragments"):
        msg = f"Got count={count!r}. Expected 'insertions' or 'fragments'."
        raise ConfigError(msg)


def _as_adata(matrix: sp.csr_matrix, barcodes: list[str], var: pd.DataFrame) -> AnnData:
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    matrix.sort_indices()
    return AnnDataClass(X=matrix, obs=pd.DataFrame(index=pd.Index(barcodes)), var=var)
