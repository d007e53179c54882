"""UCE as a model: read, embed as its authors do, look at genes and attention, save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave.records import Embedding, Provenance, Tokens
from cellweave_nn.checkpoints import FamilyModel
from cellweave_nn.layers.ragged import cell_mean, first_of_cell
from cellweave_uce.checkpoint import looks_published, read_uce
from cellweave_uce.config import UceConfig
from cellweave_uce.network import TokenRows, UceNetwork
from cellweave_uce.tokenizer import UceTokenizer

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["UceModel"]

Pooling = Literal["auto", "cls", "mean"]
Padding = Literal["none", "upstream"]


class UceModel(FamilyModel):
    """Embed cells with UCE.

    ``load`` takes ``species`` (human when not given), ``genes`` (the species' file of protein
    vectors when it is not in the folder), ``tokens`` (``all_tokens.torch`` of a new species),
    ``heads`` and ``places``.
    """

    family: ClassVar[str] = "uce"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("4 layers", "33 layers (650M)"),
        "published": "https://github.com/snap-stanford/UCE (figshare 24320806)",
        "code licence": "MIT",
        "weights licence": "MIT",
        "can": (
            "cell and gene embeddings of many species",
            "attention",
            "whether a gene is expressed",
        ),
        "verified": (
            "torch's TransformerEncoder and heads assembled from the same random tensors, with "
            "the official padding and without; never on the trained weights themselves"
        ),
    }

    config_type = UceConfig
    network_type = UceNetwork
    tokenizer_type = UceTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_uce)
    config: UceConfig
    network: UceNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 1280,
        depth: int = 4,
        heads: int = 20,
        hidden: int = 5120,
        vector_width: int = 5120,
        n_draws: int = 1024,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights and vectors on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts, with each gene's place in ``var["chrom"]`` and ``var["chromStart"]``.
        width, depth, heads, hidden, vector_width
            Sizes; those of the small model when not given.
        n_draws
            Genes drawn for each cell.
        seed
            Of the weights, the vectors, and the draws.
        """
        n_places = n_draws + 512
        tokenizer = UceTokenizer(n_draws=n_draws, max_length=n_places, seed=seed).fit(adata)
        config = UceConfig(
            n_ids=len(tokenizer.vocabulary),
            species="of your own",
            vector_width=vector_width,
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            n_places=n_places,
            out_width=width,
            middle_width=max(1, width * 4 // 5),
            binary_widths=(2048, 512, 128),
        )
        return cls._random(config, tokenizer, seed)

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 25,
        device: str = "cpu",
        pooling: Pooling = "auto",
        layer: int = 0,
        normalise: bool = True,
        padding: Padding = "none",
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Raw counts with the species' gene symbols.
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"cls"`` (the authors', and ``"auto"``), or ``"mean"`` over a cell's tokens.
        layer
            0 (the authors'): the decoder's output; −1: what the last block sees; and so on.
        normalise
            Divide by the length of the vector, as the authors do.
        padding
            ``"none"``: a cell's vector depends on the cell alone. ``"upstream"``: as published,
            batches in input order, padding seen, so that it depends on the batch.
        """
        how = self._chosen(pooling, "cls", "mean")
        if padding not in ("none", "upstream"):
            msg = f"padding={padding!r} is unknown. Use 'none' or 'upstream'."
            raise ConfigError(msg)
        depth = self._depth(layer)
        if padding == "upstream" and layer:
            msg = f"padding='upstream' goes with layer=0 alone, not {layer}. Drop one of the two."
            raise ConfigError(msg)

        kept = TokenRows(self.network)

        def pooled(batch: TokenBatch) -> torch.Tensor:
            if how == "cls" and padding == "none":
                first = self.network.first(batch, depth=depth, rows=kept)
                return self._decoded(first, layer)
            states = self._states(batch, depth, padding)
            if how == "cls":
                return self._decoded(first_of_cell(states, batch.offsets), layer)
            decoded = self._decoded(states, layer)
            return cell_mean(decoded, batch.cell_of_token(), batch.n_cells)

        def rows(tokens: Tokens) -> np.ndarray:
            return self._run(tokens, device, pooled)

        if padding == "none":
            values = self._by_length(adata, rows, batch_size)
        else:
            values = self._in_order(adata, rows, batch_size)
        if normalise:
            norms = np.linalg.norm(values, axis=1, keepdims=True)
            values = values / np.maximum(norms, 1e-12)
        how_made = {"pooling": how, "layer": layer, "normalise": normalise, "padding": padding}
        return self._embedding(adata, values, species=self.config.species, **how_made)

    def gene_embeddings(self, *, device: str = "cpu") -> Embedding:
        """Return each gene's row as the head of expression reads it, the same for all data."""
        table = self.tokenizer.table
        ids = torch.from_numpy(table.ids.astype(np.int64)).to(device)
        with torch.inference_mode():
            values = self.network.to(device).gene_rows(ids).float().cpu().numpy()
        provenance = self._provenance(what="genes", species=self.config.species)
        return Embedding(values=values, names=table.features, provenance=provenance)

    def contextual_gene_embeddings(
        self, adata: AnnData, *, batch_size: int = 25, device: str = "cpu", layer: int = 0
    ) -> Embedding:
        """Return each gene's mean state over the times it was drawn."""
        return self._mean_by_gene(
            adata, batch_size=batch_size, device=device, layer=layer, what="genes in context"
        )

    def attention(
        self, adata: AnnData, *, device: str = "cpu"
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every block, cell by cell."""
        return self._attention(adata, device)

    def expressed(
        self,
        adata: AnnData,
        genes: list[str],
        *,
        batch_size: int = 25,
        device: str = "cpu",
    ) -> np.ndarray:
        """Return the chance that each of ``genes`` is expressed, ``(n_cells, n_genes)``."""
        table = self.tokenizer.table
        place = {str(name): int(i) for name, i in zip(table.features, table.ids)}
        unknown = [g for g in genes if g not in place]
        if unknown or not genes:
            msg = f"The model knows no gene {unknown[:3]!r}. Give symbols such as "
            raise ConfigError(msg + f"{str(table.features[0])!r}.")
        ids = torch.tensor([place[g] for g in genes], device=device)

        def chances(batch: TokenBatch) -> torch.Tensor:
            first = self.network.decoded(self.network.first(batch))
            cells = torch.nn.functional.normalize(first, dim=-1)
            return self.network.expressed(cells, self.network.gene_rows(ids)).sigmoid()

        return self._by_length(adata, lambda t: self._run(t, device, chances), batch_size)

    def _states(self, batch: TokenBatch, depth: int, padding: Padding) -> torch.Tensor:
        return (
            self.network.padded(batch)
            if padding == "upstream"
            else self.network(batch, depth=depth)
        )

    def _decoded(self, states: torch.Tensor, layer: int) -> torch.Tensor:
        return self.network.decoded(states) if layer == 0 else states

    def _in_order(
        self, adata: AnnData, rows: Callable[[Tokens], np.ndarray], batch_size: int
    ) -> np.ndarray:
        """Return one row a cell, batches of neighbours in input order."""
        parts = []
        for tokens in self._blocks_of_tokens(adata, batch_size):
            for start in range(0, tokens.n_cells, batch_size):
                stop = min(start + batch_size, tokens.n_cells)
                parts.append(rows(tokens.take(np.arange(start, stop))))
        return np.concatenate(parts)

    def _provenance(self, *, seed: int | None = None, **parameters: Any) -> Provenance:
        return super()._provenance(seed=self.tokenizer.seed if seed is None else seed, **parameters)
