"""scFoundation's tokens: the expressed genes of a fixed list, and the depths T and S.

Hao et al., Nature Methods 2024, as their ``get_embedding.py`` does it: ``log1p(c / Σc · 1e4)``
over the 19 264 genes, then two numbers as tokens of their own: T, the depth wished for, and
S = log10 Σc, the depth there is. Only what is positive becomes a token, genes in the order of the
list, T before S. Normalising is ``cellweave_rna``'s.

Quirk kept: for ``values="log"`` (the authors' ``pre_normalized=T``) S comes from the sum of the
logarithms. Departures: raw totals of ``values="log_total"`` stand in a column of ``obs`` instead of
a last column of the matrix; the median of bulk samples is that of all samples embedded together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, StateMismatchError
from cellweave.records import ComponentState, Tokens, Vocabulary
from cellweave.tokenizing.rows import csr_of, feature_names
from cellweave.tokenizing.table import TokenTable
from cellweave_rna.tables import ids_of_order
from cellweave_rna.tokenizers import ValueTokenizer
from cellweave_rna.tokenizers.naming import SYMBOL_COLUMNS, known_places

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ScfoundationTokenizer", "Values"]

Values = Literal["counts", "log", "log_total", "bulk_counts", "bulk_log"]
_VALUES = ("counts", "log", "log_total", "bulk_counts", "bulk_log")
_DEPTHS = ("<target_depth>", "<source_depth>")
_TARGET = re.compile(r"([tfa])(\d+(?:\.\d+)?)")
_KINDS = {"t": "fixed", "f": "times", "a": "plus"}


class ScfoundationTokenizer:
    """Encode expression as scFoundation does.

    Parameters
    ----------
    values
        What the data hold: ``"counts"`` (raw), ``"log"`` (log-normalised, S from their sum, as
        the authors do), ``"log_total"`` (log-normalised, raw totals in ``total_key``),
        ``"bulk_counts"`` or ``"bulk_log"`` (log-normalised) for bulk samples.
    target
        T: ``"t4"`` sets it to 4 (10 000 counts), ``"f5"`` to log10 of five times the cell's total,
        ``"a1"`` to log10 of the total plus 1. Not used for bulk, where T = S.
    total_key
        Column of ``obs`` with raw totals, for ``values="log_total"``.
    bulk_total
        What bulk samples are normalised to; the median of the totals of the data when not given.
    names_from
        Column of ``var`` with gene symbols; ``var_names``, or a usual column, when not given.
    layer
        Layer to read; when not given, ``layers["counts"]`` (else ``X``) for counts, ``X`` for the
        rest.
    """

    component: ClassVar[str] = "scfoundation"
    modality: ClassVar[str] = "rna"
    # A cell without any expressed gene still has T.
    framing: ClassVar[int] = 1

    def __init__(
        self,
        *,
        values: Values = "counts",
        target: str = "t4",
        total_key: str | None = None,
        bulk_total: float | None = None,
        names_from: str | None = None,
        layer: str | None = None,
    ) -> None:
        problems = [] if values in _VALUES else [f"values={values!r}, expected one of {_VALUES}"]
        if not _TARGET.fullmatch(target):
            problems.append(f"target={target!r}, expected such as 't4', 'f5' or 'a1'")
        if (values == "log_total") != (total_key is not None):
            problems.append("total_key goes with values='log_total' and only with it")
        if problems:
            msg = f"scFoundation's tokenizer cannot be set up: {'; '.join(problems)}."
            raise ConfigError(msg)
        self.values, self.target, self.total_key = values, target, total_key
        self.bulk_total, self.names_from, self.layer = bulk_total, names_from, layer
        self.genes = ValueTokenizer(**self._inner())

    @classmethod
    def from_genes(cls, genes: Sequence[str], **parameters: Any) -> Self:
        """Build on the published list of genes, in its order."""
        made = cls(**parameters)
        special = {"target_depth": _DEPTHS[0], "source_depth": _DEPTHS[1]}
        ids = ids_of_order([*genes, *_DEPTHS])
        made.genes = ValueTokenizer.from_tables(ids, special=special, **made._inner())
        return made

    @property
    def table(self) -> TokenTable:
        """Give genes and their ids; ``NotFittedError`` when there are none."""
        return self.genes.table

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens."""
        return self.genes.vocabulary

    def fit(self, adata: AnnData) -> Self:
        """Take the genes of ``adata`` as a list of your own."""
        names = feature_names(adata, self.names_from)
        self.genes = type(self).from_genes(names.tolist(), **self.parameters()).genes
        return self

    def changed(self, **parameters: Any) -> Self:
        """Return a tokenizer on the same genes with other arguments."""
        return self._on(self.table, {**self.parameters(), **parameters})

    def for_all_of(self, adata: AnnData) -> Self:
        """Return a tokenizer that treats parts of ``adata`` as it would all of it."""
        if self.values != "bulk_counts" or self.bulk_total is not None:
            return self
        matrix, places = self._placed(adata)
        totals = np.asarray(matrix[:, places >= 0].sum(axis=1), dtype=np.float64).ravel()
        median = float(np.median(totals[totals > 0])) if (totals > 0).any() else 1.0
        return self.changed(bulk_total=median)

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        if self.values == "bulk_counts" and self.bulk_total is None:
            return self.for_all_of(adata).encode(adata)
        matrix, places = self._placed(adata)
        if self.values == "bulk_counts":
            matrix = _log_normalised(matrix, places, float(self.bulk_total or 1.0))
        names = np.asarray(adata.obs_names, dtype=str)
        tokens = self.genes.encode_matrix(matrix, places, names=names, obs=adata.obs)
        return tokens if self.values != "bulk_log" else _with_plain_sums(tokens, self.vocabulary)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "values": self.values,
            "target": self.target,
            "total_key": self.total_key,
            "bulk_total": self.bulk_total,
            "names_from": self.names_from,
            "layer": self.layer,
        }

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        inner = self.genes.state()
        return ComponentState(
            component=self.component,
            parameters=self.parameters(),
            arrays=inner.arrays,
            extra={"table": dict(inner.extra)},
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild from :meth:`state`; a state of another component is refused."""
        if state.component != cls.component:
            msg = f"This is a state of {state.component!r}, expected {cls.component!r}."
            raise StateMismatchError(msg + " Load it with the tokenizer that wrote it.")
        table = TokenTable.from_parts(state.extra["table"], state.arrays)
        return cls._on(table, dict(state.parameters))

    @classmethod
    def _on(cls, table: TokenTable, parameters: Mapping[str, Any]) -> Self:
        """Build on a table of genes."""
        made = cls(**parameters)
        made.genes = ValueTokenizer.from_table(table, **made._inner())
        return made

    def _inner(self) -> dict[str, Any]:
        """Return the arguments of the tokenizer of values."""
        found = _TARGET.fullmatch(self.target)
        assert found is not None
        kind, number = _KINDS[found[1]], float(found[2])
        if self.values.startswith("bulk"):
            kind, number = "plus", 0.0
        raw = self.values == "counts"
        return {
            "depth": kind,
            "depth_value": number,
            "target_sum": 1e4 if raw else 0.0,
            "log1p": raw,
            "total": self.total_key or "vocabulary",
        }

    def _placed(self, adata: AnnData) -> tuple[sp.csr_matrix, np.ndarray]:
        """Return the values, and which gene of the list each column is."""
        reads_counts = self.values in ("counts", "bulk_counts")
        matrix = csr_of(adata, self.layer or (None if reads_counts else "X"))
        columns = [self.names_from] if self.names_from else [None, *SYMBOL_COLUMNS]
        places = known_places(
            adata,
            self.table.features,
            columns=columns,
            kind="human gene symbols",
            memo=self.genes.memo,
        )
        return matrix, places


def _log_normalised(matrix: sp.csr_matrix, places: np.ndarray, target: float) -> sp.csr_matrix:
    known = sp.csr_matrix(matrix @ sp.diags_array((places >= 0).astype(np.float32)))
    totals = np.asarray(known.sum(axis=1), dtype=np.float64).ravel()
    scale = target / np.where(totals > 0, totals, 1.0)
    data = np.log1p(known.data * np.repeat(scale, np.diff(known.indptr))).astype(np.float32)
    return sp.csr_matrix((data, known.indices, known.indptr), shape=known.shape)


def _with_plain_sums(tokens: Tokens, vocabulary: Vocabulary) -> Tokens:
    """Put the sum itself where T and S are: log-normalised bulk, as the authors do."""
    assert tokens.values is not None
    roles = ("target_depth", "source_depth")
    is_depth = np.isin(tokens.ids, [vocabulary.special_id(role) for role in roles])
    cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    sums = np.bincount(cells, np.where(is_depth, 0.0, tokens.values), tokens.n_cells)
    values = np.where(is_depth, sums[cells], tokens.values).astype(np.float32)
    return replace(tokens, values=values)
