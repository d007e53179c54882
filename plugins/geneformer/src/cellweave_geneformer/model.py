"""Geneformer as a model: read, embed as its authors do, look at genes and attention, save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Tokens
from cellweave_geneformer.checkpoint import looks_published, read_geneformer
from cellweave_geneformer.config import GeneformerConfig
from cellweave_geneformer.network import GeneformerNetwork
from cellweave_geneformer.tokenizer import GeneformerTokenizer
from cellweave_nn.checkpoints import FamilyModel

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["GeneformerModel"]

Pooling = Literal["auto", "cls", "cell", "mean"]


class GeneformerModel(FamilyModel):
    """Embed cells with Geneformer.

    ``load`` takes two companions: ``base``, the folder of the base model when the path holds LoRA
    adapters only, and ``dictionaries``, the folder of token dictionary and medians when they are
    not beside the weights.
    """

    family: ClassVar[str] = "geneformer"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": (
            "V1 (6 and 12 blocks, 2 048 tokens)",
            "V2 (104M, 316M and CLcancer, 4 096 tokens)",
        ),
        "published": "https://huggingface.co/ctheodoris/Geneformer",
        "code licence": "Apache-2.0",
        "weights licence": "Apache-2.0",
        "can": ("cell and gene embeddings", "attention", "masked logits", "classification"),
        "verified": (
            "tokens of V1 against the official tokenizer; network against transformers' BERT "
            "on random weights; never on the trained weights themselves"
        ),
    }

    config_type = GeneformerConfig
    network_type = GeneformerNetwork
    tokenizer_type = GeneformerTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_geneformer)
    config: GeneformerConfig
    network: GeneformerNetwork

    @property
    def facts(self) -> dict[str, Any]:
        """Say what was read."""
        return {"version": self.tokenizer.version, **super().facts}

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        hidden: int = 512,
        max_length: int = 2048,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes and medians of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, heads, hidden
            Sizes; those of V1-10M when not given.
        max_length
            Most tokens of a cell.
        seed
            Of the weights.
        """
        tokenizer = GeneformerTokenizer(max_length=max_length).fit(adata)
        config = GeneformerConfig(
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            n_places=max_length,
        )
        return cls._random(config, tokenizer, seed)

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        pooling: Pooling = "auto",
        layer: int = -1,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts with Ensembl ids.
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"cls"``: the first token (V2; the authors' default there); ``"cell"``: the mean over
            the genes (V1's default); ``"mean"``: over all tokens; ``"auto"``: the authors' default.
        layer
            0: after the last block; −1 (the authors' default): before it; and so on.
        """
        how = self._pooling(pooling)
        depth = self._depth(layer)
        values = self._by_length(
            adata, lambda tokens: self._pooled(tokens, how, depth, device), batch_size
        )
        return self._embedding(adata, values, **self._how(how, layer))

    def gene_embeddings(
        self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu", layer: int = -1
    ) -> Embedding:
        """Return each gene's mean state over the cells that have it (the authors' "gene" mode)."""
        return self._mean_by_gene(
            adata,
            batch_size=batch_size,
            device=device,
            layer=layer,
            pooling="gene",
            vocabulary=self.tokenizer.version,
        )

    @property
    def reconstructs(self) -> Literal["genes"] | None:
        """Say that weights with the head of pretraining tell which genes are hidden."""
        return "genes" if self.network.masked is not None else None

    def filled(self, batch: TokenBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return what the network says of the ``hidden`` tokens."""
        masked = batch.with_(ids=batch.ids.masked_fill(hidden, batch.special["mask"]))
        return self._likeliest(self.network.logits(self.network(masked)[hidden]))

    def attention(
        self, adata: AnnData, *, device: str = "cpu"
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        return self._attention(adata, device)

    def predict(self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu") -> np.ndarray:
        """Return the scores of a fine-tuned classifier of cells, ``(n_cells, n_labels)``."""
        if self.config.head != "cell":
            msg = f"The weights have the head {self.config.head!r}, not a classifier of cells. "
            raise ConfigError(msg + "Load weights that were fine-tuned for cells.")

        def scores(batch: TokenBatch) -> torch.Tensor:
            return self.network.classes(self.network(batch), batch)

        return self._by_length(adata, lambda tokens: self._run(tokens, device, scores), batch_size)

    def _pooling(self, pooling: Pooling) -> str:
        framed = self.tokenizer.framing > 0
        how = ("cls" if framed else "cell") if pooling == "auto" else pooling
        if how not in ("cls", "cell", "mean") or (how == "cls" and not framed):
            msg = f"pooling={pooling!r} does not go with {self.tokenizer.version}. Use 'cell' or "
            raise ConfigError(msg + ("'mean', or 'cls'." if framed else "'mean'."))
        return how

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        if how == "cls":
            return self._run(tokens, device, lambda batch: self.network.first(batch, depth=depth))
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
        skip = 1 if how == "cell" and self.tokenizer.framing else 0
        # A row after the last, so that the end of the last cell is a place too.
        padded = np.concatenate([states, np.zeros_like(states[:1])])
        borders = np.stack([starts + skip, ends - skip], axis=1).ravel()
        sums = np.add.reduceat(padded, borders, dtype=np.float64)[::2]
        return sums / (ends - starts - 2 * skip)[:, None]

    def _how(self, pooling: str, layer: int) -> dict[str, Any]:
        return {"pooling": pooling, "layer": layer, "vocabulary": self.tokenizer.version}
