"""Which compounds of a table a mass may be: by exact mass, adduct and tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import ConfigError, DataError
from cellweave.linking import read_delimited
from cellweave.linking.intervals import ragged_ranges
from cellweave_metabolomics.chemistry import ADDUCTS, adduct_mass, exact_mass
from cellweave_metabolomics.masses import masses_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["annotate", "compound_masses"]

_NAMES = ("name", "metabolite", "compound", "id", "hmdb", "kegg", "formula")


def annotate(
    adata: AnnData,
    table: str | Path | pd.DataFrame,
    *,
    ppm: float = 5.0,
    adducts: Sequence[str] = ADDUCTS["positive"],
) -> pd.DataFrame:
    """Return every compound and adduct within ``ppm`` of a feature's m/z, best first per feature.

    Parameters
    ----------
    adata
        Data whose features have an m/z.
    table
        One row a compound: ``formula`` or ``mass`` (monoisotopic, neutral), and a ``name``,
        ``metabolite`` or identifier. Further columns are passed on.
    ppm
        Tolerance, relative to the computed m/z.
    adducts
        Ions to consider, e.g. ``["[M+H]+", "[M+Na]+"]``.

    Returns
    -------
    pandas.DataFrame
        ``feature, mz, name, adduct, theoretical_mz, ppm_error`` and the table's columns.
    """
    if not 0 < ppm <= 1000 or not adducts:
        msg = f"Got ppm={ppm!r} and adducts={list(adducts)!r}. Expected 0-1000 ppm and an adduct."
        raise ConfigError(msg)
    frame = read_delimited(table) if isinstance(table, str | Path) else table.reset_index(drop=True)
    neutral = compound_masses(frame)
    masses = masses_of(adata.var)
    theoretical = np.concatenate([[adduct_mass(m, a) for m in neutral] for a in adducts])
    at, candidate = _within(masses, theoretical, ppm)
    compound, which = candidate % len(frame), candidate // len(frame)
    named = next((c for c in _NAMES if c in frame.columns), None)
    found = frame.iloc[compound].drop(columns=["name"], errors="ignore").reset_index(drop=True)
    errors = (masses[at] - theoretical[candidate]) / theoretical[candidate] * 1e6
    found.insert(0, "feature", adata.var_names.to_numpy()[at])
    found.insert(1, "mz", masses[at])
    found.insert(2, "name", frame[named].to_numpy()[compound] if named else compound.astype(str))
    found.insert(3, "adduct", np.asarray(adducts, dtype=object)[which])
    found.insert(4, "theoretical_mz", theoretical[candidate])
    found.insert(5, "ppm_error", errors)
    order = np.lexsort((compound, np.abs(errors), at))
    return found.iloc[order].reset_index(drop=True)


def compound_masses(frame: pd.DataFrame) -> np.ndarray:
    """Return the neutral monoisotopic mass of each row: ``mass``, else from ``formula``."""
    import pandas as pd

    if "mass" in frame.columns:
        masses = pd.to_numeric(frame["mass"], errors="coerce").to_numpy(dtype=np.float64)
    elif "formula" in frame.columns:
        masses = np.array([exact_mass(str(f)) for f in frame["formula"]], dtype=np.float64)
    else:
        msg = (
            f"The table of compounds has the columns {list(frame.columns)[:10]!r}. Expected "
            "'formula' or 'mass' (monoisotopic, neutral). Rename the column."
        )
        raise DataError(msg)
    wrong = np.flatnonzero(~(masses > 0))
    if len(wrong):
        msg = f"Row {wrong[0] + 2} of the table has no mass above 0. Mend or drop the row."
        raise DataError(msg)
    return masses


def _within(masses: np.ndarray, theoretical: np.ndarray, ppm: float) -> tuple[np.ndarray, ...]:
    """Return pairs (feature, candidate) with ``|mass - t| <= ppm · t``."""
    order = np.argsort(theoretical, kind="stable")
    placed = theoretical[order]
    tolerance = ppm * 1e-6
    begin = np.searchsorted(placed, masses / (1 + tolerance), side="left")
    end = np.searchsorted(placed, masses / (1 - tolerance), side="right")
    at, position = ragged_ranges(begin, end)
    return at, order[position]
