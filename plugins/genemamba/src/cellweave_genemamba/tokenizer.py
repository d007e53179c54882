"""GeneMamba's tokens: the expressed genes of a cell, largest first.

Qi et al. 2025: genes in descending order of expression, at most 2 048 of them, ids from
``tokenizer.json`` (Ensembl ids), symbols mapped by ``symbol2id.pkl``. Ranking is
``cellweave_rna``'s. Pretraining divided by Geneformer's medians first: give ``medians`` for that.

Departures: only expressed genes become tokens; the authors' scripts sort all genes, so that those
without expression follow in an order of chance (``unexpressed="append"`` puts them there in the
order of the data). Genes without an id are left out. Equal values stand in the order of ids unless
``tie_break="numpy"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, StateMismatchError
from cellweave.records import ComponentState, Tokens, Vocabulary
from cellweave.tokenizing.rows import csr_of
from cellweave.tokenizing.table import TokenTable
from cellweave_rna.tokenizers import RankTokenizer
from cellweave_rna.tokenizers.naming import (
    ENSEMBL_COLUMNS,
    SYMBOL_COLUMNS,
    known_places,
    without_version,
)

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GenemambaTokenizer"]

_ROLES = {"[PAD]": "pad", "[UNK]": "unk", "[CLS]": "cls", "[MASK]": "mask"}


class GenemambaTokenizer:
    """Encode expression as GeneMamba does.

    Parameters
    ----------
    unexpressed
        ``"drop"``, or ``"append"`` genes of the data that a cell does not express.
    start
        Put ``[CLS]`` first, as fine-tuned classifiers want it.
    max_length
        Most tokens of a cell.
    tie_break
        ``"stable"`` or ``"numpy"``.
    layer
        Layer to read; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "genemamba"
    modality: ClassVar[str] = "rna"

    def __init__(
        self,
        *,
        unexpressed: Literal["drop", "append"] = "drop",
        start: bool = False,
        max_length: int = 2048,
        tie_break: Literal["stable", "numpy"] = "stable",
        layer: str | None = None,
    ) -> None:
        if unexpressed not in ("drop", "append"):
            msg = f"unexpressed={unexpressed!r} is unknown. Use 'drop' or 'append'."
            raise ConfigError(msg)
        self.unexpressed, self.start, self.max_length = unexpressed, start, max_length
        self.tie_break, self.layer = tie_break, layer
        self.ranks = RankTokenizer(**self._inner(medians=False))
        self.symbols: Mapping[str, str] = {}

    @classmethod
    def from_vocabulary(
        cls,
        token_ids: Mapping[str, int],
        *,
        symbols: Mapping[str, str] | None = None,
        medians: Mapping[str, float] | None = None,
        **parameters: Any,
    ) -> Self:
        """Build on a published vocabulary.

        Parameters
        ----------
        token_ids
            Ensembl id (and special name) to id.
        symbols
            Gene symbol to Ensembl id.
        medians
            Ensembl id to non-zero median, to rank values scaled to 10 000 over it.
        parameters
            Arguments of the tokenizer.
        """
        made = cls(**parameters)
        special = {role: name for name, role in _ROLES.items() if name in token_ids}
        inner = made._inner(medians=medians is not None)
        made.ranks = RankTokenizer.from_tables(token_ids, medians, special=special, **inner)
        made.symbols = dict(symbols or {})
        return made

    @property
    def table(self) -> TokenTable:
        """Give genes and their ids; ``NotFittedError`` when there are none."""
        return self.ranks.table

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens."""
        return self.ranks.vocabulary

    @property
    def framing(self) -> int:
        """Count the tokens of every cell that are no gene."""
        return int(self.start)

    def fit(self, adata: AnnData) -> Self:
        """Take the genes of ``adata`` as a vocabulary of your own."""
        names = [str(n) for n in adata.var_names]
        ids = {name: i for i, name in enumerate(["[UNK]", "[PAD]", "[CLS]", *names])}
        if len(ids) < len(names) + 3:
            msg = f"{len(names)} features have {len(ids) - 3} different names. Make them unique."
            raise DataError(msg)
        self.ranks = type(self).from_vocabulary(ids, **self.parameters()).ranks
        return self

    def changed(self, **parameters: Any) -> Self:
        """Return a tokenizer on the same genes with other arguments."""
        state = self.state()
        return self.from_state(replace(state, parameters={**state.parameters, **parameters}))

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        matrix, places = csr_of(adata, self.layer), self._places(adata)
        names = np.asarray(adata.obs_names, dtype=str)
        tokens = self.ranks.encode_matrix(matrix, places, names=names, obs=adata.obs)
        return tokens if self.unexpressed == "drop" else self._appended(tokens, matrix, places)

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "unexpressed": self.unexpressed,
            "start": self.start,
            "max_length": self.max_length,
            "tie_break": self.tie_break,
            "layer": self.layer,
        }

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        inner = self.ranks.state()
        return ComponentState(
            component=self.component,
            parameters=self.parameters(),
            arrays=inner.arrays,
            extra={
                "table": dict(inner.extra),
                "symbols": dict(self.symbols),
                "medians": self.ranks.target_sum > 0,
            },
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild from :meth:`state`; a state of another component is refused."""
        if state.component != cls.component:
            msg = f"This is a state of {state.component!r}, expected {cls.component!r}."
            raise StateMismatchError(msg + " Load it with the tokenizer that wrote it.")
        made = cls(**dict(state.parameters))
        table = TokenTable.from_parts(state.extra["table"], state.arrays)
        inner = made._inner(medians=bool(state.extra["medians"]))
        made.ranks = RankTokenizer.from_table(table, **inner)
        made.symbols = state.extra["symbols"]
        return made

    def _inner(self, *, medians: bool) -> dict[str, Any]:
        """Return the arguments of the tokenizer of ranks."""
        return {
            "start": self.start,
            "max_length": self.max_length,
            "tie_break": self.tie_break,
            "scaling": "median" if medians else "none",
            "target_sum": 1e4 if medians else 0.0,
        }

    def _places(self, adata: AnnData) -> np.ndarray:
        """Return the place of each column in the table, by Ensembl id or by symbol."""
        symbols = self.symbols

        def spelt(name: str) -> str:
            return symbols.get(name, without_version(name))

        return known_places(
            adata,
            self.table.features,
            columns=[None, *ENSEMBL_COLUMNS, *SYMBOL_COLUMNS],
            kind="human Ensembl ids",
            spelling=spelt,
            memo=self.ranks.memo,
        )

    def _appended(self, tokens: Tokens, matrix: sp.csr_matrix, places: np.ndarray) -> Tokens:
        """Put the genes that a cell does not express behind those that it does."""
        columns = np.flatnonzero(places >= 0)
        at = np.full(len(places), -1)
        at[columns] = np.arange(len(columns))
        silent = np.ones((tokens.n_cells, len(columns)), dtype=bool)
        cells = np.repeat(np.arange(tokens.n_cells), np.diff(matrix.indptr))
        told = (matrix.data != 0) & (places[matrix.indices] >= 0)
        silent[cells[told], at[matrix.indices[told]]] = False
        room = self.max_length - tokens.lengths
        silent &= np.cumsum(silent, axis=1, dtype=np.int32) <= room[:, None]
        rows, found = np.nonzero(silent)
        lengths = tokens.lengths + silent.sum(1)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.empty(offsets[-1], dtype=np.int32)
        shift = np.repeat(offsets[:-1] - tokens.offsets[:-1], tokens.lengths)
        ids[np.arange(len(tokens.ids)) + shift] = tokens.ids
        own = np.arange(len(rows)) - np.searchsorted(rows, rows)
        ids[offsets[rows] + tokens.lengths[rows] + own] = self.table.ids[places[columns[found]]]
        return replace(tokens, offsets=offsets, ids=ids)
