"""Links from a table that the user gives: ``source, target`` and optionally weight and sign."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, UnreadableFileError
from cellweave.linking.assemble import build_links
from cellweave.linking.identity import gene_keys, without_version
from cellweave.linking.lines import open_limited

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["link_by_table", "read_delimited", "rows_by_name"]

_MAX_BYTES = 8 << 30
_TAIL = 1 << 20


def read_delimited(path: str | Path, *, required: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a csv or tsv (also gzipped) as text, or parquet, and require columns.

    Raises
    ------
    UnreadableFileError
        When the file is damaged, is no table, or lacks a column.
    """
    import pandas as pd

    path = Path(path)
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            with open_limited(path, max_bytes=_MAX_BYTES) as file:
                frame = _parsed(io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace"))
    except (pd.errors.ParserError, csv.Error) as error:
        msg = f"Cannot read {str(path)!r} as a table: {error}. Expected csv or tsv with a header."
        raise UnreadableFileError(msg) from error
    _refuse_cut(path, frame)
    frame.columns = [str(c).strip() for c in frame.columns]
    if missing := [c for c in required if c not in frame.columns]:
        msg = (
            f"The table {str(path)!r} has the columns {list(frame.columns)[:10]!r}. Expected "
            f"{', '.join(required)}; {', '.join(missing)} is missing. Rename the columns."
        )
        raise UnreadableFileError(msg)
    return frame


def _refuse_cut(path: Path, frame: pd.DataFrame) -> None:
    """Refuse a table whose last line is short: pandas fills it with nothing (gzip tells itself)."""
    if path.suffix == ".parquet" or frame.empty or frame.iloc[-1, -1] != "":
        return
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL, 0))
        last = file.read().rstrip(b"\r\n").split(b"\n")[-1].decode("utf-8", "replace")
    found = max(len(next(csv.reader([last], delimiter=d), [])) for d in "\t,;")
    if found < frame.shape[1] and len(last) < _TAIL:
        msg = (
            f"The last line of {str(path)!r} has {found} of {frame.shape[1]} fields: "
            f"{last[:60]!r}. The file is cut short. Fetch it again."
        )
        raise UnreadableFileError(msg)


def _parsed(text: io.TextIOWrapper) -> pd.DataFrame:
    import pandas as pd

    head = text.readline()
    separator = max("\t,;", key=head.count)
    names = next(csv.reader([head], delimiter=separator), [])
    if not names:
        return pd.DataFrame()
    return pd.read_csv(text, sep=separator, names=names, dtype="str", keep_default_na=False)


def rows_by_name(var: pd.DataFrame, names: pd.Series) -> pd.DataFrame:
    """Return ``(line, at)``: which feature each named line means, by any naming in ``var``."""
    import pandas as pd

    wanted = pd.DataFrame(
        {"key": without_version(names.astype("str")).to_numpy(), "line": np.arange(len(names))}
    )
    plain = pd.DataFrame({"key": var.index.astype("str").to_numpy(), "at": np.arange(len(var))})
    keyed = [pd.DataFrame({"key": k.to_numpy(), "at": np.arange(len(k))}) for k in gene_keys(var)]
    table = pd.concat([plain, *keyed], ignore_index=True).drop_duplicates()
    return wanted.merge(table, on="key")[["line", "at"]].drop_duplicates()


def link_by_table(request: LinkRequest) -> FeatureLinks:
    """Link features as the request's table says.

    Columns ``source`` and ``target`` (or the modality names) hold feature names; ``weight`` in
    ``(0, 1]``, ``sign`` (+1 or −1) and ``evidence`` are optional. When the columns fit only the
    other way round, they are read so.
    """
    if request.table is None:
        msg = "Links by 'table' need a table. Give table=PATH with the columns source and target."
        raise DataError(msg)
    frame = read_delimited(request.table)
    frame = _named(frame, request)
    found = _found(frame, request, "source", "target")
    swapped = _found(frame, request, "target", "source") if found.empty else found
    found = swapped if found.empty else found
    weights = _numbers(frame, "weight", 1.0, request)[found["line"]]
    signs = _numbers(frame, "sign", 1.0, request)[found["line"]]
    _check_values(weights, signs, request)
    kinds = frame["evidence"].to_numpy()[found["line"]] if "evidence" in frame else "table"
    return build_links(
        request,
        rows=found["source"].to_numpy(),
        cols=found["target"].to_numpy(),
        weights=weights,
        signs=signs.astype(np.int8),
        evidence=kinds,
        missing_source=f"not in the table {request.table.name}",
        missing_target=f"not in the table {request.table.name}",
        component="table",
        details={"lines": len(frame), "lines_used": int(found["line"].nunique())},
    )


def _named(frame: pd.DataFrame, request: LinkRequest) -> pd.DataFrame:
    if {request.source, request.target} <= set(frame.columns):
        frame = frame.rename(columns={request.source: "source", request.target: "target"})
    if missing := [c for c in ("source", "target") if c not in frame.columns]:
        msg = (
            f"The table {str(request.table)!r} has the columns {list(frame.columns)[:10]!r}, "
            f"without {', '.join(missing)}. Expected source and target, or {request.source} and "
            f"{request.target}; weight, sign and evidence are optional."
        )
        raise UnreadableFileError(msg)
    return frame


def _found(frame: pd.DataFrame, request: LinkRequest, source: str, target: str) -> pd.DataFrame:
    left = rows_by_name(request.source_data.var, frame[source]).rename(columns={"at": "source"})
    right = rows_by_name(request.target_data.var, frame[target]).rename(columns={"at": "target"})
    return left.merge(right, on="line").sort_values(["line", "source", "target"])


def _numbers(frame: pd.DataFrame, column: str, default: float, request: LinkRequest) -> np.ndarray:
    import pandas as pd

    if column not in frame:
        return np.full(len(frame), default)
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).any():
        at = int(np.flatnonzero(np.isnan(numbers))[0])
        msg = (
            f"Line {at + 2} of {str(request.table)!r} has the {column} {frame[column].iloc[at]!r}. "
            "Expected a number. Mend the table."
        )
        raise DataError(msg)
    return numbers


def _check_values(weights: np.ndarray, signs: np.ndarray, request: LinkRequest) -> None:
    problems = []
    if len(weights) and not (weights.min() > 0 and weights.max() <= 1):
        problems.append(f"weights reach from {weights.min():g} to {weights.max():g}, not in (0, 1]")
    if len(signs) and not np.isin(signs, (-1, 1)).all():
        problems.append(f"signs hold {np.unique(signs).tolist()[:5]}, not +1 or -1")
    if problems:
        msg = f"The table {str(request.table)!r}: {'; '.join(problems)}. Rescale them in the table."
        raise DataError(msg)
