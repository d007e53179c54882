"""What the models of all published families share: load, save, run by length, say what was done.

A family's own file adds what is its own: its card, how its files are read, its pooling.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import nn

from cellweave.errors import ConfigError, LicenceNotice
from cellweave.records import Embedding, Provenance
from cellweave_nn.batch import TokenBatch
from cellweave_nn.checkpoints.embedding import by_length, embed_by_length, token_blocks
from cellweave_nn.checkpoints.matching import KeyReport, fill
from cellweave_nn.checkpoints.noticing import notice_logged_values
from cellweave_nn.checkpoints.published import (
    PublishedFolder,
    is_published_folder,
    read_published,
    write_published,
)
from cellweave_nn.encoders.pooling import pool
from cellweave_nn.training.randomness import torch_seeded

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens
    from cellweave_nn.checkpoints.reconstruction import Reconstruction

__all__ = ["FamilyModel", "ReadModel"]

Compute = Callable[[TokenBatch], torch.Tensor]
Encode = Callable[["AnnData"], "Tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModel:
    """Hold what was read from published files.

    Parameters
    ----------
    config, network, tokenizer
        The parts.
    report
        What became of every published key.
    container
        How the weights were packed.
    """

    config: Any
    network: Any
    tokenizer: Any
    report: KeyReport
    container: str


class FamilyModel:
    """Hold the network, its tokenizer, and what became of the published keys.

    A family sets ``family``, ``card`` and the three types, and gives ``_looks_published``,
    ``_read`` and ``embed``. What a user must know before published weights are read, e.g. that
    their licence forbids some uses, stands in ``notice``; ``needs_counts`` is false where logged
    values give the same tokens.

    Parameters
    ----------
    config, network, tokenizer
        The parts.
    key_report
        What became of every published key.
    container
        How the weights were packed.
    """

    family: ClassVar[str]
    card: ClassVar[Mapping[str, Any]]
    notice: ClassVar[str] = ""
    needs_counts: ClassVar[bool] = True
    config_type: ClassVar[Any]
    network_type: ClassVar[Any]
    tokenizer_type: ClassVar[Any]
    _looks_published: ClassVar[Callable[..., bool]]
    _read: ClassVar[Callable[..., ReadModel]]

    def __init__(
        self,
        *,
        config: Any,
        network: Any,
        tokenizer: Any,
        key_report: KeyReport,
        container: str = "",
    ) -> None:
        self.config = config
        self.network = network.eval()
        self._tokenizer = tokenizer
        self.key_report = key_report
        self.container = container

    @property
    def tokenizer(self) -> Any:
        """Give the tokenizer on the vocabulary of the weights."""
        return self._tokenizer

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """Return the same weights behind another tokenizer, e.g. one that edits each cell."""
        return type(self)(
            config=self.config,
            network=self.network,
            tokenizer=tokenizer,
            key_report=self.key_report,
            container=self.container,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Say what was read."""
        return {"container": self.container, **self.config.to_dict()}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell whether ``path`` is of this family, as published or saved by us; runs no code."""
        path = Path(path)
        return is_published_folder(path, cls.family) or cls._looks_published(path)

    @classmethod
    def load(cls, path: str | Path, **companions: str | Path | None) -> Self:
        """Read what the authors publish, or a folder that :meth:`save` wrote, strictly.

        Parameters
        ----------
        path
            Folder as downloaded, or the file of weights in it.
        **companions
            Files of the family that are not beside the weights.
        """
        path = Path(path)
        if is_published_folder(path, cls.family):
            return cls._load_saved(path)
        cls.notify(licensed=True)
        read = cls._read(path, **companions)
        return cls(
            config=read.config,
            network=read.network,
            tokenizer=read.tokenizer,
            key_report=read.report,
            container=read.container,
        )

    @classmethod
    def notify(cls, *, licensed: bool) -> None:
        """Say what a user must know of the weights, where a licence comes with them."""
        if cls.notice and licensed:
            warnings.warn(cls.notice, LicenceNotice, stacklevel=3)

    @classmethod
    def _random(cls, config: Any, tokenizer: Any, seed: int) -> Self:
        """Build the network with random weights, the same for the same seed."""
        with torch_seeded(seed, "weights", cls.family):
            network = cls.network_type(config)
        report = KeyReport(used={}, new=tuple(network.state_dict()))
        return cls(config=config, network=network, tokenizer=tokenizer, key_report=report)

    @classmethod
    def _load_saved(cls, path: Path) -> Self:
        content = read_published(path, cls.family)
        cls.notify(licensed=bool(content.config.get("licence")))
        config = cls.config_type.from_dict(content.config)
        network = cls.network_type(config)
        return cls(
            config=config,
            network=network,
            key_report=fill(network, content.weights, source=path),
            tokenizer=cls.tokenizer_type.from_state(content.tokenizer),
            container="saved by cellweave",
        )

    @staticmethod
    def cells_of(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return ``(N, D)``, what training goes on with: the first token, or the mean of genes."""
        return pool(states, batch, "first" if "cls" in batch.special else "mean")

    @property
    def reconstructs(self) -> Literal["values", "genes"] | None:
        """Say what the weights tell of hidden genes: their values, or which they are."""
        return None

    def reconstruct(
        self,
        adata: AnnData,
        *,
        share: float = 0.15,
        batch_size: int = 32,
        device: str = "cpu",
        seed: int = 0,
    ) -> Reconstruction:
        """Hide some genes of each cell and return what the network says of them.

        Parameters
        ----------
        adata
            As for ``embed``.
        share
            Of each cell's expressed genes, hidden at random.
        batch_size, device
            Most cells at a time, and where.
        seed
            Of the choice.
        """
        from cellweave_nn.checkpoints.reconstruction import reconstruct

        kind = self.reconstructs
        if kind is None:
            msg = f"These weights of {self.family!r} have no head that fills in hidden genes. "
            raise ConfigError(msg + "Load weights with the head of pretraining.")

        def fill(part: Tokens, hidden: np.ndarray) -> np.ndarray:
            chosen = torch.from_numpy(hidden).to(device)
            return self._run(part, device, lambda batch: self.filled(batch, chosen))

        return reconstruct(
            adata, kind=kind, tokenizer=self.tokenizer, n_ids=self.config.n_ids, fill=fill,
            share=share, batch_size=self._fitting(batch_size), seed=seed,
            provenance=self._provenance(share=share, mask_seed=seed),
        )  # fmt: skip

    def _fitting(self, batch_size: int) -> int:
        """Return how many cells are filled in at a time; fewer where each takes much room."""
        return batch_size

    def filled(self, batch: TokenBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return what the network says of the ``hidden`` tokens: a value, or an id, each."""
        raise NotImplementedError

    def _likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the id of the gene with the largest score, ``(M,)``."""
        genes = torch.from_numpy(self.tokenizer.table.ids.astype(np.int64)).to(logits.device)
        return genes[logits[:, genes].argmax(1)]

    def save(self, folder: str | Path) -> None:
        """Write our model folder: JSON and safetensors, atomically, with a manifest."""
        content = PublishedFolder(
            family=self.family,
            config=self.config.to_dict(),
            weights=self.network.state_dict(),
            tokenizer=self.tokenizer.state(),
        )
        write_published(folder, content)

    @staticmethod
    def _chosen(pooling: str, *ways: str) -> str:
        """Return the way to pool; the first is the authors', which ``"auto"`` means."""
        if pooling == "auto":
            return ways[0]
        if pooling not in ways:
            msg = f"pooling={pooling!r} is unknown. Use one of {', '.join(map(repr, ways))}."
            raise ConfigError(msg)
        return pooling

    def _depth(self, layer: int) -> int:
        """Return how many blocks lie before the states that ``layer`` means."""
        depth: int = self.config.depth + layer
        if not 0 <= depth <= self.config.depth:
            msg = f"layer={layer} is none of this model's. Use 0 (last) down to "
            raise ConfigError(msg + f"{-self.config.depth} (what the first block sees).")
        return depth

    def _by_length(
        self,
        adata: AnnData,
        states: Callable[[Tokens], np.ndarray],
        batch_size: int,
        encode: Encode | None = None,
    ) -> np.ndarray:
        """Return one row a cell, in input order, cells of like length computed together."""
        if self.needs_counts:
            notice_logged_values(adata, encode or self.tokenizer.encode)
        return embed_by_length(
            adata,
            encode=encode or self.tokenizer.encode,
            states=states,
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )

    def _blocks_of_tokens(
        self, adata: AnnData, batch_size: int, encode: Encode | None = None
    ) -> Iterator[Tokens]:
        return token_blocks(
            adata,
            encode=encode or self.tokenizer.encode,
            batch_size=batch_size,
            framing=self.tokenizer.framing,
        )

    def _run(self, tokens: Tokens, device: str, compute: Compute) -> np.ndarray:
        self.network.to(device)
        with torch.inference_mode():
            found: np.ndarray = compute(self._batch(tokens, device)).float().cpu().numpy()
        return found

    def _batch(self, tokens: Tokens, device: str) -> TokenBatch:
        return TokenBatch.from_tokens(tokens, vocabulary=self.tokenizer.vocabulary, device=device)

    def _mean_by_gene(
        self,
        adata: AnnData,
        *,
        batch_size: int,
        device: str,
        layer: int,
        encode: Encode | None = None,
        **parameters: Any,
    ) -> Embedding:
        """Return each gene's mean state over the cells that have it."""
        n_ids, depth = self.config.n_ids, self._depth(layer)
        sums, counts = np.zeros((n_ids, self.config.width)), np.zeros(n_ids)
        for tokens in self._blocks_of_tokens(adata, batch_size, encode):
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
            provenance=self._provenance(layer=layer, **parameters),
        )

    def _rows_of_genes(self, rows: nn.Module, device: str) -> Embedding:
        """Return what the ids of genes alone become, the same for all data."""
        table = self.tokenizer.table
        ids = torch.from_numpy(table.ids.astype(np.int64)).to(device)
        with torch.inference_mode():
            values = rows.to(device)(ids).float().cpu().numpy()
        provenance = self._provenance(what="genes")
        return Embedding(values=values, names=table.features, provenance=provenance)

    def _attention(
        self, adata: AnnData, device: str, encode: Encode | None = None
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        for tokens in self._blocks_of_tokens(adata, 1, encode):
            for i in range(tokens.n_cells):
                part = tokens.take([i])
                with torch.inference_mode():
                    found = self.network.to(device).attention(self._batch(part, device))
                yield str(part.obs_names[0]), part.ids, tuple(w[0].cpu().numpy() for w in found)

    def _embedding(self, adata: AnnData, values: np.ndarray, **parameters: Any) -> Embedding:
        """Return the record of one vector a cell."""
        names = np.asarray(adata.obs_names, dtype=str)
        return Embedding(values=values, names=names, provenance=self._provenance(**parameters))

    def _provenance(self, *, seed: int | None = None, **parameters: Any) -> Provenance:
        package = import_module(type(self).__module__.partition(".")[0])
        sizes = {k: v for k, v in self.config.to_dict().items() if k in ("depth", "width", "n_ids")}
        return Provenance(
            component=self.family,
            version=str(getattr(package, "__version__", "unknown")),
            parameters={**sizes, **parameters},
            seed=seed,
            versions={"torch": torch.__version__, "numpy": np.__version__},
        )
