"""Links in files: our record for one pair, tables for any number of pairs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellweave.errors import DataError, UnreadableFileError, one_of
from cellweave.records import FeatureLinks
from cellweave.storage import atomic_file, verify_or_raise, write_bytes

if TYPE_CHECKING:
    from mudata import MuData

__all__ = ["holds_links", "read_links", "write_links"]

_SEPARATORS = {".tsv": "\t", ".csv": ","}
_NEEDED = ("source", "target")
_FORMATS = (".npz", ".parquet", *_SEPARATORS)


def write_links(links: Sequence[FeatureLinks], path: str | Path) -> None:
    """Write links by the suffix: ``.npz`` (one pair, everything), ``.tsv``, ``.csv``, ``.parquet``.

    Tables have one row a link: both modalities, both features, weight, sign, evidence.
    """
    path = Path(path)
    if path.suffix == ".npz":
        if len(links) != 1:
            msg = (
                f"{str(path)!r} can hold the links of one pair of modalities, there are "
                f"{len(links)}. Write a table instead: .tsv, .csv or .parquet."
            )
            raise DataError(msg)
        links[0].save(path)
        return
    table = pd.concat([_table_of(one) for one in links], ignore_index=True)
    if path.suffix in _SEPARATORS:
        text = table.to_csv(sep=_SEPARATORS[path.suffix], index=False)
        write_bytes(path, text.encode(), kind="feature_links_table")
    elif path.suffix == ".parquet":
        with atomic_file(path, kind="feature_links_table") as temporary:
            table.to_parquet(temporary, engine="pyarrow")
    else:
        msg = f"Links cannot be written to {path.name!r}. Use one of {one_of(_FORMATS)}."
        raise DataError(msg)


def holds_links(path: str | Path) -> bool:
    """Tell whether a file is one of links between features, not a table that leads to them.

    What has columns, but neither ``source`` nor ``target``, is such a table: metabolite and gene.
    """
    path = Path(path)
    if path.suffix not in _SEPARATORS or not path.exists():
        return True
    return bool({*_NEEDED} & {*map(str, _read_table(path))})


def read_links(path: str | Path, mdata: MuData) -> tuple[FeatureLinks, ...]:
    """Read links for the features of ``mdata``.

    A table needs the columns ``source`` and ``target`` (features); ``source_modality`` and
    ``target_modality`` where there are more than two modalities; ``weight``, ``sign`` and
    ``evidence`` are optional.
    """
    path = Path(path)
    if not path.exists():
        msg = f"There are no links at {str(path)!r}. Make them with `cellweave links`."
        raise UnreadableFileError(msg)
    if path.suffix == ".npz":
        return (FeatureLinks.load(path),)
    verify_or_raise(path)
    table = _read_table(path)
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        msg = (
            f"{str(path)!r} has no column {missing[0]!r}. It has: {one_of(map(str, table))}. "
            "Expected source, target, and optionally weight, sign, evidence."
        )
        raise UnreadableFileError(msg)
    if "source_modality" not in table or "target_modality" not in table:
        table = table.assign(**_only_pair(mdata, path))
    pairs = table.groupby(["source_modality", "target_modality"], sort=True)
    return tuple(_links_of(part, str(a), str(b), mdata, path) for (a, b), part in pairs)


def _table_of(links: FeatureLinks) -> pd.DataFrame:
    return links.to_frame().assign(source_modality=links.source, target_modality=links.target)


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path, engine="pyarrow")
        if path.suffix in _SEPARATORS:
            text = path.read_text(encoding="utf8")
            return pd.read_csv(io.StringIO(text), sep=_SEPARATORS[path.suffix])
    except (OSError, ValueError) as error:  # pandas' and pyarrow's parse errors are ValueErrors
        msg = f"Cannot read links from {str(path)!r}: {error}. Write them again."
        raise UnreadableFileError(msg) from error
    msg = f"Links cannot be read from {path.name!r}. Use one of {one_of(_FORMATS)}."
    raise UnreadableFileError(msg)


def _only_pair(mdata: MuData, path: Path) -> dict[str, str]:
    names = list(mdata.mod)
    if len(names) < 2:
        msg = (
            f"The links of {str(path)!r} join two modalities; the data hold {one_of(names)} alone. "
            "Give the files of two or more."
        )
        raise DataError(msg)
    if len(names) != 2:
        msg = (
            f"{str(path)!r} does not say which modalities its links join, and the data hold "
            f"{one_of(names)}. Add the columns source_modality and target_modality."
        )
        raise DataError(msg)
    return {"source_modality": names[0], "target_modality": names[1]}


def _links_of(
    table: pd.DataFrame, source: str, target: str, mdata: MuData, path: Path
) -> FeatureLinks:
    for name in (source, target):
        if name not in mdata.mod:
            msg = f"{str(path)!r} links {name!r}, which is not among {one_of(mdata.mod)}."
            raise DataError(msg)
    names = {m: np.asarray(mdata.mod[m].var_names, dtype=str) for m in (source, target)}
    rows = pd.Index(names[source]).get_indexer(table["source"].astype(str))
    cols = pd.Index(names[target]).get_indexer(table["target"].astype(str))
    keep = (rows >= 0) & (cols >= 0)
    pair = rows.astype(np.int64) * len(names[target]) + cols
    keep &= ~pd.Series(pair).duplicated().to_numpy()
    if not keep.any():
        msg = (
            f"None of the {len(table)} links of {str(path)!r}, e.g. "
            f"{str(table['source'].iloc[0])!r} to {str(table['target'].iloc[0])!r}, names features "
            f"of {source!r} (e.g. {str(names[source][0])!r}) and {target!r} (e.g. "
            f"{str(names[target][0])!r}). Make links for these names."
        )
        raise DataError(msg)
    kept = table[keep]

    def column(name: str, default: object) -> np.ndarray:
        return kept[name].to_numpy() if name in kept else np.full(len(kept), default)

    return FeatureLinks(
        source=source,
        target=target,
        source_features=names[source],
        target_features=names[target],
        rows=rows[keep].astype(np.int32),
        cols=cols[keep].astype(np.int32),
        weights=column("weight", 1.0).astype(np.float32),
        signs=column("sign", 1).astype(np.int8),
        evidence=column("evidence", "table").astype(str),
    )
