"""Geneformer as a model: read, embed as its authors do, look at genes and attention, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

import cellweave_geneformer
from cellweave.errors import ConfigError
from cellweave.records import Embedding, Provenance, Tokens
from cellweave_geneformer.checkpoint import looks_published, read_geneformer
from cellweave_geneformer.config import GeneformerConfig
from cellweave_geneformer.network import GeneformerNetwork
from cellweave_geneformer.tokenizer import GeneformerTokenizer
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

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["GeneformerModel"]

Pooling = Literal["auto", "cls", "cell", "mean"]


class GeneformerModel:
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

    def __init__(
        self,
        *,
        config: GeneformerConfig,
        network: GeneformerNetwork,
        tokenizer: GeneformerTokenizer,
        key_report: KeyReport,
        container: str = "",
    ) -> None:
        self.config = config
        self.network = network.eval()
        self._tokenizer = tokenizer
        self.key_report = key_report
        self.container = container

    @property
    def tokenizer(self) -> GeneformerTokenizer:
        """Give the tokenizer on the dictionaries of the weights."""
        return self._tokenizer

    @property
    def facts(self) -> dict[str, Any]:
        """Say what was read."""
        sizes = self.config.to_dict()
        return {"version": self.tokenizer.version, "container": self.container, **sizes}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell whether ``path`` is Geneformer, as published or saved by us; runs no code."""
        path = Path(path)
        return is_published_folder(path, cls.family) or looks_published(path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        base: str | Path | None = None,
        dictionaries: str | Path | None = None,
    ) -> Self:
        """Read a published folder, or one that :meth:`save` wrote, strictly.

        Parameters
        ----------
        path
            Folder as downloaded, or a file of weights in it.
        base
            Folder of the base model, when ``path`` holds LoRA adapters only.
        dictionaries
            Folder of token dictionary and medians, when they are not beside the weights.
        """
        path = Path(path)
        if is_published_folder(path, cls.family):
            return cls._load_saved(path)
        read = read_geneformer(path, base=base, dictionaries=dictionaries)
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
        with torch_seeded(seed, "weights", cls.family):
            network = GeneformerNetwork(config)
        new = tuple(network.state_dict())
        report = KeyReport(used={}, new=new)
        return cls(config=config, network=network, tokenizer=tokenizer, key_report=report)

    @classmethod
    def _load_saved(cls, path: Path) -> Self:
        content = read_published(path, cls.family)
        config = GeneformerConfig.from_dict(content.config)
        network = GeneformerNetwork(config)
        report = fill(network, content.weights, source=path)
        tokenizer = GeneformerTokenizer.from_state(content.tokenizer)
        return cls(
            config=config,
            network=network,
            tokenizer=tokenizer,
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
        values = embed_by_length(
            adata,
            encode=self.tokenizer.encode,
            states=lambda tokens: self._pooled(tokens, how, depth, device),
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )
        names = np.asarray(adata.obs_names, dtype=str)
        return Embedding(values=values, names=names, provenance=self._provenance(how, layer))

    def gene_embeddings(
        self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu", layer: int = -1
    ) -> Embedding:
        """Return each gene's mean state over the cells that have it (the authors' "gene" mode)."""
        n_ids = self.config.n_ids
        sums, counts = np.zeros((n_ids, self.config.width)), np.zeros(n_ids)
        depth = self._depth(layer)
        for tokens in self._blocks_of_tokens(adata, batch_size):
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
            provenance=self._provenance("gene", layer),
        )

    def attention(
        self, adata: AnnData, *, device: str = "cpu"
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        for tokens in self._blocks_of_tokens(adata, 1):
            for i in range(tokens.n_cells):
                part = tokens.take([i])
                with torch.inference_mode():
                    found = self.network.to(device).attention(self._batch(part, device))
                yield str(part.obs_names[0]), part.ids, tuple(w[0].cpu().numpy() for w in found)

    def predict(self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu") -> np.ndarray:
        """Return the scores of a fine-tuned classifier of cells, ``(n_cells, n_labels)``."""
        if self.config.head != "cell":
            msg = f"The weights have the head {self.config.head!r}, not a classifier of cells. "
            raise ConfigError(msg + "Load weights that were fine-tuned for cells.")

        def scores(batch: TokenBatch) -> torch.Tensor:
            return self.network.classes(self.network(batch), batch)

        return embed_by_length(
            adata,
            encode=self.tokenizer.encode,
            states=lambda tokens: self._run(tokens, device, scores),
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )

    def _pooling(self, pooling: Pooling) -> str:
        framed = self.tokenizer.framing > 0
        how = ("cls" if framed else "cell") if pooling == "auto" else pooling
        if how not in ("cls", "cell", "mean") or (how == "cls" and not framed):
            msg = f"pooling={pooling!r} does not go with {self.tokenizer.version}. Use 'cell' or "
            raise ConfigError(msg + ("'mean', or 'cls'." if framed else "'mean'."))
        return how

    def _depth(self, layer: int) -> int:
        depth = self.config.depth + layer
        if not 0 <= depth <= self.config.depth:
            msg = f"layer={layer} is none of this model's. Use 0 (last) down to "
            raise ConfigError(msg + f"{-self.config.depth} (what the first block sees).")
        return depth

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
        if how == "cls":
            return states[starts]
        skip = 1 if how == "cell" and self.tokenizer.framing else 0
        # A row after the last, so that the end of the last cell is a place too.
        padded = np.concatenate([states, np.zeros_like(states[:1])])
        borders = np.stack([starts + skip, ends - skip], axis=1).ravel()
        sums = np.add.reduceat(padded, borders, dtype=np.float64)[::2]
        return sums / (ends - starts - 2 * skip)[:, None]

    def _run(
        self, tokens: Tokens, device: str, compute: Callable[[TokenBatch], torch.Tensor]
    ) -> np.ndarray:
        self.network.to(device)
        with torch.inference_mode():
            return compute(self._batch(tokens, device)).float().cpu().numpy()

    def _batch(self, tokens: Tokens, device: str) -> TokenBatch:
        return TokenBatch.from_tokens(tokens, vocabulary=self.tokenizer.vocabulary, device=device)

    def _blocks_of_tokens(self, adata: AnnData, batch_size: int) -> Iterator[Tokens]:
        return token_blocks(
            adata,
            encode=self.tokenizer.encode,
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )

    def _provenance(self, pooling: str, layer: int) -> Provenance:
        return Provenance(
            component=self.family,
            version=cellweave_geneformer.__version__,
            parameters={
                "pooling": pooling,
                "layer": layer,
                "vocabulary": self.tokenizer.version,
                "depth": self.config.depth,
                "width": self.config.width,
            },
            versions={"torch": torch.__version__, "numpy": np.__version__},
        )
