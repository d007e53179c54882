"""Tables of links, and which pairs of genes are asked about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cellweave.errors import DataError, UnreadableFileError, one_of
from cellweave_tasks.features import features_of, most_variable

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Candidates", "candidates_of", "read_network"]

_READERS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".parquet": ""}
_COLUMNS = ("source", "target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Regulators by targets: which pairs are asked about, and which are known to be linked."""

    regulators: np.ndarray
    targets: np.ndarray
    asked: np.ndarray
    truth: np.ndarray | None


def read_network(path: str) -> pd.DataFrame:
    """Read a table of links with the columns ``source`` and ``target``, perhaps ``weight``."""
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        msg = f"{path!r} is no table of links. Expected one of: {one_of(_READERS)}."
        raise UnreadableFileError(msg)
    try:
        table = (
            pd.read_parquet(path)
            if suffix == ".parquet"
            else pd.read_csv(path, sep=_READERS[suffix])
        )
    except (OSError, ValueError) as error:
        msg = f"Cannot read the links in {path!r}: {error}. Give a table of text or parquet."
        raise UnreadableFileError(msg) from error
    missing = [c for c in _COLUMNS if c not in table]
    if missing or table.empty:
        msg = (
            f"{path!r} has {len(table)} rows and the columns {one_of(map(str, table))}. Expected "
            "`source` and `target`, one link a row."
        )
        raise DataError(msg)
    return table.assign(source=table["source"].astype(str), target=table["target"].astype(str))


def candidates_of(
    adata: AnnData, network: str | None, *, directed: bool, max_genes: int
) -> Candidates:
    """Return the pairs to ask about.

    With a known network: its measured regulators by its measured targets. Undirected, each pair is
    asked about once. Without one: the most variable genes among themselves.
    """
    names = np.asarray(adata.var_names, dtype=str)
    if network is None:
        genes = names[most_variable(features_of(adata, None), max_genes)]
        return Candidates(
            regulators=genes, targets=genes, asked=~np.eye(len(genes), dtype=bool), truth=None
        )
    table = read_network(network)
    known = table[table["source"].isin(names) & table["target"].isin(names)]
    if known.empty:
        msg = (
            f"No link of {network!r}, e.g. {table['source'].iloc[0]!r} to "
            f"{table['target'].iloc[0]!r}, joins two of the {len(names)} genes measured, e.g. "
            f"{str(names[0])!r}. Map the identifiers first."
        )
        raise DataError(msg)
    if directed:
        regulators, targets = (np.unique(known[c]) for c in _COLUMNS)
    else:
        regulators = targets = np.unique(known[list(_COLUMNS)].to_numpy(dtype=str))
    truth = np.zeros((len(regulators), len(targets)), dtype=bool)
    rows = np.searchsorted(regulators, known["source"].to_numpy(dtype=str))
    columns = np.searchsorted(targets, known["target"].to_numpy(dtype=str))
    truth[rows, columns] = True
    asked = regulators[:, None] != targets[None, :]
    if not directed:
        truth |= truth.T
        asked = np.triu(asked, k=1)
    truth &= asked
    if not 0 < truth.sum() < asked.sum():
        msg = (
            f"{int(truth.sum())} of {int(asked.sum())} pairs in {network!r} are linked. Some must "
        )
        raise DataError(msg + "be, and not all.")
    return Candidates(regulators=regulators, targets=targets, asked=asked, truth=truth)
