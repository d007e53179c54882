"""A token model as tasks use it: from a path or given, asked about cells with edited tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import ConfigError, DataError, closest
from cellweave.records import Tokens
from cellweave_tasks.token_edits import EditedTokenizer, feature_ids

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["EncodedCells", "model_name", "token_model"]


def token_model(model: Any) -> Any:
    """Load a model from a path, or take the one given; refuse what cannot be edited."""
    if model is None or model == "":
        msg = "No model is named. Give the folder of one, or a loaded model, by `model`."
        raise ConfigError(msg)
    if isinstance(model, str):
        from cellweave.verbs.models import load

        model = load(model)
    lacks = [n for n in ("tokenizer", "embed", "with_tokenizer") if not hasattr(model, n)]
    if lacks:
        msg = (
            f"{type(model).__name__} has no {' and no '.join(lacks)}. Expected a model that embeds "
            "cells from tokens, e.g. what `cellweave.load` returns."
        )
        raise ConfigError(msg)
    return model


def model_name(model: Any) -> str:
    """Name a model for tables and provenance."""
    return model if isinstance(model, str) else str(getattr(model, "family", type(model).__name__))


class EncodedCells:
    """Cells with their tokens, and a model to ask about them as they are or edited."""

    def __init__(self, model: Any, adata: AnnData, *, batch_size: int, device: str) -> None:
        if not adata.obs_names.is_unique:
            msg = "Names of cells repeat. Call `adata.obs_names_make_unique()` first."
            raise DataError(msg)
        self.model, self.adata = model, adata
        self.batch_size, self.device = batch_size, device
        self.tokens: Tokens = model.tokenizer.encode(adata)
        self.ids = feature_ids(model.tokenizer)
        self.features = np.array(sorted(self.ids.values()), dtype=np.int64)

    def known(self, genes: list[str]) -> list[int]:
        """Return the ids of genes, or say which one the model does not know."""
        for gene in genes:
            if gene not in self.ids:
                msg = (
                    f"The model knows no gene {gene!r}.{closest(gene, self.ids)} Its genes look "
                    f"like {next(iter(self.ids), 'none')!r}."
                )
                raise DataError(msg)
        return [self.ids[gene] for gene in genes]

    def embed(self, rows: np.ndarray, edit: Callable[[Tokens], Tokens] | None = None) -> np.ndarray:
        """Return one vector for each of some cells, edited or not."""
        found = self._behind(edit).embed(
            self.adata[rows], batch_size=self.batch_size, device=self.device
        )
        return np.asarray(found.values, dtype=np.float64)

    def gene_states(
        self, rows: np.ndarray, edit: Callable[[Tokens], Tokens] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return genes, and the mean state of each over the cells that have it."""
        model = self._behind(edit)
        ask = getattr(model, "contextual_gene_embeddings", None) or model.gene_embeddings
        found = ask(self.adata[rows], batch_size=self.batch_size, device=self.device)
        return found.names.astype(str), np.asarray(found.values, dtype=np.float64)

    def counts(self) -> dict[str, int]:
        """Count the cells that hold each gene."""
        cells = np.repeat(np.arange(self.tokens.n_cells), self.tokens.lengths)
        pairs = np.unique(np.stack([self.tokens.ids, cells], axis=1), axis=0)[:, 0]
        seen, number = np.unique(pairs, return_counts=True)
        by_id = dict(zip(seen.tolist(), number.tolist(), strict=True))
        return {name: by_id.get(i, 0) for name, i in self.ids.items()}

    def _behind(self, edit: Callable[[Tokens], Tokens] | None) -> Any:
        return self.model.with_tokenizer(EditedTokenizer(self.model.tokenizer, self.tokens, edit))
