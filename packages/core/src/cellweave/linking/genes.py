"""Where genes lie: GTF or coordinate tables, and which of their rows is meant by a feature."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cellweave.errors import UnreadableFileError
from cellweave.linking.identity import gene_keys, without_version
from cellweave.linking.lines import open_limited
from cellweave.linking.regions import Regions, column_names, plain_chromosome, regions_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["GeneTable", "locate_genes", "read_gene_table"]

_MAX_BYTES = 16 << 30
_LONGEST_CHROMOSOME = 1 << 36
_GTF_ID = re.compile(rb'gene_id "([^"]*)"')
_GTF_NAME = re.compile(rb'gene_name "([^"]*)"|gene "([^"]*)"')
_MAIN = r"^(?:\d{1,2}[LR]?|[XYZWM]|[IVX]+)$"
_HEADERS = {
    "chrom": ("chrom", "chromosome", "seqname", "chr"),
    "start": ("start", "chromstart"),
    "end": ("end", "chromend"),
    "id": ("id", "gene_id", "ensembl_id"),
    "symbol": ("symbol", "gene_name", "gene_symbol", "name"),
    "strand": ("strand",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneTable:
    """Hold genes with their places; rows are ordered so that the first of a name is meant.

    Main chromosomes come before scaffolds, X before Y, longer loci before shorter ones.

    Parameters
    ----------
    frame
        Columns ``chrom`` (without ``chr``), ``start``, ``end`` (half-open, 0-based), ``id``
        (without version), ``symbol``, ``strand``.
    path
        Where it was read.
    """

    frame: pd.DataFrame
    path: str

    def __len__(self) -> int:
        """Count genes."""
        return len(self.frame)

    def rows_of(self, names: pd.Series) -> np.ndarray:
        """Return the row of each name: by identifier, by symbol, by symbol in any case; else −1."""
        import pandas as pd

        bare = without_version(names.astype("str"))
        found = np.full(len(names), -1, dtype=np.int64)
        ids = self.frame["id"].astype("str")
        symbols = self.frame["symbol"].astype("str")
        ways = (
            (ids, bare),
            (symbols, names.astype("str")),
            (symbols.str.upper(), bare.str.upper()),
        )
        for keys, wanted in ways:
            first = pd.Series(np.arange(len(keys)), index=keys.to_numpy())
            first = first[(first.index != "") & ~first.index.duplicated()]
            rows = first.reindex(wanted.to_numpy()).fillna(-1).to_numpy(dtype=np.int64)
            found = np.where(found < 0, rows, found)
        return found


def read_gene_table(path: str | Path) -> GeneTable:
    """Read a GTF (``.gtf``, ``.gtf.gz``) or a table with a header, tab or comma separated.

    Parameters
    ----------
    path
        GTF of Ensembl, GENCODE or RefSeq with ``gene`` rows; or a table with the columns
        ``chrom, start, end, id, symbol, strand``. ``start`` and ``end`` are 1-based and closed, as
        Ensembl gives them; columns called ``chromStart`` and ``chromEnd`` are BED.

    Raises
    ------
    UnreadableFileError
        When the file is damaged, or is neither.
    """
    path = Path(path)
    with open_limited(path, max_bytes=_MAX_BYTES) as file:
        is_gtf = any(s.lower() in (".gtf", ".gff") for s in path.suffixes)
        frame = _from_gtf(file, path) if is_gtf else _from_table(file, path)
    if frame.empty:
        msg = (
            f"{str(path)!r} holds no gene. Expected a GTF with rows of the feature 'gene', or a "
            "table with the columns chrom, start, end, id, symbol, strand. Give a complete file."
        )
        raise UnreadableFileError(msg)
    return GeneTable(frame=_ordered(frame), path=path.name)


def locate_genes(var: pd.DataFrame, table: GeneTable | None) -> Regions:
    """Return where the genes of ``var`` lie, and why some have no place.

    Coordinates in ``var`` come first; ``table`` serves what has none there.
    """
    own = regions_of(var) if column_names(var) or "interval" in var.columns else None
    if table is None or (own is not None and own.known.all()):
        return own if own is not None else _nowhere(var)
    rows = np.full(len(var), -1, dtype=np.int64)
    for keys in gene_keys(var):
        rows = np.where(rows < 0, table.rows_of(keys), rows)
    return _merged(own, _placed(table, rows, var), table)


def _placed(table: GeneTable, rows: np.ndarray, var: pd.DataFrame) -> Regions:
    hit = rows >= 0
    picked = table.frame.iloc[np.where(hit, rows, 0)]
    names = var.index.astype(str)
    missing = np.flatnonzero(~hit).tolist()
    return Regions(
        chrom=np.where(hit, picked["chrom"].to_numpy(dtype=object), ""),
        starts=np.where(hit, picked["start"].to_numpy(), 0).astype(np.int64),
        ends=np.where(hit, picked["end"].to_numpy(), 0).astype(np.int64),
        strand=np.where(hit, picked["strand"].to_numpy(dtype=object), "."),
        problems={i: f"{names[i]} is not in the gene table {table.path}" for i in missing},
    )


def _merged(own: Regions | None, found: Regions, table: GeneTable) -> Regions:
    if own is None:
        return found
    use = own.known
    return Regions(
        chrom=np.where(use, own.chrom, found.chrom),
        starts=np.where(use, own.starts, found.starts),
        ends=np.where(use, own.ends, found.ends),
        strand=np.where(use, own.strand, found.strand),
        problems={i: r for i, r in found.problems.items() if not use[i]},
    )


def _nowhere(var: pd.DataFrame) -> Regions:
    names = var.index.astype(str)
    n = len(var)
    return Regions(
        chrom=np.full(n, "", dtype=object),
        starts=np.zeros(n, dtype=np.int64),
        ends=np.zeros(n, dtype=np.int64),
        strand=np.full(n, ".", dtype=object),
        problems={
            i: f"{names[i]} has no coordinates and no gene table was given" for i in range(n)
        },
    )


def _from_gtf(file: BinaryIO, path: Path) -> pd.DataFrame:
    import pandas as pd

    rows, wrong = [], []
    for number, line in enumerate(file, start=1):
        if b"\tgene\t" not in line or line.startswith(b"#"):
            continue
        fields = line.rstrip(b"\r\n").split(b"\t")
        if len(fields) > 2 and fields[2] != b"gene":
            continue
        row = _gtf_row(fields)
        if row is None:
            wrong.append((number, line))
        else:
            rows.append(row)
    if wrong:
        number, line = wrong[0]
        msg = (
            f"{str(path)!r}, line {number:,}: {line[:80].decode('utf-8', 'replace')!r} is no gene "
            f"({len(wrong):,} such lines). Expected nine columns, 1 <= start <= end, and gene_id "
            "or gene_name. Fetch the file again, or drop the line."
        )
        raise UnreadableFileError(msg)
    frame = pd.DataFrame(rows, columns=["chrom", "start", "end", "id", "symbol", "strand"])
    return frame.astype({"start": np.int64, "end": np.int64})


def _gtf_row(fields: list[bytes]) -> tuple[str | int, ...] | None:
    """Return a gene with its start 0-based, or nothing when the line makes no sense."""
    if len(fields) < 9 or not (fields[3].isdigit() and fields[4].isdigit()):
        return None
    start, end = int(fields[3][:19]), int(fields[4][:19])
    identifier = _GTF_ID.search(fields[8])
    name = _GTF_NAME.search(fields[8])
    symbol = (name[1] or name[2] or b"") if name else b""
    key = identifier[1] if identifier else b""
    if not 1 <= start <= end <= _LONGEST_CHROMOSOME or not (key or symbol):
        return None
    chrom, key, symbol, strand = (
        value.decode("utf-8", "replace") for value in (fields[0], key, symbol, fields[6])
    )
    return chrom, start - 1, end, key, symbol, strand


def _from_table(file: BinaryIO, path: Path) -> pd.DataFrame:
    import pandas as pd

    text = io.TextIOWrapper(file, encoding="utf-8", errors="replace")
    head = text.readline()
    separator = "\t" if "\t" in head else ","
    header = [name.strip().strip('"') for name in head.rstrip("\r\n").split(separator)]
    named = {_meaning(name): i for i, name in enumerate(header) if _meaning(name)}
    if missing := [c for c in ("chrom", "start", "end") if c not in named]:
        msg = (
            f"{str(path)!r} has the columns {header[:8]!r}, without {', '.join(missing)}. Expected "
            "chrom, start, end, id, symbol, strand, or a GTF whose name ends in .gtf or .gtf.gz."
        )
        raise UnreadableFileError(msg)
    frame = pd.read_csv(
        text,
        sep=separator,
        names=header,
        dtype="str",
        keep_default_na=False,
        quoting=csv.QUOTE_MINIMAL,
    )
    frame = frame.iloc[:, list(named.values())].set_axis(list(named), axis=1)
    for column in ("id", "symbol", "strand"):
        frame[column] = frame.get(column, "." if column == "strand" else "")
    shift = 0 if header[named["start"]].lower() == "chromstart" else 1
    given = frame[["start", "end"]].copy()
    frame["start"] = pd.to_numeric(frame["start"], errors="coerce") - shift
    frame["end"] = pd.to_numeric(frame["end"], errors="coerce")
    sensible = (frame["start"] >= 0) & (frame["end"] > frame["start"])
    wrong = np.flatnonzero(~(sensible & (frame["end"] <= _LONGEST_CHROMOSOME)))
    # A gene of no known place is left empty in such tables; anything else is damage.
    wrong = wrong[(given.iloc[wrong] != "").any(axis=1).to_numpy()]
    if len(wrong):
        start, end = given.iloc[wrong[0]]
        msg = (
            f"{str(path)!r}, line {wrong[0] + 2:,}: start {start!r} and end {end!r} are no place "
            f"({len(wrong):,} such lines). Expected "
            "whole numbers, start before end. Fetch the file again, or drop the lines."
        )
        raise UnreadableFileError(msg)
    return frame.dropna(subset=["start", "end"])


def _meaning(header: str) -> str:
    return next((key for key, names in _HEADERS.items() if header.lower() in names), "")


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.astype({"start": np.int64, "end": np.int64})
    frame["chrom"] = plain_chromosome(frame["chrom"].astype("str"))
    frame["id"] = without_version(frame["id"].astype("str"))
    rank = (~frame["chrom"].str.match(_MAIN)).astype(int) + (frame["chrom"] == "Y") * 0.5
    length = frame["start"] - frame["end"]
    keyed = frame.assign(_rank=rank, _length=length)
    keyed = keyed.sort_values(["_rank", "_length", "chrom", "start", "id"], kind="stable")
    return keyed.drop(columns=["_rank", "_length"]).reset_index(drop=True)
