"""scGPT as a model: read, embed as its authors do, look at genes and attention, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

import cellweave_scgpt
from cellweave.errors import ConfigError
from cellweave.records import Embedding, Provenance, Tokens
from cellweave_nn.batch import TokenBatch
from cellweave_nn.checkpoints import (
    KeyReport,
    PublishedFolder,
    embed_by_length,
    fill,
    is_published_folder,
    read_published,
    write_published,
)
from cellweave_nn.checkpoints.embedding import by_length, token_blocks
from cellweave_nn.training.randomness import torch_seeded
from cellweave_scgpt.checkpoint import looks_published, read_scgpt
from cellweave_scgpt.config import ScgptConfig
from cellweave_scgpt.network import ScgptNetwork
from cellweave_scgpt.tokenizer import ScgptTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ScgptModel"]

Pooling = Literal["auto", "cls", "mean", "weighted"]
_DOMAIN = "domain"


class ScgptModel:
    """Hold the network, its tokenizer, and what became of the published keys.

    Parameters
    ----------
    config, network, tokenizer
        The parts.
    key_report
        What became of every published key.
    container
        How the weights were packed.
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

    def __init__(
        self,
        *,
        config: ScgptConfig,
        network: ScgptNetwork,
        tokenizer: ScgptTokenizer,
        key_report: KeyReport,
        container: str = "",
    ) -> None:
        self.config = config
        self.network = network.eval()
        self._tokenizer = tokenizer
        self.key_report = key_report
        self.container = container

    @property
    def tokenizer(self) -> ScgptTokenizer:
        """Give the tokenizer on the vocabulary of the weights."""
        return self._tokenizer

    @property
    def facts(self) -> dict[str, Any]:
        """Say what was read."""
        return {"container": self.container, **self.config.to_dict()}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell whether ``path`` is scGPT, as published or saved by us; runs no code."""
        path = Path(path)
        return is_published_folder(path, cls.family) or looks_published(path)

    @classmethod
    def load(cls, path: str | Path, *, vocabulary: str | Path | None = None) -> Self:
        """Read a published folder, or one that :meth:`save` wrote, strictly.

        Parameters
        ----------
        path
            Folder as downloaded, or the file of weights in it.
        vocabulary
            ``vocab.json``, when it is not beside the weights.
        """
        path = Path(path)
        if is_published_folder(path, cls.family):
            return cls._load_saved(path)
        read = read_scgpt(path, vocabulary=vocabulary)
        return cls(
            config=read.config,
            network=read.network,
            tokenizer=read.tokenizer,
            key_report=read.report,
            container=read.container,
        )

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
        with torch_seeded(seed, "weights", cls.family):
            network = ScgptNetwork(config)
        report = KeyReport(used={}, new=tuple(network.state_dict()))
        return cls(config=config, network=network, tokenizer=tokenizer, key_report=report)

    @classmethod
    def _load_saved(cls, path: Path) -> Self:
        content = read_published(path, cls.family)
        config = ScgptConfig.from_dict(content.config)
        network = ScgptNetwork(config)
        report = fill(network, content.weights, source=path)
        return cls(
            config=config,
            network=network,
            tokenizer=ScgptTokenizer.from_state(content.tokenizer),
            key_report=report,
            container="saved by cellweave",
        )

    def save(self, folder: str | Path) -> None:
        """Write our model folder: JSON and safetensors, atomically, with a manifest."""
        content = PublishedFolder(
            family=self.family,
            config=self.config.to_dict(),
            weights=self.network.state_dict(),
            tokenizer=self.tokenizer.state(),
        )
        write_published(folder, content)

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
        how = "cls" if pooling == "auto" else pooling
        if how not in ("cls", "mean", "weighted"):
            msg = f"pooling={pooling!r} is unknown. Use 'cls', 'mean' or 'weighted'."
            raise ConfigError(msg)
        depth = self._depth(layer)
        values = embed_by_length(
            adata,
            encode=self._encoder(domain_key),
            states=lambda tokens: self._pooled(tokens, how, depth, device),
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )
        if normalise:
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            values = values / np.maximum(norms, np.finfo(np.float32).tiny)
        return Embedding(
            values=values,
            names=np.asarray(adata.obs_names, dtype=str),
            provenance=self._provenance(pooling=how, layer=layer, normalise=normalise),
        )

    def gene_embeddings(self, *, device: str = "cpu") -> Embedding:
        """Return the rows of the gene encoder, the same for all data (the authors' way)."""
        table = self.tokenizer.table
        ids = torch.from_numpy(table.ids.astype(np.int64)).to(device)
        with torch.inference_mode():
            values = self.network.to(device).genes(ids).float().cpu().numpy()
        provenance = self._provenance(what="genes")
        return Embedding(values=values, names=table.features, provenance=provenance)

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
        n_ids, depth = self.config.n_ids, self._depth(layer)
        sums, counts = np.zeros((n_ids, self.config.width)), np.zeros(n_ids)
        for tokens in self._blocks_of_tokens(adata, batch_size, domain_key):
            for rows in by_length(tokens, batch_size):
                part = tokens.take(rows)
                states = self._run(part, device, lambda b: self.network(b, depth=depth))
                np.add.at(sums, part.ids, states)
                np.add.at(counts, part.ids, 1)
        table = self.tokenizer.table
        seen = counts[table.ids] > 0
        ids = table.ids[seen]
        return Embedding(
            values=(sums[ids] / counts[ids, None]).astype(np.float32),
            names=table.features[seen],
            provenance=self._provenance(what="genes in context", layer=layer),
        )

    def attention(
        self, adata: AnnData, *, device: str = "cpu", domain_key: str | None = None
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        for tokens in self._blocks_of_tokens(adata, 1, domain_key):
            for i in range(tokens.n_cells):
                part = tokens.take([i])
                with torch.inference_mode():
                    found = self.network.to(device).attention(self._batch(part, device))
                yield str(part.obs_names[0]), part.ids, tuple(w[0].cpu().numpy() for w in found)

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

        return embed_by_length(
            adata,
            encode=self._encoder(domain_key),
            states=lambda tokens: self._run(tokens, device, scores),
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )

    def _encoder(self, domain_key: str | None) -> Callable[[AnnData], Tokens]:
        """Return the tokenizer, with the domain of each cell where the weights need it."""
        if self.config.norm != "domain":
            return self.tokenizer.encode
        return lambda cells: _with_domain(
            self.tokenizer.encode(cells), cells, domain_key, self.config.n_domains
        )

    def _depth(self, layer: int) -> int:
        depth = self.config.depth + layer
        if not 0 <= depth <= self.config.depth:
            msg = f"layer={layer} is none of this model's. Use 0 (last) down to "
            raise ConfigError(msg + f"{-self.config.depth} (what the first block sees).")
        return depth

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts = tokens.offsets[:-1]
        if how == "cls":
            return states[starts]
        if how == "weighted":
            assert tokens.values is not None
            return np.add.reduceat(states * tokens.values[:, None], starts, dtype=np.float64)
        return np.add.reduceat(states, starts, dtype=np.float64) / tokens.lengths[:, None]

    def _run(
        self, tokens: Tokens, device: str, compute: Callable[[TokenBatch], torch.Tensor]
    ) -> np.ndarray:
        self.network.to(device)
        with torch.inference_mode():
            return compute(self._batch(tokens, device)).float().cpu().numpy()

    def _batch(self, tokens: Tokens, device: str) -> TokenBatch:
        return TokenBatch.from_tokens(tokens, vocabulary=self.tokenizer.vocabulary, device=device)

    def _blocks_of_tokens(
        self, adata: AnnData, batch_size: int, domain_key: str | None
    ) -> Iterator[Tokens]:
        return token_blocks(
            adata,
            encode=self._encoder(domain_key),
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )

    def _provenance(self, **parameters: Any) -> Provenance:
        return Provenance(
            component=self.family,
            version=cellweave_scgpt.__version__,
            parameters={
                "depth": self.config.depth,
                "width": self.config.width,
                "n_ids": self.config.n_ids,
                **parameters,
            },
            seed=self.tokenizer.bins.seed,
            versions={"torch": torch.__version__, "numpy": np.__version__},
        )


def _with_domain(tokens: Tokens, cells: AnnData, key: str | None, n_domains: int) -> Tokens:
    from dataclasses import replace

    codes = None if key is None or key not in cells.obs else cells.obs[key].to_numpy()
    whole = codes is not None and np.issubdtype(codes.dtype, np.integer)
    if codes is None or not whole or codes.min() < 0 or codes.max() >= n_domains:
        msg = (
            f"These weights have a norm for each of {n_domains} domains. Give domain_key, a column "
            f"of obs with whole numbers 0 to {n_domains - 1}; got {key!r}."
        )
        raise ConfigError(msg)
    return replace(tokens, context={**tokens.context, _DOMAIN: codes.astype(np.int64)})
