"""A model whose answers are known: a cell is the weighted mean of its genes' vectors."""

from __future__ import annotations

import anndata as ad
import numpy as np
import scipy.sparse as sp

from cellweave.records import Embedding, Provenance, Tokens, Vocabulary

GENES = 60
DRIVERS = np.arange(0, 8)  # their vectors point to the start: losing them moves cells to the goal
DECOYS = np.arange(20, 40)  # differ between states as much, and mean nothing to the model


class HandTokenizer:
    """Genes in descending order of value behind one `<cls>`; with values where asked."""

    modality = "rna"

    def __init__(self, names, *, with_values=False, longest=None):
        self.names, self.with_values, self.longest = list(names), with_values, longest
        self.calls = 0

    @property
    def vocabulary(self):
        return Vocabulary(names=("<cls>", *self.names), special={"cls": 0})

    def encode(self, adata):
        self.calls += 1
        ids, values, lengths = [], [], []
        for row in sp.csr_matrix(adata.X).toarray():
            order = np.argsort(-row, kind="stable")
            order = order[row[order] > 0][: self.longest]
            ids += [0, *(order + 1)]
            values += [-2.0, *row[order]]
            lengths.append(len(order) + 1)
        return Tokens(
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            ids=np.array(ids, dtype=np.int32),
            values=np.array(values, dtype=np.float32) if self.with_values else None,
            obs_names=np.asarray(adata.obs_names, dtype=str),
        )


class HandModel:
    """Weigh ranks by 1/(1 + place), or values by themselves."""

    family = "hand"

    def __init__(self, tokenizer, vectors):
        self.tokenizer, self.vectors = tokenizer, vectors

    def with_tokenizer(self, tokenizer):
        return HandModel(tokenizer, self.vectors)

    def _weights(self, tokens, i):
        ids = tokens.ids[tokens.offsets[i] + 1 : tokens.offsets[i + 1]] - 1
        if tokens.values is None:
            return ids, 1 / (1 + np.arange(len(ids)))
        return ids, tokens.values[tokens.offsets[i] + 1 : tokens.offsets[i + 1]]

    def embed(self, adata, *, batch_size=32, device="cpu"):
        tokens = self.tokenizer.encode(adata)
        rows = []
        for i in range(tokens.n_cells):
            ids, weights = self._weights(tokens, i)
            rows.append(np.array([1.0, 0, 0, 0]) + weights @ self.vectors[ids] / weights.sum())
        return Embedding(
            values=np.array(rows, dtype=np.float32), names=tokens.obs_names,
            provenance=Provenance(component="hand", version="0"),
        )  # fmt: skip

    def attention(self, adata):
        """Genes 10 to 14 attend to gene 0, where the cell has it; two heads, two blocks."""
        tokens = self.tokenizer.encode(adata)
        for i in range(tokens.n_cells):
            ids = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]]
            weights = np.full((2, len(ids), len(ids)), 0.01)
            weights[:, np.isin(ids, np.arange(11, 16))[:, None] & (ids == 1)] = 1.0
            yield str(tokens.obs_names[i]), ids, (weights * 0, weights)

    def contextual_gene_embeddings(self, adata, *, batch_size=32, device="cpu"):
        """Genes 10 to 14 change their state by whether gene 0 is in the cell; others never do."""
        tokens = self.tokenizer.encode(adata)
        sums, counts = np.zeros((GENES, 2)), np.zeros(GENES)
        for i in range(tokens.n_cells):
            ids = tokens.ids[tokens.offsets[i] + 1 : tokens.offsets[i + 1]] - 1
            state = np.tile([1.0, 0.0], (len(ids), 1))
            state[np.isin(ids, np.arange(10, 15)) & (ids[:, None] == 0).any()] = [0.0, 1.0]
            np.add.at(sums, ids, state)
            np.add.at(counts, ids, 1)
        seen = counts > 0
        return Embedding(
            values=(sums[seen] / counts[seen, None]).astype(np.float32),
            names=np.array(self.tokenizer.names)[seen],
            provenance=Provenance(component="hand", version="0"),
        )


def two_states(seed=0, n=60):
    """Cells of two states; drivers and decoys are high in the start and low in the goal."""
    rng = np.random.default_rng(seed)
    state = np.repeat(["start", "goal"], n)
    mean = np.full((2 * n, GENES), 2.0)
    for columns in (DRIVERS, DECOYS):
        mean[:n, columns], mean[n:, columns] = 4.0, 1.0
    adata = ad.AnnData(rng.poisson(mean).astype(np.float32))
    adata.obs_names = [f"s{seed}c{i}" for i in range(2 * n)]
    adata.var_names = [f"g{i}" for i in range(GENES)]
    adata.obs["cell_type"] = state
    adata.var["driver"] = np.isin(np.arange(GENES), DRIVERS)
    return adata


def hand_model(**arguments):
    rng = np.random.default_rng(0)
    vectors = np.zeros((GENES, 4))
    vectors[:, 2:] = 0.05 * rng.normal(size=(GENES, 2))
    vectors[DRIVERS, 1] = 2.0
    return HandModel(HandTokenizer([f"g{i}" for i in range(GENES)], **arguments), vectors)
