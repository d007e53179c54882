"""Responses of cells to drugs as rows: a pair a row, with what describes cell and drug."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.errors import DataError, MissingDependencyError, UnreadableFileError, one_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["drug_pairs", "morgan_fingerprints", "read_table"]

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}


def drug_pairs(
    cells: AnnData,
    responses: pd.DataFrame,
    drugs: pd.DataFrame,
    *,
    cell_key: str = "cell_line",
    drug_key: str = "drug",
    response_key: str = "response",
    drug_rep: str = "X_drug",
) -> AnnData:
    """Return one row a measured pair: ``obs`` with both names and the response, both descriptions.

    Parameters
    ----------
    cells
        Cell lines, bulk or single cells. ``obs[cell_key]`` names the line (``obs_names`` where
        there is no such column); values and embeddings of single cells are averaged over a line.
    responses
        A row a measurement, with columns named by the three keys. Repeated pairs are averaged.
    drugs
        A row a drug, its name the index; numbers only, e.g. a fingerprint.
    cell_key, drug_key, response_key, drug_rep
        Names of the columns, and of the drug's description in ``obsm``.
    """
    wanted = (cell_key, drug_key, response_key)
    missing = [c for c in wanted if c not in responses]
    if missing:
        msg = f"The responses lack {one_of(missing)}. They have: {one_of(map(str, responses))}."
        raise DataError(msg)
    lines = cells.obs.get(cell_key, cells.obs_names)
    kinds, codes = np.unique(np.asarray(lines, dtype=str), return_inverse=True)
    table = responses.assign(
        **{c: responses[c].astype(str) for c in wanted[:2]},
        **{response_key: pd.to_numeric(responses[response_key], errors="coerce")},
    )
    table = table[table[cell_key].isin(kinds) & table[drug_key].isin(drugs.index.astype(str))]
    table = table[np.isfinite(table[response_key])]
    if table.empty:
        msg = (
            f"No response joins one of {len(kinds)} cell lines, e.g. {str(kinds[0])!r}, and one of "
            f"{len(drugs)} drugs, e.g. {str(drugs.index[0]) if len(drugs) else 'none'!r}. Map the "
            "names first."
        )
        raise DataError(msg)
    table = table.groupby([cell_key, drug_key], as_index=False, sort=True)[response_key].mean()
    at = np.searchsorted(kinds, table[cell_key].to_numpy(dtype=str))
    fingerprints = drugs.set_axis(drugs.index.astype(str)).loc[table[drug_key]]
    return _assembled(cells, codes, len(kinds), at, table, fingerprints, drug_rep)


def _assembled(
    cells: AnnData,
    codes: np.ndarray,
    n_lines: int,
    at: np.ndarray,
    table: pd.DataFrame,
    fingerprints: pd.DataFrame,
    drug_rep: str,
) -> AnnData:
    from anndata import AnnData

    try:
        described = fingerprints.to_numpy(dtype=np.float32)
    except (ValueError, TypeError) as error:
        msg = (
            f"The drugs' table holds what is no number: {error}. Give fingerprints or descriptors."
        )
        raise DataError(msg) from error
    counts = np.bincount(codes, minlength=n_lines)
    shape = (n_lines, len(codes))
    average = sp.csr_matrix((1 / counts[codes], (codes, np.arange(len(codes)))), shape=shape)
    obs = table.set_axis([f"{c} + {d}" for c, d in table.iloc[:, :2].to_numpy(dtype=str)])
    pairs = AnnData(sp.csr_matrix(average @ sp.csr_matrix(cells.X), dtype=np.float32)[at], obs=obs)
    pairs.var_names = cells.var_names
    for key, values in cells.obsm.items():
        pairs.obsm[key] = (average @ np.asarray(values, dtype=np.float64))[at].astype(np.float32)
    pairs.obsm[drug_rep] = described
    return pairs


def read_table(path: str, *, index: bool = False) -> pd.DataFrame:
    """Read a table of responses, or (``index``) of drugs with their names in the first column."""
    suffix = Path(path).suffix.lower()
    if suffix not in (*_SEPARATORS, ".parquet"):
        msg = f"{path!r} is no table. Expected one of: {one_of([*_SEPARATORS, '.parquet'])}."
        raise UnreadableFileError(msg)
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep=_SEPARATORS[suffix], index_col=0 if index else None)
    except (OSError, ValueError) as error:
        msg = f"Cannot read {path!r}: {error}. Give a table of text or parquet."
        raise UnreadableFileError(msg) from error


def morgan_fingerprints(
    smiles: Mapping[str, str], *, radius: int = 2, n_bits: int = 1024
) -> pd.DataFrame:
    """Return Morgan fingerprints of drugs from their SMILES, a row a drug (needs rdkit).

    Parameters
    ----------
    smiles
        Name to SMILES.
    radius, n_bits
        Of the fingerprint; 2 is ECFP4.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError as error:
        msg = (
            "Fingerprints are made by rdkit, which is not installed. "
            "Run: pip install 'cellweave-tasks[drugs]', or give a table of fingerprints."
        )
        raise MissingDependencyError(msg) from error
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=n_bits)
    rows = {}
    for name, text in smiles.items():
        with rdBase.BlockLogs():  # it would print what we raise
            molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            msg = f"The SMILES of {name!r}, {text!r}, cannot be read. Correct it."
            raise DataError(msg)
        rows[name] = np.asarray(maker.GetFingerprintAsNumPy(molecule), dtype=np.float32)
    return pd.DataFrame.from_dict(rows, orient="index")
