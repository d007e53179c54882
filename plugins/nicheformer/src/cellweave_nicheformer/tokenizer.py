"""Nicheformer's tokens: genes ranked by value over their mean in the cell's technology.

Schaar, Tejada-Lapuerta et al. 2025: counts of the 20 310 genes of its order are scaled to 10 000,
divided by the technology's mean, and what is not zero is sorted, largest first; before them stand
the tokens of species, assay and modality. Ranking is ``cellweave_rna``'s.

The published means have gaps (NaN: never measured), zeros, and in MERFISH 48 negative numbers.
``mean_mode="raw"``, as the authors' package: zeros become 1, genes with a negative mean stand last.
``"filled"``: gaps become 1 too; ``"rounded"``: then rounded half up, as their notebooks do.
Departures: with ``"raw"`` a gap means no token (the package lets NaN sort anywhere); equal values
stand in the order of genes unless ``tie_break="numpy"``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, StateMismatchError
from cellweave.records import ComponentState, Tokens, Vocabulary
from cellweave.tokenizing.rows import csr_of
from cellweave.tokenizing.table import TokenTable
from cellweave_nicheformer.config import CONTEXT
from cellweave_nicheformer.context import (
    CONTEXT_IDS,
    N_AUXILIARY,
    auxiliary_names,
    context_of,
    technologies_of,
)
from cellweave_rna.tokenizers import RankTokenizer
from cellweave_rna.tokenizers.naming import ENSEMBL_COLUMNS, known_places, without_version

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["NicheformerTokenizer"]

_MEAN, _FACTOR = "mean/", "factor/"
_GROUP = "technology"
_TARGET = 1e4


class NicheformerTokenizer:
    """Encode raw counts as Nicheformer does.

    Parameters
    ----------
    context
        Which of ``specie``, ``assay`` and ``modality`` stand first.
    species, assay, modality
        One value for all cells; the columns ``specie`` (or ``species``, ``organism``), ``assay``
        and ``modality`` of ``obs`` when not given.
    technology
        Whose mean to divide by, for all cells; ``obs["technology"]``, else what assay and modality
        say, when not given.
    mean_mode
        ``"raw"``, ``"filled"`` or ``"rounded"``; see above.
    start
        Put ``<cls>`` before the context.
    max_length
        Most tokens of a cell, the context among them.
    tie_break
        ``"stable"`` or ``"numpy"``.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "nicheformer"
    modality: ClassVar[str] = "rna"

    def __init__(
        self,
        *,
        context: tuple[str, ...] = CONTEXT,
        species: str | None = None,
        assay: str | None = None,
        modality: str | None = None,
        technology: str | None = None,
        mean_mode: Literal["raw", "filled", "rounded"] = "raw",
        start: bool = False,
        max_length: int = 1500,
        tie_break: Literal["stable", "numpy"] = "stable",
        layer: str | None = None,
    ) -> None:
        odd = [c for c in context if c not in CONTEXT]
        if odd or mean_mode not in ("raw", "filled", "rounded"):
            msg = (
                f"context={context!r}, mean_mode={mean_mode!r}; expected some of {CONTEXT}, and "
                "'raw', 'filled' or 'rounded'. Use these."
            )
            raise ConfigError(msg)
        self.context = tuple(context)
        self.given = {"specie": species, "assay": assay, "modality": modality}
        self.technology, self.mean_mode, self.start = technology, mean_mode, start
        self.max_length, self.tie_break, self.layer = max_length, tie_break, layer
        self._table: TokenTable | None = None
        self.ranks = RankTokenizer(**self._inner())

    @classmethod
    def from_order(
        cls,
        genes: Sequence[str],
        means: Mapping[str, np.ndarray] | None = None,
        **parameters: Any,
    ) -> Self:
        """Build on the published order of genes and means.

        Parameters
        ----------
        genes
            Ensembl ids; the token is the place plus 30.
        means
            Technology to one mean a gene, NaN where it was never measured; plain values are
            ranked when not given.
        parameters
            Arguments of the tokenizer.
        """
        special = {"mask": 0, "pad": 1, "cls": 2}
        given = means or {"all": np.ones(len(genes))}
        table = TokenTable(
            vocabulary=Vocabulary(names=(*auxiliary_names(), *map(str, genes)), special=special),
            features=np.asarray(genes, dtype=str),
            ids=np.arange(N_AUXILIARY, N_AUXILIARY + len(genes), dtype=np.int32),
            context=CONTEXT_IDS,
            numbers={_MEAN + k: np.asarray(v, dtype=np.float64) for k, v in given.items()},
        )
        return cls._on(table, parameters)

    @property
    def table(self) -> TokenTable:
        """Give genes, their tokens and means; ``NotFittedError`` when there are none."""
        return self.ranks.table if self._table is None else self._table

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens."""
        return self.table.vocabulary

    @property
    def technologies(self) -> list[str]:
        """Name the technologies whose means are known."""
        return [name.removeprefix(_MEAN) for name in self.table.numbers]

    @property
    def framing(self) -> int:
        """Count the tokens of every cell that are no gene."""
        return len(self.context) + self.start

    def fit(self, adata: AnnData) -> Self:
        """Learn an order of genes and their means of your own; the published come with weights."""
        learner = RankTokenizer(scaling="mean", max_length=None, layer=self.layer)
        table = learner.fit(adata).table
        means = {"own": learner.factors()}
        made = type(self).from_order(table.features.tolist(), means, **self.parameters())
        self._table, self.ranks = made.table, made.ranks
        return self

    def changed(self, **parameters: Any) -> Self:
        """Return a tokenizer on the same genes with other arguments."""
        return self._on(self.table, {**self.parameters(), **parameters})

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        matrix = csr_of(adata, self.layer)
        columns: list[str | None] = [None, *ENSEMBL_COLUMNS]
        places = known_places(
            adata,
            self.table.features,
            columns=columns,
            kind="human Ensembl ids",
            spelling=without_version,
            memo=self.ranks.memo,
        )
        obs = context_of(adata, self.context, self.given)
        obs[_GROUP] = technologies_of(obs, adata, self.technology, self.technologies)
        names = np.asarray(adata.obs_names, dtype=str)
        tokens = self.ranks.encode_matrix(matrix, places, names=names, obs=obs)
        return self._with_negative(tokens, matrix, places, obs[_GROUP].to_numpy(dtype=str))

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "context": list(self.context),
            "species": self.given["specie"],
            "assay": self.given["assay"],
            "modality": self.given["modality"],
            "technology": self.technology,
            "mean_mode": self.mean_mode,
            "start": self.start,
            "max_length": self.max_length,
            "tie_break": self.tie_break,
            "layer": self.layer,
        }

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        return ComponentState(
            component=self.component,
            parameters=self.parameters(),
            arrays=self.table.to_arrays(),
            extra={"table": self.table.to_json()},
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
        """Build on a table of genes and means."""
        made = cls(**{**parameters, "context": tuple(parameters.get("context", CONTEXT))})
        made._table = table
        factors = {
            _FACTOR + k.removeprefix(_MEAN): made._factor(v) for k, v in table.numbers.items()
        }
        made.ranks = RankTokenizer.from_table(replace(table, numbers=factors), **made._inner())
        return made

    def _inner(self) -> dict[str, Any]:
        """Return the arguments of the tokenizer of ranks."""
        return {
            "context": self.context,
            "start": self.start,
            "max_length": self.max_length,
            "tie_break": self.tie_break,
            "group_key": _GROUP,
            "total": "vocabulary",
        }

    def _factor(self, means: np.ndarray) -> np.ndarray:
        """Return what values are divided by; NaN: no token."""
        found = means.copy() if self.mean_mode == "raw" else np.nan_to_num(means)
        if self.mean_mode == "rounded":
            found = np.floor(found + 0.5)
        found[found == 0] = 1.0
        return found

    def _with_negative(
        self, tokens: Tokens, matrix: sp.csr_matrix, places: np.ndarray, groups: np.ndarray
    ) -> Tokens:
        """Put genes with a negative mean last, as a descending sort of negative values does."""
        present, codes = np.unique(groups, return_inverse=True)
        factors = np.full((len(present), len(places)), np.nan)
        known = places >= 0
        for row, name in enumerate(present):
            factors[row, known] = self.ranks.factors(str(name))[places[known]]
        if not (factors < 0).any():
            return tokens
        cells = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        factor = factors[codes[cells], matrix.indices]
        kept = np.flatnonzero((factor < 0) & (matrix.data != 0))
        cells, place = cells[kept], places[matrix.indices[kept]]
        # Totals scale a whole cell, so they change no order.
        order = np.lexsort((place, -(matrix.data[kept] / factor[kept]), cells))
        return _appended(tokens, cells[order], self.table.ids[place[order]], self.max_length)


def _appended(tokens: Tokens, cells: np.ndarray, ids: np.ndarray, longest: int) -> Tokens:
    """Put more tokens behind those of some cells, as many as there is room for."""
    counts = np.bincount(cells, minlength=tokens.n_cells)
    starts = np.cumsum(counts) - counts
    own = np.arange(len(cells)) - starts[cells]
    fits = own < (longest - tokens.lengths)[cells]
    cells, ids, own = cells[fits], ids[fits], own[fits]
    lengths = tokens.lengths + np.bincount(cells, minlength=tokens.n_cells)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(offsets[:-1] - tokens.offsets[:-1], tokens.lengths)
    out = np.empty(offsets[-1], dtype=np.int32)
    out[np.arange(len(tokens.ids)) + shift] = tokens.ids
    out[offsets[cells] + tokens.lengths[cells] + own] = ids
    return replace(tokens, offsets=offsets, ids=out)
