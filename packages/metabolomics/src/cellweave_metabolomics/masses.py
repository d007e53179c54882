"""The mass-to-charge ratio of each feature, from a column or from its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["mass_column", "masses_of", "share_of_masses"]

_COLUMNS = ("mz", "m/z", "raw_mz", "observed_mz", "mass_to_charge")
_NAME = r"^(?:m/?z)[-_ :=]*(\d+(?:\.\d+)?)$|^(\d+\.\d+)$"
_LIMITS = (10.0, 20_000.0)


def mass_column(var: pd.DataFrame) -> str | None:
    """Return the name of the column that holds m/z, if there is one."""
    return next((c for c in var.columns if str(c).lower() in _COLUMNS), None)


def masses_of(var: pd.DataFrame) -> np.ndarray:
    """Return float64 m/z of every feature.

    Raises
    ------
    DataError
        When some feature has none.
    """
    masses = _found(var)
    wrong = np.flatnonzero(~np.isfinite(masses) | (masses <= 0))
    if len(wrong):
        msg = (
            f"{len(wrong)} of {len(var)} features have no m/z, e.g. {var.index[wrong[0]]!r}. "
            "Expected a var column 'mz', or names such as mz-426.9289 or 426.9289."
        )
        raise DataError(msg)
    return masses


def share_of_masses(var: pd.DataFrame) -> float:
    """Return the share of features with an m/z that a spectrometer could have given."""
    if len(var) == 0:
        return 0.0
    masses = _found(var)
    return float(((masses >= _LIMITS[0]) & (masses <= _LIMITS[1])).mean())


def _found(var: pd.DataFrame) -> np.ndarray:
    import pandas as pd

    column = mass_column(var)
    if column is not None:
        return pd.to_numeric(var[column], errors="coerce").to_numpy(dtype=np.float64)
    parts = pd.Series(var.index.astype("str")).str.strip().str.extract(_NAME, flags=2)
    numbers = parts.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    return np.where(np.isfinite(numbers[:, 0]), numbers[:, 0], numbers[:, 1])
