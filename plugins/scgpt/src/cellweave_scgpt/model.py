"""scGPT as a model: read, embed as its authors do, look at genes and attention, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Provenance, Tokens
from cellweave_nn.checkpoints import FamilyModel
from cellweave_scgpt.checkpoint import looks_published, read_scgpt
from cellweave_scgpt.config import ScgptConfig
from cellweave_scgpt.network import ScgptNetwork
from cellweave_scgpt.tokenizer import ScgptTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch
    from cellweave_scgpt.generator import PerturbationGenerator

__all__ = ["ScgptModel"]

Pooling = Literal["auto", "cls", "mean", "weighted"]
_DOMAIN = "domain"
_MASK_VALUE = -1.0  # published: the value of a token whose own is asked for


class ScgptModel(FamilyModel):
    """Embed cells with scGPT.

    ``load`` takes one companion: ``vocabulary``, the path of ``vocab.json`` when it is not beside
    the weights.
    """

    family: ClassVar[str] = "scgpt"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": (
            "whole-human",
            "continual-pretrained",
            "brain",
            "blood",
            "heart",
            "lung",
            "kidney",
            "pan-cancer",
        ),
        "published": "https://github.com/bowang-lab/scGPT (links in its README)",
        "code licence": "MIT",
        "weights licence": "MIT",
        "can": (
            "cell and gene embeddings",
            "attention",
            "values from tokens and from the cell",
            "labels of fine-tuned classifiers",
        ),
        "verified": (
            "outputs of the authors' own network on random weights at a small size; torch's "
            "TransformerEncoder; never on the trained weights themselves"
        ),
    }

    config_type = ScgptConfig
    network_type = ScgptNetwork
    tokenizer_type = ScgptTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_scgpt)
    config: ScgptConfig
    network: ScgptNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 512,
        depth: int = 12,
        heads: int = 8,
        hidden: int = 512,
        max_length: int = 1200,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, heads, hidden
            Sizes; those of the whole-human model when not given.
        max_length
            Most tokens of a cell.
        seed
            Of the weights.
        """
        tokenizer = ScgptTokenizer(max_length=max_length).fit(adata)
        config = ScgptConfig(
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            max_length=max_length,
            expression=True,
            conditioned=True,
        )
        return cls._random(config, tokenizer, seed)

    @staticmethod
    def new_perturbation_generator(genes: np.ndarray, **parameters: Any) -> PerturbationGenerator:
        """Return an untrained generator of perturbed cells; see :class:`PerturbationGenerator`."""
        from cellweave_scgpt.generator import PerturbationGenerator

        return PerturbationGenerator(genes, **parameters)

    def perturbation_generator(self, genes: np.ndarray, **parameters: Any) -> PerturbationGenerator:
        """Return a generator of perturbed cells that starts from these weights."""
        return self.new_perturbation_generator(genes, model=self, **parameters)

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        pooling: Pooling = "auto",
        layer: int = 0,
        normalise: bool = True,
        domain_key: str | None = None,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts with human gene symbols.
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"cls"`` (the authors' default, and ``"auto"``), ``"mean"`` over a cell's tokens, or
            ``"weighted"`` by their values.
        layer
            0 (the authors'): after the last block; −1: before it; and so on.
        normalise
            Divide by the length of the vector, as the authors' zero-shot embedding does.
        domain_key
            Column of ``obs`` with the number of the domain, for weights with a norm a domain.
        """
        how = self._chosen(pooling, "cls", "mean", "weighted")
        depth = self._depth(layer)
        values = self._by_length(
            adata,
            lambda tokens: self._pooled(tokens, how, depth, device),
            batch_size,
            self._encoder(domain_key),
        )
        if normalise:
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            values = values / np.maximum(norms, np.finfo(np.float32).tiny)
        return self._embedding(adata, values, pooling=how, layer=layer, normalise=normalise)

    def gene_embeddings(self, *, device: str = "cpu") -> Embedding:
        """Return the rows of the gene encoder, the same for all data (the authors' way)."""
        return self._rows_of_genes(self.network.genes, device)

    def contextual_gene_embeddings(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        layer: int = 0,
        domain_key: str | None = None,
    ) -> Embedding:
        """Return each gene's mean state over the cells that have it."""
        return self._mean_by_gene(
            adata,
            batch_size=batch_size,
            device=device,
            layer=layer,
            encode=self._encoder(domain_key),
            what="genes in context",
        )

    def attention(
        self, adata: AnnData, *, device: str = "cpu", domain_key: str | None = None
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        return self._attention(adata, device, self._encoder(domain_key))

    def predict(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        domain_key: str | None = None,
    ) -> np.ndarray:
        """Return the scores of a fine-tuned classifier of cells, ``(n_cells, n_labels)``."""
        label = self.network.label
        if label is None:
            msg = "The weights have no classifier of cells. Load weights fine-tuned for labels."
            raise ConfigError(msg)

        def scores(batch: TokenBatch) -> torch.Tensor:
            found: torch.Tensor = label(self.network.cells(self.network(batch), batch))
            return found

        return self._by_length(
            adata,
            lambda tokens: self._run(tokens, device, scores),
            batch_size,
            self._encoder(domain_key),
        )

    @property
    def reconstructs(self) -> Literal["values"] | None:
        """Say that weights with the head of expression tell the bins of hidden genes."""
        told = self.network.expression is not None and self.config.values == "continuous"
        return "values" if told and self.config.norm != "domain" else None

    def filled(self, batch: TokenBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return what the network says of the ``hidden`` tokens."""
        assert batch.values is not None
        assert self.network.expression is not None
        masked = batch.with_(values=batch.values.masked_fill(hidden, _MASK_VALUE))
        found: torch.Tensor = self.network.expression(self.network(masked)[hidden])
        return found

    def _encoder(self, domain_key: str | None) -> Callable[[AnnData], Tokens]:
        """Return the tokenizer, with the domain of each cell where the weights need it."""
        if self.config.norm != "domain":
            return self.tokenizer.encode
        return lambda cells: _with_domain(
            self.tokenizer.encode(cells), cells, domain_key, self.config.n_domains
        )

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        if how == "cls":
            return self._run(tokens, device, lambda batch: self.network.first(batch, depth=depth))
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts = tokens.offsets[:-1]
        if how == "weighted":
            assert tokens.values is not None
            return np.add.reduceat(states * tokens.values[:, None], starts, dtype=np.float64)
        return np.add.reduceat(states, starts, dtype=np.float64) / tokens.lengths[:, None]

    def _provenance(self, *, seed: int | None = None, **parameters: Any) -> Provenance:
        return super()._provenance(
            seed=self.tokenizer.bins.seed if seed is None else seed, **parameters
        )


def _with_domain(tokens: Tokens, cells: AnnData, key: str | None, n_domains: int) -> Tokens:
    codes = None if key is None or key not in cells.obs else cells.obs[key].to_numpy()
    whole = codes is not None and np.issubdtype(codes.dtype, np.integer)
    if codes is None or not whole or codes.min() < 0 or codes.max() >= n_domains:
        msg = (
            f"These weights have a norm for each of {n_domains} domains. Give domain_key, a column "
            f"of obs with whole numbers 0 to {n_domains - 1}; got {key!r}."
        )
        raise ConfigError(msg)
    return replace(tokens, context={**tokens.context, _DOMAIN: codes.astype(np.int64)})
