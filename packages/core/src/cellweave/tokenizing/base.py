"""What every tokenizer of sparse cells does: fit on a stream, frame, cut, keep its state."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, NotFittedError, StateMismatchError
from cellweave.kernels.counter_random import cell_keys
from cellweave.kernels.ragged import close_gaps
from cellweave.records import ComponentState, Provenance, Tokens, Vocabulary
from cellweave.tokenizing.frame import Frame, frame_of
from cellweave.tokenizing.memory import TokenMemory
from cellweave.tokenizing.rows import (
    PlaceMemo,
    Rows,
    csr_of,
    feature_names,
    places_of,
    rows_of,
    unchecked_csr_of,
)
from cellweave.tokenizing.table import TokenTable, table_from_names

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["NO_KEYS", "Body", "SparseTokenizer"]

NO_KEYS = np.empty(0, dtype=np.uint64)
NO_VALUES = np.empty(0, dtype=np.float32)
_DISTRIBUTION = "cellweave-core"


@dataclass(slots=True, kw_only=True)
class Body:
    """What a tokenizer writes: ids and, where it has them, values and positions.

    Frames are added by the caller; ``starts`` and ``lengths`` say where a cell's features go.
    """

    offsets: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    ids: np.ndarray
    values: np.ndarray | None = None
    positions: np.ndarray | None = None


@dataclass(kw_only=True, eq=False)
class SparseTokenizer:
    """Turn sparse cells into ragged tokens; subclasses say which features, in which order.

    Parameters
    ----------
    layer
        Layer to read; ``None`` takes ``layers["counts"]``, else ``X``; ``"X"`` takes ``X``.
    names_from
        Column of ``var`` with the feature names; ``None`` takes ``var_names``.
    context
        Columns of ``obs`` (species, assay, tissue, batch …) whose values become tokens, in this
        order, before the features.
    start, end
        Put ``<cls>`` first, ``<eos>`` last.
    max_length
        Most tokens of a cell, frame included; ``None`` for no limit.
    overflow
        What to do with longer cells: ``"truncate"``, or ``"sample"`` at random, order kept.
    seed
        Seed of everything random.
    """

    component: ClassVar[str] = "tokenizer"
    modality: ClassVar[str] = "*"

    layer: str | None = None
    names_from: str | None = None
    context: tuple[str, ...] = ()
    start: bool = False
    end: bool = False
    max_length: int | None = None
    overflow: Literal["truncate", "sample"] = "truncate"
    seed: int = 0
    _table: TokenTable | None = field(default=None, init=False, repr=False)
    _learning: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    memo: PlaceMemo = field(default_factory=PlaceMemo, init=False, repr=False)
    memory: TokenMemory = field(default_factory=TokenMemory, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the arguments; all problems at once."""
        self.context = tuple(self.context)
        if problems := self._problems():
            msg = f"{self.component!r} cannot be set up: {'; '.join(problems)}."
            raise ConfigError(msg)

    def _problems(self) -> list[str]:
        problems = []
        frame = self.start + self.end + len(self.context)
        if self.max_length is not None and self.max_length <= frame:
            problems.append(
                f"max_length={self.max_length!r} leaves no room beside {frame} framing tokens; "
                f"expected more than {frame}"
            )
        if self.overflow not in ("truncate", "sample"):
            problems.append(f"overflow={self.overflow!r}; expected 'truncate' or 'sample'")
        return problems

    # ------------------------------------------------------------------ fitting

    @property
    def table(self) -> TokenTable:
        """Give the fitted table; ``NotFittedError`` before ``fit``."""
        if self._table is None and self._learning:
            self._table = self._finish()
        if self._table is None:
            msg = f"{self.component!r} is not fitted. Call fit(adata) or load a state first."
            raise NotFittedError(msg)
        return self._table

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens; ``NotFittedError`` before ``fit``."""
        return self.table.vocabulary

    def fit(self, adata: AnnData) -> Self:
        """Learn the vocabulary (and what else encoding needs) from ``adata`` alone."""
        self._learning = {}
        return self.partial_fit(adata)

    def partial_fit(self, adata: AnnData) -> Self:
        """Learn from one more chunk; chunks in any order give the same as all at once."""
        matrix = csr_of(adata, self.layer)
        names = feature_names(adata, self.names_from)
        if not self._learning:
            self._learning = {"features": names, "context": {}, "n_cells": 0}
        self._note_context(adata.obs)
        places = self._grow_features(names)
        self._learn(matrix, places, adata)
        self._learning["n_cells"] += matrix.shape[0]
        self._table = None
        return self

    def _note_context(self, obs: pd.DataFrame) -> None:
        for key in self.context:
            if key not in obs:
                msg = f"obs has no column {key!r} for a context token. Add it, or change context."
                raise ConfigError(msg)
            seen = self._learning["context"].setdefault(key, set())
            seen.update(str(v) for v in obs[key].dropna().unique())

    def _grow_features(self, names: np.ndarray) -> np.ndarray:
        known = self._learning["features"]
        if len(known) == len(names) and np.array_equal(known, names):
            return np.arange(len(names))
        fresh = np.setdiff1d(names, known)
        self._learning["features"] = np.concatenate([known, fresh])
        return places_of(names, self._learning["features"])

    def _learn(self, matrix: sp.csr_matrix, places: np.ndarray, adata: AnnData) -> None:
        """Gather statistics of one chunk into ``self._learning``; by default there are none."""

    def _finish(self) -> TokenTable:
        """Make the table of what was learnt; by default the features as they came."""
        return table_from_names(
            list(self._learning["features"]),
            context=self._learnt_context(),
            numbers=self._numbers(),
            facts=self._facts(),
        )

    def _learnt_context(self) -> dict[str, list[str]]:
        return {key: sorted(self._learning["context"].get(key, ())) for key in self.context}

    def _numbers(self) -> Mapping[str, np.ndarray]:
        """Return numbers by feature to keep in the table; by default none."""
        return {}

    def _facts(self) -> Mapping[str, Any]:
        """Return JSON values to keep in the table."""
        return {"n_cells": self._learning["n_cells"]}

    # ------------------------------------------------------------------ encoding

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        matrix, layer = unchecked_csr_of(adata, self.layer)
        rows = rows_of(
            matrix, self._places_in(adata), names=np.asarray(adata.obs_names, dtype=str),
            obs=adata.obs, in_data_order=self.in_data_order, layer=layer,
        )  # fmt: skip
        return self._tokens_of(rows)

    def _places_in(self, adata: AnnData) -> np.ndarray:
        if self.names_from is not None:
            return self.places(feature_names(adata, self.names_from))
        features = self.table.features
        places = self.memo.get((adata.var_names,), features)
        if places is None:
            places = self.places(feature_names(adata, None))
            self.memo.keep((adata.var_names,), features, places)
        return places

    def places(self, names: np.ndarray) -> np.ndarray:
        """Return where each feature name stands in the table; for :meth:`encode_matrix`."""
        return places_of(names, self.table.features)

    def encode_matrix(
        self, matrix: sp.csr_matrix, places: np.ndarray, *, names: np.ndarray, obs: pd.DataFrame,
        layer: str = "X",
    ) -> Tokens:  # fmt: skip
        """Encode CSR rows whose columns are already placed: what a stream calls for each batch.

        Values are checked; ``layer`` is what an error calls the matrix.
        """
        rows = rows_of(
            matrix, places, names=names, obs=obs, in_data_order=self.in_data_order, layer=layer
        )
        return self._tokens_of(rows)

    def _tokens_of(self, rows: Rows) -> Tokens:
        frame = frame_of(self.table, rows.obs, start=self.start, end=self.end, context=self.context)
        body = self._encoded(rows, frame)
        if body.ids.flags.writeable:  # ids that batches share are framed already
            frame.fill(body.offsets, body.ids)
        return Tokens(
            offsets=body.offsets,
            ids=body.ids,
            values=body.values,
            positions=body.positions,
            obs_names=rows.names,
            context=self._context_of(rows),
            provenance=self.provenance(),
        )

    @property
    def in_data_order(self) -> bool:
        """Tell whether rows must keep the order of the data instead of the table's."""
        return False

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        """Write the features of all cells; the one thing a subclass must say."""
        raise NotImplementedError

    def _context_of(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return per-cell arrays that go along: totals, and the ids of the context."""
        from cellweave.tokenizing.frame import context_ids

        found = {key: context_ids(self.table, rows.obs, key) for key in self.context}
        return {"total": rows.totals.astype(np.float32), **found}

    def _room(self, frame: Frame) -> int | None:
        return None if self.max_length is None else self.max_length - frame.width

    def _laid_out(self, lengths: np.ndarray, frame: Frame) -> Body:
        """Lay out cells of ``lengths`` features, cut to the room there is, frame around them."""
        room = self._room(frame)
        lengths = lengths if room is None else np.minimum(lengths, room)
        offsets = np.concatenate([[0], np.cumsum(lengths + frame.width)]).astype(np.int64)
        return Body(
            offsets=offsets,
            starts=frame.body_starts(offsets),
            lengths=lengths,
            ids=self.memory.empty(offsets[-1], np.int32),
        )

    def _tightened(self, body: Body, lengths: np.ndarray, frame: Frame) -> Body:
        """Close the gaps of a body that was laid out for more features than came."""
        if np.array_equal(lengths, body.lengths):
            return body
        offsets = np.concatenate([[0], np.cumsum(lengths + frame.width)]).astype(np.int64)
        starts = frame.body_starts(offsets)
        values = body.values
        close_gaps(body.ids, body.starts, starts, lengths)
        if values is not None:
            close_gaps(values, body.starts, starts, lengths)
            values = values[: offsets[-1]].copy()
        return Body(
            offsets=offsets,
            starts=starts,
            lengths=lengths,
            ids=body.ids[: offsets[-1]].copy(),
            values=values,
        )

    def _keys(self, rows: Rows, purpose: str) -> np.ndarray:
        return cell_keys(rows.names, seed=self.seed, purpose=f"{self.component}/{purpose}")

    # ------------------------------------------------------------------ state

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def provenance(self) -> Provenance:
        """Say what made the tokens."""
        return Provenance(
            component=self.component,
            version=_version(),
            parameters=self.parameters(),
            seed=self.seed,
        )

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        return ComponentState(
            component=self.component,
            parameters=self.parameters(),
            arrays=self.table.to_arrays(),
            extra=self.table.to_json(),
            provenance=self.provenance(),
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted tokenizer; a state of another component is refused."""
        if state.component != cls.component:
            msg = (
                f"This is a state of {state.component!r}. Expected one of {cls.component!r}. "
                f"Load it with the tokenizer that wrote it."
            )
            raise StateMismatchError(msg)
        return cls.from_table(
            TokenTable.from_parts(state.extra, state.arrays), **dict(state.parameters)
        )

    @classmethod
    def from_table(cls, table: TokenTable, **parameters: Any) -> Self:
        """Build a fitted tokenizer on a ready table, e.g. a published vocabulary."""
        made = cls(**parameters)
        made._table = table
        return made


@functools.cache
def _version() -> str:
    """Read the version once: it stands in a file, and every batch of tokens carries it."""
    return importlib.metadata.version(_DISTRIBUTION)
