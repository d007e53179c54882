"""A plain tokenizer for any modality: one token a feature that is not zero.

It needs no torch and no knowledge of the modality; modalities offer better ones of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, NotFittedError, StateMismatchError, one_of
from cellweave.records import ComponentState, Provenance, Tokens, Vocabulary

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["NonzeroTokenizer"]

_SPECIAL = ("<pad>", "<mask>", "<cls>")
_NAME = "nn.nonzero"


class NonzeroTokenizer:
    """Make a token of every feature of a cell that is not zero, with its value.

    Parameters
    ----------
    layer
        Which layer is read; ``None`` is ``X``.
    order
        ``"features"`` keeps the order of the vocabulary, ``"rank"`` puts the largest value first
        (ties in the order of the vocabulary).
    limit
        Most tokens of a cell, the largest values kept; 0 for no limit.
    only_variable
        Whether the vocabulary holds only features marked ``highly_variable``.
    with_zeros
        Whether zeros are tokens too.
    weigh
        ``"rarity"`` multiplies values by ``log(1 + N / n)``, where n of the N cells of ``fit`` have
        the feature: those that few cells have say more of a cell, and are the last to be cut. The
        mean of all values in ``fit`` is then 1, so that errors of values weigh as other losses do.
    """

    modality = "*"

    def __init__(
        self,
        *,
        layer: str | None = None,
        order: Literal["features", "rank"] = "features",
        limit: int = 0,
        only_variable: bool = False,
        with_zeros: bool = False,
        weigh: Literal["none", "rarity"] = "none",
    ) -> None:
        if order not in ("features", "rank"):
            msg = f"order is {order!r}. Use 'features' or 'rank'."
            raise ConfigError(msg)
        if weigh not in ("none", "rarity"):
            msg = f"weigh is {weigh!r}. Use 'none' or 'rarity'."
            raise ConfigError(msg)
        self.layer, self.order, self.limit = layer, order, limit
        self.only_variable, self.with_zeros, self.weigh = only_variable, with_zeros, weigh
        self._vocabulary: Vocabulary | None = None
        self._weights: np.ndarray | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """Give names and ids of all tokens."""
        if self._vocabulary is None:
            msg = f"The {_NAME!r} tokenizer has no vocabulary yet. Call fit(adata) first."
            raise NotFittedError(msg)
        return self._vocabulary

    def fit(self, adata: AnnData) -> Self:
        """Take the names of the features and, where values are weighed, how rare each is."""
        names = adata.var_names.astype(str)
        chosen = slice(None)
        if self.only_variable:
            if "highly_variable" not in adata.var:
                msg = "only_variable=True needs var['highly_variable']. Prepare the data first."
                raise DataError(msg)
            chosen = adata.var["highly_variable"].to_numpy(bool)
            names = names[chosen]
        special = {name.strip("<>"): i for i, name in enumerate(_SPECIAL)}
        self._vocabulary = Vocabulary(names=(*_SPECIAL, *names), special=special)
        if self.weigh == "rarity":
            self._weights = _rarity(self._matrix(adata))[chosen]
        return self

    def encode(self, adata: AnnData) -> Tokens:
        """Return the tokens of every cell, in input order."""
        matrix = self._matrix(adata)
        index = self.vocabulary.index()
        ids = np.array([index.get(name, -1) for name in adata.var_names.astype(str)])
        known = np.flatnonzero(ids >= 0)
        if not len(known):
            shown = ", ".join(map(repr, adata.var_names[:3]))
            msg = f"None of the {adata.n_vars} features ({shown} …) is in the vocabulary. "
            raise DataError(msg + "Use the names the tokenizer was fitted with.")
        matrix = sp.csr_matrix(matrix[:, known[np.argsort(ids[known], kind="stable")]])
        _check_values(matrix, adata.obs_names)
        values, offsets, columns = self._entries(matrix)
        token_ids = np.sort(ids[known])[columns].astype(np.int32)
        if self._weights is not None:
            values = values * self._weights[token_ids - len(_SPECIAL)]
        tokens = Tokens(
            offsets=offsets,
            ids=token_ids,
            obs_names=adata.obs_names.to_numpy(dtype=str),
            values=values.astype(np.float32),
            provenance=Provenance(
                component=_NAME, version=_version(), parameters=self._parameters()
            ),
        )
        return self._ordered(tokens)

    def state(self) -> ComponentState:
        """Return everything needed to encode the same way again."""
        return ComponentState(
            component=_NAME,
            parameters=self._parameters(),
            arrays={} if self._weights is None else {"weights": self._weights},
            extra={
                "names": list(self.vocabulary.names),
                "special": dict(self.vocabulary.special),
            },
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted tokenizer."""
        if state.component != _NAME:
            msg = f"This is the state of {state.component!r}. Expected one of {_NAME!r}."
            raise StateMismatchError(msg)
        made = cls(**state.parameters)
        names, special = tuple(state.extra["names"]), dict(state.extra["special"])
        made._vocabulary = Vocabulary(names=names, special=special)
        made._weights = state.arrays.get("weights")
        return made

    def _parameters(self) -> dict[str, Any]:
        names = ("layer", "order", "limit", "only_variable", "with_zeros", "weigh")
        return {name: getattr(self, name) for name in names}

    def _matrix(self, adata: AnnData) -> sp.csr_matrix:
        if self.layer is not None and self.layer not in adata.layers:
            msg = f"There is no layer {self.layer!r}; there are {one_of(adata.layers)}. Name one."
            raise DataError(msg)
        matrix = adata.X if self.layer is None else adata.layers[self.layer]
        return sp.csr_matrix(matrix)

    def _entries(self, matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.with_zeros:
            n, width = matrix.shape
            columns = np.tile(np.arange(width), n)
            return matrix.toarray().ravel(), np.arange(n + 1, dtype=np.int64) * width, columns
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix.data, matrix.indptr.astype(np.int64), matrix.indices

    def _ordered(self, tokens: Tokens) -> Tokens:
        """Sort by value and cut, where asked for."""
        if self.order == "features" and not self.limit:
            return tokens
        assert tokens.values is not None
        cell = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
        by_value = np.lexsort((tokens.ids, -tokens.values, cell))
        rank = np.arange(len(cell)) - tokens.offsets[cell]
        kept = by_value[rank < self.limit] if self.limit else by_value
        if self.order == "features":
            kept = kept[np.lexsort((tokens.ids[kept], cell[kept]))]
        counts = np.bincount(cell[kept], minlength=tokens.n_cells)
        return Tokens(
            offsets=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
            ids=tokens.ids[kept],
            obs_names=tokens.obs_names,
            values=tokens.values[kept],
            provenance=tokens.provenance,
        )


def _rarity(matrix: sp.csr_matrix) -> np.ndarray:
    """Return ``log(1 + N / n)`` of each column, so scaled that the mean of values is 1.

    A column that no cell has weighs as one that one cell has.
    """
    columns, n_columns = matrix.indices[matrix.data != 0], matrix.shape[1]
    seen = np.bincount(columns, minlength=n_columns)
    weights = np.log1p(matrix.shape[0] / np.maximum(seen, 1))
    total = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel() @ weights
    scaled: np.ndarray = (weights * (len(columns) / total if total > 0 else 1.0)).astype(np.float32)
    return scaled


def _check_values(matrix: sp.csr_matrix, names: Any) -> None:
    """Refuse NaN, infinity and negative values: zero would not mean absent any more."""
    wrong = np.flatnonzero(~np.isfinite(matrix.data) | (matrix.data < 0))
    if len(wrong):
        cell = int(np.searchsorted(matrix.indptr, wrong[0], side="right")) - 1
        msg = (
            f"{len(wrong)} values are negative, NaN or infinite, first {matrix.data[wrong[0]]!s} "
            f"in cell {str(names[cell])!r}. Expected counts or log-normalised values, not scaled "
            "ones. Choose another layer."
        )
        raise DataError(msg)


def _version() -> str:
    import cellweave_nn

    return cellweave_nn.__version__
