r"""Ways to score every pair regulator → target, larger for surer.

- ``coexpression``: :math:`|r|`; ``partial``: :math:`|\rho|` given all other genes asked about, from
  a covariance shrunk as Ledoit and Wolf (2004) choose;
- ``embedding``: cosine of the genes' vectors, centred;
- ``attention``: how much the target attends to the regulator in the last block: each map's rows,
  then columns, as ranks, mean over heads and over the cells that hold both (as scGPT's authors);
- ``deletion``: :math:`1 - \cos` of the target's mean state with and without the regulator, over
  cells that hold it;
- ``links``: a given table; ``random``: chance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.covariance import ledoit_wolf

from cellweave.errors import ConfigError, DataError
from cellweave_tasks.features import as_dense, features_of
from cellweave_tasks.gene_embeddings import gene_embedding_of
from cellweave_tasks.perturbation_graph import correlations
from cellweave_tasks.token_edits import edit_tokens, has_any
from cellweave_tasks.token_models import EncodedCells, token_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SCORERS", "Asked", "score_pairs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The cells, the genes on both sides, and what the ways of scoring need."""

    adata: AnnData
    regulators: np.ndarray
    targets: np.ndarray
    use_rep: str | None
    model: Any
    links: pd.DataFrame | None
    max_cells: int
    batch_size: int
    device: str
    seed: int

    @property
    def genes(self) -> np.ndarray:
        """List all genes asked about, sorted."""
        return np.union1d(self.regulators, self.targets)


def score_pairs(method: str, asked: Asked) -> np.ndarray:
    """Return regulators × targets."""
    return np.asarray(SCORERS[method](asked), dtype=np.float64)


def _random(asked: Asked) -> np.ndarray:
    rng = np.random.default_rng(asked.seed)
    return rng.random((len(asked.regulators), len(asked.targets)))


def _coexpression(asked: Asked) -> np.ndarray:
    return _between(asked, np.abs(correlations(_expression(asked))))


def _partial(asked: Asked) -> np.ndarray:
    values = _expression(asked).astype(np.float64)
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    precision = np.linalg.inv(ledoit_wolf(scaled)[0])
    size = np.sqrt(np.diag(precision))
    found = np.abs(precision / size / size[:, None])
    constant = spread <= 1e-12
    found[constant], found[:, constant] = 0.0, 0.0
    return _between(asked, found)


def _embedding(asked: Asked) -> np.ndarray:
    if asked.use_rep is None:
        msg = "method='embedding' needs gene embeddings. Name a key of `varm` by `use_rep`."
        raise ConfigError(msg)
    names, vectors = gene_embedding_of(asked.adata, asked.use_rep) or (np.empty(0), np.empty(0))
    centred = vectors - vectors.mean(axis=0)
    size = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = np.divide(centred, size, out=np.zeros_like(centred), where=size > 0)
    left, right = (_rows(unit, names, g) for g in (asked.regulators, asked.targets))
    return left @ right.T


def _links(asked: Asked) -> np.ndarray:
    table = asked.links
    assert table is not None
    found = np.zeros((len(asked.regulators), len(asked.targets)))
    rows, columns = (
        pd.Index(genes).get_indexer(table[side])
        for genes, side in ((asked.regulators, "source"), (asked.targets, "target"))
    )
    both = (rows >= 0) & (columns >= 0)
    weights = table["weight"].to_numpy(dtype=float) if "weight" in table else np.ones(len(table))
    np.maximum.at(found, (rows[both], columns[both]), np.abs(weights[both]))
    return found


def _attention(asked: Asked) -> np.ndarray:
    model = token_model(asked.model)
    if not hasattr(model, "attention"):
        msg = f"{type(model).__name__} shows no attention. Use method='deletion' or 'embedding'."
        raise ConfigError(msg)
    cells = _encoded(model, asked)
    place = {cells.ids[g]: i for i, g in enumerate(asked.genes) if g in cells.ids}
    n = len(asked.genes)
    sums, counts = np.zeros((n, n)), np.zeros((n, n))
    for found in model.attention(cells.adata):
        ids, weights = (
            (found[1], found[2]) if isinstance(found, tuple) else (found.ids, found.weights)
        )
        at = np.array([place.get(int(i), -1) for i in ids])
        kept = np.flatnonzero(at >= 0)
        if len(kept):
            ranks = _ranked(np.asarray(weights[-1])[:, kept][:, :, kept])
            block = np.ix_(at[kept], at[kept])
            sums[block] += ranks.T  # a row asks, a column is attended to: it regulates
            counts[block] += 1
    return _between(asked, np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0))


def _ranked(maps: np.ndarray) -> np.ndarray:
    rows = rankdata(maps, axis=2) / maps.shape[2]
    return np.asarray((rankdata(rows, axis=1) / maps.shape[1]).mean(axis=0))


def _deletion(asked: Asked) -> np.ndarray:
    model = token_model(asked.model)
    asks = ("contextual_gene_embeddings", "gene_embeddings")
    if not any(hasattr(model, n) for n in asks):
        msg = f"{type(model).__name__} shows no states of genes. Use method='embedding'."
        raise ConfigError(msg)
    cells = _encoded(model, asked)
    out = np.zeros((len(asked.regulators), len(asked.targets)))
    for i, gene in enumerate(asked.regulators):
        if gene not in cells.ids:
            continue
        ids = [cells.ids[gene]]
        rows = np.flatnonzero(has_any(cells.tokens, ids) & (cells.tokens.lengths > 2))
        if len(rows):
            edit = partial(edit_tokens, ids=ids, how="delete", features=cells.features)
            out[i] = _moved(cells.gene_states(rows), cells.gene_states(rows, edit), asked.targets)
    return out


def _moved(
    before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray], genes: np.ndarray
) -> np.ndarray:
    left, right = (_rows(vectors, names, genes) for names, vectors in (before, after))
    size = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine = np.divide((left * right).sum(axis=1), size, out=np.ones(len(genes)), where=size > 0)
    return 1.0 - cosine


def _encoded(model: Any, asked: Asked) -> EncodedCells:
    adata = asked.adata
    rng = np.random.default_rng(asked.seed)
    rows = np.sort(rng.permutation(adata.n_obs)[: asked.max_cells])
    cells = EncodedCells(
        model, adata[rows].copy(), batch_size=asked.batch_size, device=asked.device
    )
    if not any(g in cells.ids for g in asked.genes):
        msg = (
            f"The model knows none of the {len(asked.genes)} genes asked about, e.g. "
            f"{str(asked.genes[0])!r}; its own look like {next(iter(cells.ids), 'none')!r}."
        )
        raise DataError(msg)
    return cells


def _expression(asked: Asked) -> np.ndarray:
    at = pd.Index(np.asarray(asked.adata.var_names, dtype=str)).get_indexer(asked.genes)
    return as_dense(features_of(asked.adata, None)[:, at])


def _between(asked: Asked, table: np.ndarray) -> np.ndarray:
    rows, columns = (np.searchsorted(asked.genes, g) for g in (asked.regulators, asked.targets))
    return table[np.ix_(rows, columns)]


def _rows(vectors: np.ndarray, names: np.ndarray, genes: np.ndarray) -> np.ndarray:
    at = pd.Index(names).get_indexer(genes)
    return np.where((at >= 0)[:, None], vectors[np.maximum(at, 0)], 0.0)


SCORERS: dict[str, Callable[[Asked], np.ndarray]] = {
    "embedding": _embedding,
    "attention": _attention,
    "deletion": _deletion,
    "links": _links,
    "partial": _partial,
    "coexpression": _coexpression,
    "random": _random,
}
