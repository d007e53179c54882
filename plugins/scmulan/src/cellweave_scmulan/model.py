"""scMulan as a model: read, embed and annotate as its authors do, look at genes, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Tokens
from cellweave_nn.checkpoints import FamilyModel
from cellweave_scmulan.checkpoint import looks_published, read_scmulan
from cellweave_scmulan.config import ScmulanConfig
from cellweave_scmulan.network import ScmulanNetwork
from cellweave_scmulan.tokenizer import STOP, TASK, ScmulanTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["CellTypes", "ScmulanModel"]

Pooling = Literal["auto", "coarse", "task", "mean"]
_UNCLASSIFIED = "Unclassified"
# Keys and values of all blocks are kept while a type is written: this many bytes at a time.
_KEPT_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTypes:
    """Hold the types that were written for cells.

    Parameters
    ----------
    coarse, fine
        A name a cell; ``"Unclassified"`` where no cell type was written.
    coarse_confidence, fine_confidence
        The probabilities of what was written.
    """

    coarse: np.ndarray
    fine: np.ndarray
    coarse_confidence: np.ndarray
    fine_confidence: np.ndarray


class ScmulanModel(FamilyModel):
    """Embed and annotate cells with scMulan.

    ``load`` takes two companions: ``meta``, the path of ``meta_info.pt`` when it is not beside the
    weights, and ``heads``, the number of attention heads for files without ``model_args``.
    """

    family: ClassVar[str] = "scmulan"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("hECA-10M",),
        "published": "https://github.com/SuperBianC/scMulan (link in ckpt/README.md)",
        "code licence": "MIT",
        "weights licence": "MIT",
        "can": ("cell and gene embeddings", "cell types without training", "attention"),
        "verified": (
            "plain float64 re-telling of reading and writing, and torch's own layers, on random "
            "weights at a small size; never on the trained weights themselves"
        ),
    }

    config_type = ScmulanConfig
    network_type = ScmulanNetwork
    tokenizer_type = ScmulanTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_scmulan)
    config: ScmulanConfig
    network: ScmulanNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        cell_types: Sequence[str] = (),
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        n_bins: int = 10,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        cell_types
            Names that the model can write.
        width, depth, heads, n_bins
            Sizes; the published defaults when not given.
        seed
            Of the weights.
        """
        genes = [str(name) for name in adata.var_names]
        others = [STOP, TASK, *cell_types]
        tokenizer = ScmulanTokenizer.from_lists(genes, others, cell_types=cell_types, n_bins=n_bins)
        config = ScmulanConfig(
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=heads,
            hidden=4 * width,
            n_bins=n_bins,
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
        normalised: bool = False,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts with human gene symbols, or logged values (see ``normalised``).
        batch_size, device
            Most cells at a time, and where; fewer where much would be kept in memory.
        pooling
            ``"coarse"`` (the authors', and ``"auto"``): the state of the coarse type that the
            model writes; ``"task"``: of the last token of the prompt; ``"mean"`` over the genes.
        layer
            For ``"task"`` and ``"mean"``. 0: after the last block and norm; −1: before the last
            block; and so on.
        normalised
            Take ``X`` as it is: normalised to 10 000 and logged, as upstream wants it.
        """
        how = self._chosen(pooling, "coarse", "task", "mean")
        if how == "coarse" and layer:
            msg = f"pooling='coarse' goes with layer=0 alone, not {layer}. Use 'task' or 'mean'."
            raise ConfigError(msg)
        depth = self._depth(layer)

        def pooled(batch: TokenBatch) -> torch.Tensor:
            if how == "coarse":
                return self.network.generate(batch).cells
            return self.network(batch, depth=depth)

        def rows(tokens: Tokens) -> np.ndarray:
            found = self._run(tokens, device, pooled)
            if how == "coarse":
                return found
            if how == "task":
                return found[tokens.offsets[1:] - 1]
            borders = np.stack([tokens.offsets[:-1], tokens.offsets[1:] - 1], axis=1).ravel()
            sums = np.add.reduceat(found, borders, dtype=np.float64)[::2]
            return sums / (tokens.lengths - 1)[:, None]

        values = self._cells(adata, rows, batch_size, normalised)
        return self._embedding(adata, values, pooling=how, layer=layer, normalised=normalised)

    def annotate(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        normalised: bool = False,
    ) -> CellTypes:
        """Return the cell types that the model writes, without any training.

        Parameters
        ----------
        adata, batch_size, device, normalised
            As for :meth:`embed`.
        """

        def written(batch: TokenBatch) -> torch.Tensor:
            found = self.network.generate(batch)
            return torch.cat([found.tokens.double(), found.chances.double()], dim=1)

        def rows(tokens: Tokens) -> np.ndarray:
            return self._run(tokens, device, written)

        found = self._cells(adata, rows, batch_size, normalised)
        names = np.array([*self.tokenizer.vocabulary.names, _UNCLASSIFIED], dtype=object)
        types = names[found[:, :2].astype(np.int64)]
        known = np.isin(types.astype(str), np.asarray(self.tokenizer.cell_types, dtype=str))
        types = np.where(known, types, _UNCLASSIFIED).astype(str)
        return CellTypes(
            coarse=types[:, 0],
            fine=types[:, 1],
            coarse_confidence=found[:, 2],
            fine_confidence=found[:, 3],
        )

    def gene_embeddings(self) -> Embedding:
        """Return the rows of the genes, the same for all data."""
        table = self.tokenizer.table
        values = self.network.ids.weight.detach().cpu().float().numpy()[table.ids]
        provenance = self._provenance(what="genes")
        return Embedding(values=values, names=table.features, provenance=provenance)

    def contextual_gene_embeddings(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        layer: int = 0,
        normalised: bool = False,
    ) -> Embedding:
        """Return each gene's mean state over the cells that express it."""
        return self._mean_by_gene(
            adata,
            batch_size=batch_size,
            device=device,
            layer=layer,
            encode=self._tokenizer_for(normalised).encode,
            what="genes in context",
        )

    def attention(
        self, adata: AnnData, *, device: str = "cpu", normalised: bool = False
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        return self._attention(adata, device, self._tokenizer_for(normalised).encode)

    def _tokenizer_for(self, normalised: bool) -> Any:
        return self.tokenizer.as_given() if normalised else self.tokenizer

    def _cells(
        self,
        adata: AnnData,
        rows: Callable[[Tokens], np.ndarray],
        batch_size: int,
        normalised: bool,
    ) -> np.ndarray:
        """Return one row a cell; batches are cut where much would be kept in memory."""
        of_token = 2 * self.config.depth * self.config.width * 4

        def bounded(tokens: Tokens) -> np.ndarray:
            longest = int(tokens.lengths.max())
            step = max(1, _KEPT_BYTES // (of_token * longest))
            parts = [
                rows(tokens.take(np.arange(i, min(i + step, tokens.n_cells))))
                for i in range(0, tokens.n_cells, step)
            ]
            return np.concatenate(parts)

        return self._by_length(adata, bounded, batch_size, self._tokenizer_for(normalised).encode)
