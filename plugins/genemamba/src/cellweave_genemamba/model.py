"""GeneMamba as a model: read, embed as its authors do, look at genes, predict labels, save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Tokens
from cellweave_genemamba.checkpoint import looks_published, read_genemamba
from cellweave_genemamba.config import Fuse, GenemambaConfig
from cellweave_genemamba.network import GenemambaNetwork
from cellweave_genemamba.tokenizer import GenemambaTokenizer
from cellweave_nn.checkpoints import FamilyModel

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["GenemambaModel"]

Pooling = Literal["auto", "mean", "first", "mean_padded"]
Unexpressed = Literal["drop", "append"]
_POOLINGS = ("mean", "first", "mean_padded")


class GenemambaModel(FamilyModel):
    """Embed cells with GeneMamba.

    ``load`` takes three companions: ``mode``, how readings are fused when no ``config.json`` says
    it; ``tokenizer``, the path of ``tokenizer.json``; and ``medians``, Geneformer's dictionary of
    medians, to rank as the pretraining data were.
    """

    family: ClassVar[str] = "genemamba"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("24l-512d", "24l-768d", "48l-512d", "48l-768d"),
        "published": "https://huggingface.co/mineself2016/GeneMamba",
        "code licence": "Apache-2.0 (model card)",
        "weights licence": "Apache-2.0 (model card)",
        "can": (
            "cell and gene embeddings",
            "scores of the next gene",
            "labels of fine-tuned classifiers",
        ),
        "verified": (
            "a plain retelling in float64, token by token, on random weights, also at the "
            "published size; never on the trained weights themselves"
        ),
    }

    needs_counts = False  # a cell's genes are ranked by their values alone
    config_type = GenemambaConfig
    network_type = GenemambaNetwork
    tokenizer_type = GenemambaTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_genemamba)
    config: GenemambaConfig
    network: GenemambaNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 512,
        depth: int = 24,
        head_width: int = 64,
        state: int = 64,
        fuse: Fuse = "mean",
        max_length: int = 2048,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, head_width, state
            Sizes; the published ones when not given.
        fuse
            How readings are fused: ``"mean"``, ``"sum"``, ``"concat"`` or ``"gate"``.
        max_length
            Most tokens of a cell.
        seed
            Of the weights.
        """
        tokenizer = GenemambaTokenizer(max_length=max_length).fit(adata)
        if 2 * width % head_width:
            msg = f"Twice the width {width} does not divide by head_width {head_width}. Change one."
            raise ConfigError(msg)
        config = GenemambaConfig(
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=2 * width // head_width,
            head_width=head_width,
            state=state,
            fuse=fuse,
            max_length=max_length,
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
        unexpressed: Unexpressed = "drop",
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Expression with Ensembl ids, or with symbols where ``symbol2id.pkl`` came along.
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"mean"`` over a cell's tokens (``"auto"``); ``"first"``: the state of the first token,
            as the authors' second classifier reads it; ``"mean_padded"``: as their scripts do
            without a mask, cells padded to full length, turned round and averaged with padding.
            Cells that fill the full length are the same either way.
        layer
            0: after the last block and the norm; −1: before the last block; and so on.
        unexpressed
            ``"append"`` genes that are not expressed behind those that are, as the authors' scripts
            do; see :class:`GenemambaTokenizer`.
        """
        how = self._chosen(pooling, *_POOLINGS)
        depth = self._depth(layer)
        values = self._by_length(
            adata,
            lambda tokens: self._pooled(tokens, how, depth, device),
            batch_size,
            self._with(unexpressed).encode,
        )
        return self._embedding(
            adata, values, pooling=how, layer=layer, unexpressed=unexpressed, fuse=self.config.fuse
        )

    def gene_embeddings(self, *, device: str = "cpu") -> Embedding:
        """Return the rows of the embedding, the same for all data (the authors' way)."""
        return self._rows_of_genes(self.network.ids, device)

    def contextual_gene_embeddings(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        layer: int = 0,
        unexpressed: Unexpressed = "drop",
    ) -> Embedding:
        """Return each gene's mean state over the cells that have it."""
        return self._mean_by_gene(
            adata,
            batch_size=batch_size,
            device=device,
            layer=layer,
            encode=self._with(unexpressed).encode,
            what="genes in context",
        )

    def predict(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        pooling: Literal["first", "mean"] = "first",
        unexpressed: Unexpressed = "drop",
    ) -> np.ndarray:
        """Return the scores of a fine-tuned classifier of cells, ``(n_cells, n_labels)``.

        Parameters
        ----------
        adata, batch_size, device, unexpressed
            As for :meth:`embed`.
        pooling
            What the classifier was trained on: ``"first"`` (the state of ``[CLS]``) or ``"mean"``.
        """
        classifier = self.network.classifier
        if classifier is None:
            msg = "The weights have no classifier of cells. Load weights fine-tuned for labels."
            raise ConfigError(msg)
        if pooling not in ("first", "mean"):
            msg = f"pooling={pooling!r} is unknown. Use 'first' or 'mean'."
            raise ConfigError(msg)

        def scores(tokens: Tokens) -> np.ndarray:
            cells = self._pooled(tokens, pooling, self.config.depth, device)
            with torch.inference_mode():
                found = classifier(torch.from_numpy(cells.astype(np.float32)).to(device))
            return np.asarray(found.cpu().numpy())

        return self._by_length(adata, scores, batch_size, self._with(unexpressed).encode)

    def _with(self, unexpressed: Unexpressed) -> GenemambaTokenizer:
        own: GenemambaTokenizer = self.tokenizer
        same = unexpressed == own.unexpressed
        return own if same else own.changed(unexpressed=unexpressed)

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        if how == "mean_padded":
            pad = self.tokenizer.vocabulary.special_id("pad")

            def averaged(batch: TokenBatch) -> torch.Tensor:
                return self.network.padded(batch, pad, depth=depth).mean(1)

            return self._run(tokens, device, averaged)
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts = tokens.offsets[:-1]
        if how == "first":
            return states[starts]
        return np.add.reduceat(states, starts, dtype=np.float64) / tokens.lengths[:, None]
