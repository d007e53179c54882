"""Geneformer's rank-value tokens on its published dictionaries.

Theodoris et al., Nature 2023: a cell is its genes in descending order of
``count / n_counts · 10 000 / median``. V1 cuts at 2 048 tokens; V2 frames with ``<cls>`` and
``<eos>`` and cuts at 4 096. The ranking is ``cellweave_rna``'s; here are identifiers, the collapse
of duplicate genes and totals.

Departures: equal values stand in vocabulary order unless ``tie_break="numpy"`` (upstream sorts
unstably); version suffixes of Ensembl ids are dropped; cells are not filtered by ``filter_pass``;
where ``obs["n_counts"]`` is missing the sum over all columns is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, StateMismatchError
from cellweave.kernels.ragged import row_sums
from cellweave.records import ComponentState, Tokens, Vocabulary
from cellweave.tokenizing.rows import csr_of, unchecked_csr_of
from cellweave.tokenizing.table import TokenTable
from cellweave_rna.tokenizers import RankTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GeneformerTokenizer"]

_TOTAL = "n_counts"
_ID_COLUMN = "ensembl_id"
_VERSION = re.compile(r"^(ENS\w+)\.\d+$")


class GeneformerTokenizer:
    """Encode raw counts as Geneformer does.

    Parameters
    ----------
    version
        ``"V1"``, or ``"V2"`` with ``<cls>`` and ``<eos>``.
    max_length
        Most tokens of a cell; 2 048 for V1 and 4 096 for V2 when not given.
    tie_break
        ``"stable"`` or ``"numpy"``.
    layer
        Layer with raw counts; ``layers["counts"]``, else ``X``, when not given.
    """

    component: ClassVar[str] = "geneformer"
    modality: ClassVar[str] = "rna"

    def __init__(
        self,
        *,
        version: Literal["V1", "V2"] = "V2",
        max_length: int | None = None,
        tie_break: Literal["stable", "numpy"] = "stable",
        layer: str | None = None,
    ) -> None:
        if version not in ("V1", "V2"):
            msg = f"version={version!r} is unknown. Use 'V1' or 'V2'."
            raise ConfigError(msg)
        self.version = version
        self.layer = layer
        framed = version == "V2"
        self.max_length = max_length or (4096 if framed else 2048)
        self.ranks = RankTokenizer(
            start=framed,
            end=framed,
            max_length=self.max_length,
            total=_TOTAL,
            tie_break=tie_break,
        )
        self.mapping: Mapping[str, str] = {}
        self.symbols: Mapping[str, str] = {}

    @classmethod
    def from_dictionaries(
        cls,
        token_ids: Mapping[str, int],
        medians: Mapping[str, float],
        *,
        mapping: Mapping[str, str] | None = None,
        symbols: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> Self:
        """Build on the published dictionaries.

        Parameters
        ----------
        token_ids
            Ensembl id (and special name) to token.
        medians
            Ensembl id to the gene's non-zero median.
        mapping
            Any Ensembl id, upper case, to the one in the vocabulary.
        symbols
            Gene symbol to Ensembl id, used when the data carry symbols.
        parameters
            Arguments of the tokenizer.
        """
        framed = {"<cls>", "<eos>"} <= token_ids.keys()
        parameters.setdefault("version", "V2" if framed else "V1")
        made = cls(**parameters)
        special = {"pad": "<pad>", "mask": "<mask>"}
        if framed:
            special |= {"cls": "<cls>", "eos": "<eos>"}
        arguments = made.ranks.parameters()
        made.ranks = RankTokenizer.from_tables(token_ids, medians, special=special, **arguments)
        made.mapping, made.symbols = dict(mapping or {}), dict(symbols or {})
        return made

    @property
    def table(self) -> TokenTable:
        """Give genes, their tokens and medians; ``NotFittedError`` when there are none."""
        return self.ranks.table

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens."""
        return self.ranks.vocabulary

    @property
    def framing(self) -> int:
        """Count the tokens of every cell that are no gene."""
        return 2 if self.version == "V2" else 0

    def fit(self, adata: AnnData) -> Self:
        """Learn a vocabulary and medians of your own; published ones come with the weights."""
        if self.version == "V1":
            msg = "Only version='V2' can learn a vocabulary. V1 stands on the published one."
            raise ConfigError(msg)
        matrix = csr_of(adata, self.layer)
        obs = pd.DataFrame({_TOTAL: self._totals(adata, matrix)}, index=adata.obs_names)
        var = pd.DataFrame(index=self._plain_names(adata))
        self.ranks.fit(anndata.AnnData(matrix, obs=obs, var=var))
        return self

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order; ``adata`` is not changed."""
        matrix, layer = unchecked_csr_of(adata, self.layer)
        obs = pd.DataFrame({_TOTAL: self._totals(adata, matrix)}, index=adata.obs_names)
        places = self._places(adata)
        if np.bincount(places[places >= 0]).max(initial=0) > 1:
            matrix, places = _collapsed(matrix, places, len(self.table.features))
        names = np.asarray(adata.obs_names, dtype=str)
        return self.ranks.encode_matrix(matrix, places, names=names, obs=obs, layer=layer)

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        inner = self.ranks.state()
        return ComponentState(
            component=self.component,
            parameters={
                "version": self.version,
                "max_length": self.max_length,
                "tie_break": self.ranks.tie_break,
                "layer": self.layer,
            },
            arrays=inner.arrays,
            extra={
                "table": dict(inner.extra),
                "mapping": dict(self.mapping),
                "symbols": dict(self.symbols),
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
        made.ranks = RankTokenizer.from_table(table, **made.ranks.parameters())
        made.mapping, made.symbols = state.extra["mapping"], state.extra["symbols"]
        return made

    def _totals(self, adata: AnnData, matrix: sp.csr_matrix) -> np.ndarray:
        if _TOTAL not in adata.obs:
            totals: np.ndarray = row_sums(np.asarray(matrix.indptr, dtype=np.int64), matrix.data)
            return totals
        totals = pd.to_numeric(adata.obs[_TOTAL], errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~(np.isfinite(totals) & (totals >= 0)))
        if len(wrong):
            name = str(adata.obs_names[wrong[0]])
            msg = (
                f"obs['n_counts'] of cell {name!r} is {adata.obs[_TOTAL].iloc[wrong[0]]!r}. "
                "Expected the cell's total over all genes. Correct it, or drop the column."
            )
            raise DataError(msg)
        return totals

    def _places(self, adata: AnnData) -> np.ndarray:
        """Return the place of each column in the table, ``-1`` where it is no known gene."""
        asked = [adata.var_names]
        if _ID_COLUMN in adata.var:
            asked.append(pd.Index(adata.var[_ID_COLUMN]))
        if (kept := self.ranks.memo.get(asked, self.table.features)) is not None:
            return kept
        index = pd.Index(self.table.features)
        names = self._plain_names(adata)
        places = index.get_indexer([self.mapping.get(n, n) for n in names.tolist()])
        if (places < 0).all() and self.symbols:
            places = index.get_indexer([self.symbols.get(n, "") for n in map(str, adata.var_names)])
        if (places < 0).all():
            shown = ", ".join(repr(str(n)) for n in asked[-1][:3])
            msg = (
                f"None of {len(names)} features is a gene that Geneformer knows ({shown} …). "
                f"Expected Ensembl ids such as {str(self.table.features[0])!r} in "
                "var['ensembl_id'] or var_names. Map symbols with cellweave_rna.map_genes."
            )
            raise DataError(msg)
        self.ranks.memo.keep(asked, self.table.features, places)
        return places

    def _plain_names(self, adata: AnnData) -> np.ndarray:
        column = adata.var.get(_ID_COLUMN, adata.var_names)
        names = [str(name).upper() for name in column]
        return np.array([_VERSION.sub(r"\1", n) if "." in n else n for n in names], dtype=str)


def _collapsed(
    matrix: sp.csr_matrix, places: np.ndarray, n_features: int
) -> tuple[sp.csr_matrix, np.ndarray]:
    """Sum the columns of one gene; columns then stand in the order of the table."""
    known = np.flatnonzero(places >= 0)
    ones = np.ones(len(known), dtype=matrix.dtype)
    shape = (matrix.shape[1], n_features)
    summed = sp.csr_matrix(matrix @ sp.csr_matrix((ones, (known, places[known])), shape=shape))
    summed.sort_indices()
    return summed, np.arange(n_features)
