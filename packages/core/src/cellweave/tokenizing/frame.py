"""The tokens that frame a cell's features: start, context and end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.tokenizing.table import UNKNOWN, TokenTable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Frame", "frame_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Hold what stands before and after each cell's features: ``(n_cells, k)`` ids each."""

    before: np.ndarray
    after: np.ndarray

    @property
    def width(self) -> int:
        """Count the tokens of the frame."""
        return self.before.shape[1] + self.after.shape[1]

    def body_starts(self, offsets: np.ndarray) -> np.ndarray:
        """Say where each cell's features start in the output."""
        return offsets[:-1] + self.before.shape[1]

    def fill(self, offsets: np.ndarray, ids: np.ndarray) -> None:
        """Write the frame's ids around the features."""
        for j in range(self.before.shape[1]):
            ids[offsets[:-1] + j] = self.before[:, j]
        for j in range(self.after.shape[1]):
            ids[offsets[1:] - self.after.shape[1] + j] = self.after[:, j]

    def fill_values(self, offsets: np.ndarray, values: np.ndarray, value: float) -> None:
        """Write one value at every place of the frame."""
        for j in range(self.before.shape[1]):
            values[offsets[:-1] + j] = value
        for j in range(self.after.shape[1]):
            values[offsets[1:] - self.after.shape[1] + j] = value


def frame_of(
    table: TokenTable, obs: pd.DataFrame, *, start: bool, end: bool, context: tuple[str, ...]
) -> Frame:
    """Build the frame: ``<cls>`` if asked, then the context in the given order; ``<eos>`` last."""
    n = len(obs)
    before = [context_ids(table, obs, key) for key in context]
    if start:
        before.insert(0, np.full(n, table.vocabulary.special_id("cls"), dtype=np.int32))
    after = [np.full(n, table.vocabulary.special_id("eos"), dtype=np.int32)] if end else []
    return Frame(before=_columns(before, n), after=_columns(after, n))


def context_ids(table: TokenTable, obs: pd.DataFrame, key: str) -> np.ndarray:
    """Return the context id of each cell for one column of ``obs``."""
    known = table.context.get(key)
    if known is None or key not in obs:
        where, names = ("obs", obs.columns) if known else ("The fitted vocabulary", table.context)
        msg = (
            f"{where} has no context {key!r}.{closest(key, names)} It has: {one_of(names)}. "
            "Name columns of obs in `context`, and fit with them."
        )
        raise ConfigError(msg)
    codes, values = _factorized(obs[key])
    ids = np.array([known.get(v, known.get(UNKNOWN, -1)) for v in values], dtype=np.int32)
    if len(ids) and ids.min() < 0:
        first = values[int(np.argmin(ids))]
        msg = (
            f"obs[{key!r}] holds {first!r}, which the vocabulary does not know."
            f"{closest(first, known)} It knows: {one_of(known)}. Rename the values."
        )
        raise DataError(msg)
    return ids[codes]


def _factorized(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    import pandas as pd

    codes, values = pd.factorize(column.astype(str))
    missing = column.isna().to_numpy()
    names = [str(v) for v in values]
    if missing.any():
        codes = np.where(missing, len(names), codes)
        names.append(UNKNOWN)
    return codes, names


def _columns(columns: list[np.ndarray], n: int) -> np.ndarray:
    return np.stack(columns, axis=1) if columns else np.empty((n, 0), dtype=np.int32)
