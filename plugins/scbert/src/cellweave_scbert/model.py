"""scBERT as a model: read, embed, look at genes and attention, predict labels, save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Tokens
from cellweave_nn.checkpoints import FamilyModel
from cellweave_scbert.checkpoint import looks_published, read_scbert
from cellweave_scbert.config import ScbertConfig
from cellweave_scbert.network import ScbertNetwork
from cellweave_scbert.tokenizer import ScbertTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["ScbertModel"]

Pooling = Literal["auto", "cls", "mean", "sum", "label"]
# A token's random features take much room, and every cell has all genes: memory is bounded so.
_TOKENS_AT_A_TIME = 32_768


class ScbertModel(FamilyModel):
    """Embed cells with scBERT.

    ``load`` takes one companion: ``genes``, the path of ``panglao_human.h5ad`` or of a text file
    with its genes in order, when it is not beside the weights.
    """

    family: ClassVar[str] = "scbert"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("panglao_pretrain", "fine-tuned for annotation"),
        "published": "https://github.com/TencentAILabHealthcare/scBERT (on request)",
        "code licence": "GPL-3.0 (none of it is used here)",
        "weights licence": "on request from the authors",
        "can": (
            "cell and gene embeddings",
            "attention received by each gene",
            "masked bins",
            "labels of fine-tuned classifiers",
        ),
        "verified": (
            "encodings and logits of the authors' own network on random weights, 2 blocks at full "
            "length; a plain float64 re-telling; never on the trained weights themselves"
        ),
    }

    config_type = ScbertConfig
    network_type = ScbertNetwork
    tokenizer_type = ScbertTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_scbert)
    config: ScbertConfig
    network: ScbertNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 200,
        depth: int = 6,
        heads: int = 10,
        head_width: int = 64,
        n_bins: int = 5,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, heads, head_width
            Sizes; the published ones when not given.
        n_bins
            The largest bin.
        seed
            Of the weights and the random features.
        """
        if width < 1 or heads < 1 or head_width < 3:
            msg = f"width={width}, heads={heads}, head_width={head_width}; expected 1, 1, 3 or more"
            raise ConfigError(msg + ". Use larger sizes.")
        tokenizer = ScbertTokenizer(n_bins=n_bins).fit(adata)
        config = ScbertConfig(
            n_ids=len(tokenizer.vocabulary),
            n_values=n_bins + 2,
            width=width,
            depth=depth,
            heads=heads,
            head_width=head_width,
            hidden=4 * width,
            n_features=int(head_width * math.log(head_width)),
        )
        return cls._random(config, tokenizer, seed)

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        pooling: Pooling = "auto",
        layer: int = 0,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts with human gene symbols.
        batch_size, device
            Most cells at a time, and where; fewer where they would hold over 32 768 tokens.
        pooling
            The authors name no cell embedding. ``"cls"`` (``"auto"``): the state of the last
            token, ``"mean"`` or ``"sum"`` over all tokens, as BioLLM offers them; ``"label"``:
            what the last layer of a fine-tuned classifier sees.
        layer
            0: after the last block and norm; −1: before the last block; and so on.
        """
        how = self._chosen(pooling, "cls", "mean", "sum", "label")
        depth = self._depth(layer)
        if how == "label" and (self.network.label is None or layer):
            msg = "pooling='label' needs weights with a classifier, and layer=0. Use 'cls'."
            raise ConfigError(msg)
        values = self._by_length(
            adata, lambda tokens: self._pooled(tokens, how, depth, device), self._cells(batch_size)
        )
        return self._embedding(adata, values, pooling=how, layer=layer)

    def gene_embeddings(self) -> Embedding:
        """Return the rows of the gene table (gene2vec), the same for all data."""
        table = self.tokenizer.table
        values = self.network.genes.weight.detach().cpu().float().numpy()[table.ids]
        provenance = self._provenance(what="genes")
        return Embedding(values=values, names=table.features, provenance=provenance)

    def contextual_gene_embeddings(
        self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu", layer: int = 0
    ) -> Embedding:
        """Return each gene's mean state over the cells, zeros among its bins."""
        return self._mean_by_gene(
            adata,
            batch_size=self._cells(batch_size),
            device=device,
            layer=layer,
            what="genes in context",
        )

    def attention(self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu") -> Embedding:
        """Return the attention that each gene gets from its cell, ``(n_cells, n_genes)``.

        The sum of a column of the attention map, averaged over heads and blocks, as the authors
        rank genes. The names are those of the cells; columns stand in the order of
        ``tokenizer.table.features``.
        """
        n_genes = self.config.n_ids - 1

        def received(batch: TokenBatch) -> torch.Tensor:
            found = self.network.received(batch).mean((0, 2))
            return found.view(batch.n_cells, -1)[:, :n_genes]

        values = self._by_length(
            adata, lambda tokens: self._run(tokens, device, received), self._cells(batch_size)
        )
        return self._embedding(adata, values, what="attention received")

    def predict(self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu") -> np.ndarray:
        """Return the scores of a fine-tuned classifier of cells, ``(n_cells, n_labels)``."""
        if self.network.label is None:
            msg = "The weights have no classifier of cells. Load weights fine-tuned for labels."
            raise ConfigError(msg)

        def scores(batch: TokenBatch) -> torch.Tensor:
            return self.network.classes(self.network(batch))

        return self._by_length(
            adata, lambda tokens: self._run(tokens, device, scores), self._cells(batch_size)
        )

    @property
    def reconstructs(self) -> Literal["values"] | None:
        """Say that weights with the head of pretraining tell the bins of hidden genes."""
        return "values" if self.network.masked is not None else None

    def _fitting(self, batch_size: int) -> int:
        return self._cells(batch_size)

    def filled(self, batch: TokenBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return what the network says of the ``hidden`` tokens."""
        assert batch.values is not None
        mask = self.config.n_values - 1
        masked = batch.with_(values=batch.values.masked_fill(hidden, mask))
        chances = self.network.logits(self.network(masked)[hidden])[:, :mask].softmax(1)
        bins = torch.arange(mask, dtype=chances.dtype, device=chances.device)
        return chances @ bins  # the expected bin

    def _cells(self, batch_size: int) -> int:
        """Return how many cells go at a time."""
        return min(batch_size, max(1, _TOKENS_AT_A_TIME // self.config.n_ids))

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        def pooled(batch: TokenBatch) -> torch.Tensor:
            if how == "cls":
                return self.network.last(batch, depth=depth)
            states = self.network(batch, depth=depth)
            cells = states.view(batch.n_cells, self.config.n_ids, self.config.width)
            if how == "label":
                assert self.network.label is not None
                return self.network.label.hidden(cells)
            return cells.mean(1, dtype=torch.float64) if how == "mean" else cells.sum(1)

        return self._run(tokens, device, pooled)
