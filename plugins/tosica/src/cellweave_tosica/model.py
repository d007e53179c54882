"""TOSICA as a model: read, embed, say which pathways decided, predict labels, save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Tokens
from cellweave_nn.checkpoints import FamilyModel
from cellweave_rna.tokenizers import GeneSetTokenizer
from cellweave_tosica.checkpoint import looks_published, read_tosica
from cellweave_tosica.config import TosicaConfig
from cellweave_tosica.network import TosicaNetwork
from cellweave_tosica.tokenizer import TosicaTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["TosicaModel"]

Pooling = Literal["auto", "cls", "mean"]
_UNKNOWN = "Unknown"


class TosicaModel(FamilyModel):
    """Embed and annotate cells with TOSICA.

    ``load`` takes two companions: ``genes``, the path of a list of the training data's genes when
    it is not beside the weights, and ``heads``, the number of attention heads when it is not 4.
    """

    family: ClassVar[str] = "tosica"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("projects that TOSICA saves; there is no foundation checkpoint",),
        "published": "https://github.com/JackieHanLab/TOSICA",
        "code licence": "MIT",
        "weights licence": "of whoever trained them",
        "can": ("cell embeddings", "attention over pathways", "labels", "weights of genes"),
        "verified": (
            "latent, scores and attention of the authors' own network on random weights at full "
            "width; a plain float64 re-telling"
        ),
    }

    config_type = TosicaConfig
    network_type = TosicaNetwork
    tokenizer_type = TosicaTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_tosica)
    config: TosicaConfig
    network: TosicaNetwork

    @property
    def facts(self) -> dict[str, Any]:
        """Say what was read; pathways are counted."""
        return {**super().facts, "pathways": len(self.config.pathways)}

    @property
    def pathways(self) -> np.ndarray:
        """Give the names of the pathways, in the order of tokens."""
        return np.asarray(self.config.pathways, dtype=str)

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        gmt: str | Path,
        labels: Sequence[str] = (),
        width: int = 48,
        depth: int = 2,
        heads: int = 4,
        min_genes: int = 5,
        max_sets: int = 300,
        layout: Literal["aligned", "upstream"] = "aligned",
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts of the genes to train on.
        gmt
            Path of a GMT file of gene sets.
        labels
            Names of the classes; none builds no classifier.
        width, depth, heads
            Sizes; the published ones when not given.
        min_genes, max_sets
            Sets with fewer measured genes are left out, and the largest are kept; one that reads
            every gene is added.
        layout
            ``"aligned"``: a token is its pathway; ``"upstream"`` as the published code has it.
        seed
            Of the weights.
        """
        tokenizer = TosicaTokenizer().fit(adata)
        sets = GeneSetTokenizer(gmt=str(gmt), min_genes=min_genes, max_sets=max_sets).fit(adata)
        config = TosicaConfig(
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=heads,
            hidden=4 * width,
            pathways=tuple(str(name) for name, _ in sets.table.facts["sets"]),
            labels=tuple(labels),
            layout=layout,
        )
        made = cls._random(config, tokenizer, seed)
        mask = torch.from_numpy(sets.membership().T.toarray() > 0)
        made.network.tokens.mask.copy_(mask)
        return made

    @staticmethod
    def cells_of(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return the state of the first row, which stands for the cell."""
        return states[:, 0]

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        pooling: Pooling = "auto",
        layer: int = 0,
        normalised: bool = False,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts of all genes, or log-normalised values (see ``normalised``).
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"cls"`` (the authors' latent, and ``"auto"``), or ``"mean"`` over the pathways.
        layer
            0 (the authors'): after the last block and norm; −1: before the last block; and so on.
        normalised
            Take ``X`` as it is: normalised to 10 000 and log1p, as the authors' recipe does.
        """
        how = self._chosen(pooling, "cls", "mean")
        depth = self._depth(layer)

        def pooled(batch: TokenBatch) -> torch.Tensor:
            if how == "cls":
                return self.network.first(batch, depth=depth)
            return self.network(batch, depth=depth)[:, 1:].mean(1)

        values = self._cells(adata, pooled, batch_size, device, normalised)
        return self._embedding(adata, values, pooling=how, layer=layer, normalised=normalised)

    def attention(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        normalised: bool = False,
    ) -> Embedding:
        """Return how much each pathway decided a cell's state, ``(n_cells, n_pathways)``.

        The attention rollout of the authors; columns stand in the order of ``pathways``. With
        ``layout="upstream"`` (published weights) a token mixes many pathways: see the docs.
        """
        values = self._cells(adata, self.network.rollout, batch_size, device, normalised)
        return self._embedding(adata, values, what="attention", normalised=normalised)

    def gene_embeddings(self) -> Embedding:
        """Return the largest absolute weight of each gene in each pathway that reads it."""
        layer = self.network.tokens
        rows = layer.weight.detach().cpu().abs().view(len(layer.mask), layer.width, -1)
        values = (rows.amax(1) * layer.mask.cpu()).T.contiguous().numpy()
        provenance = self._provenance(what="genes")
        return Embedding(values=values, names=self.tokenizer.table.features, provenance=provenance)

    def predict(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        normalised: bool = False,
    ) -> np.ndarray:
        """Return the scores of the labels, ``(n_cells, n_labels)``, in the order of ``labels``."""
        if self.network.label is None:
            msg = "The model has no classifier. Load a trained project, or give `labels`."
            raise ConfigError(msg)

        def scores(batch: TokenBatch) -> torch.Tensor:
            return self.network.classes(self.network(batch))

        return self._cells(adata, scores, batch_size, device, normalised)

    def annotate(
        self, adata: AnnData, *, cutoff: float = 0.1, **how: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a label a cell and its probability; ``"Unknown"`` below ``cutoff``.

        Parameters
        ----------
        adata
            As for :meth:`embed`.
        cutoff
            Least probability; 0.1 as published.
        **how
            ``batch_size``, ``device``, ``normalised``.
        """
        scores = self.predict(adata, **how).astype(np.float64)
        chances = np.exp(scores - scores.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        best = chances.argmax(1)
        confidence = chances[np.arange(len(best)), best]
        labels = np.asarray(self.config.labels, dtype=object)[best]
        return np.where(confidence >= cutoff, labels, _UNKNOWN).astype(str), confidence

    def _cells(
        self,
        adata: AnnData,
        compute: Callable[[TokenBatch], torch.Tensor],
        batch_size: int,
        device: str,
        normalised: bool,
    ) -> np.ndarray:
        tokenizer = self.tokenizer.as_given() if normalised else self.tokenizer

        def states(tokens: Tokens) -> np.ndarray:
            return self._run(tokens, device, compute)

        return self._by_length(adata, states, batch_size, tokenizer.encode)
