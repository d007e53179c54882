"""Nicheformer as a model: read, embed as its authors do, predict niches, look at genes, save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Tokens
from cellweave_nicheformer.checkpoint import looks_published, read_nicheformer
from cellweave_nicheformer.config import NicheformerConfig
from cellweave_nicheformer.network import NicheformerNetwork
from cellweave_nicheformer.tokenizer import NicheformerTokenizer
from cellweave_nn.checkpoints import FamilyModel

if TYPE_CHECKING:
    import torch
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["NicheformerModel"]

Pooling = Literal["auto", "mean", "mean_with_context", "mean_unpadded"]
_POOLINGS = ("mean", "mean_with_context", "mean_unpadded")


class NicheformerModel(FamilyModel):
    """Embed cells with Nicheformer, dissociated and spatial ones alike.

    ``load`` takes two companions: ``genes``, the path of ``model.h5ad`` or ``vocab.json``, and
    ``means``, the folder of the technologies' means, when they are not near the weights.
    """

    family: ClassVar[str] = "nicheformer"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("nicheformer.ckpt", "Hugging Face", "fine-tuned for niches"),
        "published": "https://doi.org/10.17632/87gm9hrgm8, https://huggingface.co/theislab/Nicheformer",
        "code licence": "BSD-3-Clause",
        "weights licence": "CC BY 4.0 (Mendeley Data; read it there)",
        "can": (
            "cell and gene embeddings",
            "attention",
            "masked logits",
            "spatial labels, composition and density of fine-tuned heads",
        ),
        "verified": (
            "tokens and outputs of the authors' own code on random weights at a small size; a "
            "plain retelling in float64 at the published size; never on the trained weights "
            "themselves"
        ),
    }

    config_type = NicheformerConfig
    network_type = NicheformerNetwork
    tokenizer_type = NicheformerTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_nicheformer)
    config: NicheformerConfig
    network: NicheformerNetwork

    @property
    def example_context(self) -> dict[str, str]:
        """Give the context of the cell that ``cellweave models check`` embeds."""
        known = self.tokenizer.technologies
        technology = "dissociated" if "dissociated" in known else known[0]
        return {
            "specie": "human",
            "assay": "10x 3' v3",
            "modality": "dissociated",
            "technology": technology,
        }

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 512,
        depth: int = 12,
        heads: int = 16,
        hidden: int = 1024,
        max_length: int = 1500,
        context: tuple[str, ...] = (),
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes and means of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, heads, hidden, max_length
            Sizes; the published ones when not given.
        context
            Which of ``specie``, ``assay`` and ``modality`` stand first.
        seed
            Of the weights.
        """
        tokenizer = NicheformerTokenizer(max_length=max_length, context=context).fit(adata)
        config = NicheformerConfig(
            n_rows=len(tokenizer.vocabulary),
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            n_places=max_length,
            context=context,
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
        **context: Any,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts with Ensembl ids, and the context of each cell in ``obs``.
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"mean"`` (the authors' default, and ``"auto"``): over all places after the context,
            padding among them; ``"mean_with_context"``: over all places; ``"mean_unpadded"``: over
            the genes alone, several times faster.
        layer
            0 (the authors'): after the last block; −1: before it; and so on.
        **context
            ``species``, ``assay``, ``modality``, ``technology`` for all cells, and other arguments
            of :class:`NicheformerTokenizer`.
        """
        how = self._chosen(pooling, *_POOLINGS)
        depth, tokenizer = self._depth(layer), self._with(context)
        values = self._by_length(
            adata,
            lambda tokens: self._pooled(tokens, how, depth, device),
            batch_size,
            tokenizer.encode,
        )
        return self._embedding(
            adata, values, pooling=how, layer=layer, mean_mode=tokenizer.mean_mode, **context
        )

    def gene_embeddings(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        layer: int = 0,
        **context: Any,
    ) -> Embedding:
        """Return each gene's mean state over the cells that have it."""
        return self._mean_by_gene(
            adata,
            batch_size=batch_size,
            device=device,
            layer=layer,
            encode=self._with(context).encode,
            what="genes",
            **context,
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
        self, adata: AnnData, *, device: str = "cpu", **context: Any
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        return self._attention(adata, device, self._with(context).encode)

    def predict(
        self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu", **context: Any
    ) -> np.ndarray:
        """Return what a fine-tuned head says of each cell, ``(n_cells, n_out)``."""
        if self.network.task is None:
            msg = "The weights have no fine-tuned head. Load weights fine-tuned for niches, labels "
            raise ConfigError(msg + "or density.")
        return self._by_length(
            adata,
            lambda tokens: self._run(tokens, device, self.network.scores),
            batch_size,
            self._with(context).encode,
        )

    def spatial_labels(self, adata: AnnData, **options: Any) -> np.ndarray:
        """Return the class of each cell's niche, ``(n_cells,)``, or ``(n_cells, n_types)``."""
        self._needs("niche_classification", "niche_multiclass_classification")
        scores = self.predict(adata, **options)
        by_class = scores.reshape(len(scores), self.config.n_classes, -1)
        labels: np.ndarray = by_class.argmax(1)
        return labels[:, 0] if labels.shape[1] == 1 else labels

    def composition(self, adata: AnnData, **options: Any) -> np.ndarray:
        """Return how much of each cell type lies around each cell, ``(n_cells, n_types)``."""
        self._needs("niche_regression")
        return self.predict(adata, **options)

    def density(self, adata: AnnData, **options: Any) -> np.ndarray:
        """Return how many cells lie around each cell, ``(n_cells,)``."""
        self._needs("density_regression")
        return self.predict(adata, **options)[:, 0]

    def _needs(self, *tasks: str) -> None:
        if self.config.task not in tasks:
            msg = (
                f"These weights predict {self.config.task or 'nothing that they name'!r}. Load "
                f"weights fine-tuned for {' or '.join(tasks)}, or use predict() for the scores."
            )
            raise ConfigError(msg)

    def _with(self, context: Mapping[str, Any]) -> NicheformerTokenizer:
        own: NicheformerTokenizer = self.tokenizer
        fixed = {"context", "start", "max_length"} & context.keys()
        unknown = context.keys() - own.parameters().keys()
        if fixed or unknown:
            msg = (
                f"{sorted(fixed | unknown)[0]!r} cannot be set here. Use species, assay, modality, "
            )
            raise ConfigError(msg + "technology, mean_mode, tie_break or layer.")
        return own.changed(**context) if context else own

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        if how != "mean_unpadded":
            first = 0 if how == "mean_with_context" else self.config.n_dropped

            def averaged(batch: TokenBatch) -> torch.Tensor:
                return self.network.padded(batch, [depth])[0][:, first:].mean(1)

            return self._run(tokens, device, averaged)
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts = tokens.offsets[:-1] + self.tokenizer.framing
        # Each stretch from the first gene to the next cell's first gene ends in that cell's frame.
        borders = np.stack([starts, tokens.offsets[1:]], axis=1).ravel()
        padded = np.concatenate([states, np.zeros_like(states[:1])])
        sums = np.add.reduceat(padded, borders, dtype=np.float64)[::2]
        return sums / (tokens.offsets[1:] - starts)[:, None]
