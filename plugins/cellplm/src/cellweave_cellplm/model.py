"""CellPLM as a model: read, embed cells among cells as its authors do, look at genes, save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import torch

from cellweave.errors import ConfigError, closest, one_of
from cellweave.records import Embedding
from cellweave_cellplm.checkpoint import looks_published, read_cellplm
from cellweave_cellplm.config import CellplmConfig
from cellweave_cellplm.network import CellplmNetwork
from cellweave_cellplm.tokenizer import CellplmTokenizer
from cellweave_nn.checkpoints import FamilyModel

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["CellplmModel"]

Pooling = Literal["auto", "latent", "encoder"]
_CELLS_AT_A_TIME = 8192


class CellplmModel(FamilyModel):
    """Embed cells with CellPLM.

    ``load`` takes two companions: ``config``, the JSON of settings when it is not beside the
    weights, and ``symbols``, a JSON of gene symbols and Ensembl ids for data that carry symbols.
    """

    family: ClassVar[str] = "cellplm"
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("20230926_85M",),
        "published": "https://github.com/OmicsML/CellPLM (links in ckpt/README.md)",
        "code licence": "BSD-2-Clause",
        "weights licence": "BSD-2-Clause",
        "can": ("cell embeddings among cells", "gene embeddings", "clusters of the latent"),
        "verified": (
            "embedder and encoder of the authors' own network on random weights at a small size; "
            "the latent by a plain float64 re-telling; never on the trained weights themselves"
        ),
    }

    config_type = CellplmConfig
    network_type = CellplmNetwork
    tokenizer_type = CellplmTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_cellplm)
    config: CellplmConfig
    network: CellplmNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 1024,
        depth: int = 4,
        heads: int = 8,
        clusters: int = 16,
        latent_width: int = 512,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, heads, clusters, latent_width
            Sizes; the published ones when not given. ``width`` divides by 4.
        seed
            Of the weights.
        """
        if width % 4:
            msg = f"width={width} does not divide into 4 groups. Choose a multiple of 4."
            raise ConfigError(msg)
        tokenizer = CellplmTokenizer().fit(adata)
        config = CellplmConfig(
            n_ids=len(tokenizer.vocabulary),
            width=width,
            depth=depth,
            heads=heads,
            hidden=2 * width,
            clusters=clusters,
            latent_width=latent_width,
            latent_hidden=512,
        )
        return cls._random(config, tokenizer, seed)

    @staticmethod
    def cells_of(states: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return the latents: cells are the tokens here."""
        return states

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 1024,
        device: str = "cpu",
        pooling: Pooling = "auto",
        layer: int = 0,
        sample_key: str | None = None,
        at_most: int | None = None,
        noise: bool = False,
        seed: int = 0,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        A cell's vector depends on the cells of its sequence, not on ``batch_size``.

        Parameters
        ----------
        adata
            Raw counts with human Ensembl ids.
        batch_size, device
            Cells whose genes are summed up at a time, and where.
        pooling
            ``"latent"`` (the authors', and ``"auto"``), or ``"encoder"``: the last block's states.
        layer
            With ``"encoder"``. 0: after the last block; −1: before it; and so on, down to the
            cells before they meet.
        sample_key
            Column of ``obs``: the cells of one value form a sequence. All cells do when not given,
            as the authors' pipeline has it.
        at_most
            Cut sequences into pieces of so many cells, in input order (the ``batch_size`` of the
            authors' pipeline).
        noise
            Draw the cluster as the published code does, instead of taking the likeliest.
        seed
            Of the noise.
        """
        how = self._chosen(pooling, "latent", "encoder")
        if how == "latent" and layer:
            msg = f"pooling='latent' goes with layer=0 alone, not {layer}. Use 'encoder'."
            raise ConfigError(msg)
        depth = self._depth(layer)
        sequences = list(_sequences(adata, sample_key, at_most))
        rows = self._rows(adata, batch_size, device)
        generator = torch.Generator().manual_seed(seed) if noise else None
        width = self.config.latent_width if how == "latent" else self.config.width
        values = np.empty((adata.n_obs, width), dtype=np.float32)
        with torch.inference_mode():
            for cells in sequences:
                states = self._encoded(rows[cells], depth, device)
                # Cells meet in the encoder alone; what follows is row by row.
                for start in range(0, len(cells), _CELLS_AT_A_TIME):
                    piece = slice(start, start + _CELLS_AT_A_TIME)
                    found = states[piece]
                    if how == "latent":
                        found = self._latent(found, generator)
                    values[cells[piece]] = found.float().cpu().numpy()
        told = {"sample_key": sample_key, "at_most": at_most, "noise": noise, "noise_seed": seed}
        return self._embedding(adata, values, pooling=how, layer=layer, **told)

    def gene_embeddings(self) -> Embedding:
        """Return the rows of the genes, the same for all data."""
        table = self.tokenizer.table
        values = self.network.genes.detach().cpu().float().numpy()[table.ids]
        provenance = self._provenance(what="genes")
        return Embedding(values=values, names=table.features, provenance=provenance)

    def clusters(
        self,
        adata: AnnData,
        *,
        batch_size: int = 1024,
        device: str = "cpu",
        sample_key: str | None = None,
        at_most: int | None = None,
    ) -> np.ndarray:
        """Return the chances of the latent's clusters, ``(n_cells, n_clusters)``."""
        sequences = list(_sequences(adata, sample_key, at_most))
        rows = self._rows(adata, batch_size, device)
        values = np.empty((adata.n_obs, self.config.clusters), dtype=np.float32)
        with torch.inference_mode():
            for cells in sequences:
                states = self._encoded(rows[cells], self.config.depth, device)
                scores = self.network.latent.clusters(self.network.norm(states))
                values[cells] = scores.softmax(-1).float().cpu().numpy()
        return values

    def _rows(self, adata: AnnData, batch_size: int, device: str) -> np.ndarray:
        """Return what the first block sees of every cell."""
        embedded = self.network.embedded
        return self._by_length(adata, lambda t: self._run(t, device, embedded), batch_size)

    def _encoded(self, rows: np.ndarray, depth: int, device: str) -> torch.Tensor:
        return self.network.encoded(torch.from_numpy(rows).to(device), depth=depth)

    def _latent(self, states: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        noise = None
        if generator is not None:
            shape = (len(states), self.config.clusters)
            drawn = torch.rand(shape, generator=generator).clamp_min(1e-20)
            noise = -(-drawn.log()).clamp_min(1e-20).log().to(states.device)
        z: torch.Tensor = self.network.latent(self.network.norm(states), noise=noise)
        return z


def _sequences(adata: AnnData, sample_key: str | None, at_most: int | None) -> Iterator[np.ndarray]:
    """Yield the rows of each sequence, in input order."""
    if at_most is not None and at_most < 1:
        msg = f"at_most={at_most} cells form no sequence. Use at least 1, or None."
        raise ConfigError(msg)
    if sample_key is None:
        groups = [np.arange(adata.n_obs)]
    elif sample_key in adata.obs:
        codes = pd.factorize(adata.obs[sample_key].astype(str))[0]
        groups = [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]
    else:
        columns = adata.obs.columns
        msg = (
            f"obs has no column {sample_key!r}.{closest(sample_key, columns)} It has: "
            f"{one_of(columns)}. Set sample_key to one of them, or leave it out."
        )
        raise ConfigError(msg)
    for rows in groups:
        step = at_most or max(len(rows), 1)
        for start in range(0, len(rows), step):
            yield rows[start : start + step]
