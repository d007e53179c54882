"""scFoundation as a model: read, embed as its authors do, decode all genes, deepen, save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from cellweave.errors import ConfigError, DataError, closest
from cellweave.records import Embedding, Tokens
from cellweave_nn.checkpoints import FamilyModel
from cellweave_scfoundation.checkpoint import LICENCE, looks_published, read_scfoundation
from cellweave_scfoundation.config import ScfoundationConfig
from cellweave_scfoundation.network import ScfoundationNetwork
from cellweave_scfoundation.tokenizer import ScfoundationTokenizer, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from anndata import AnnData

    from cellweave_nn.batch import TokenBatch

__all__ = ["ScfoundationModel"]

Pooling = Literal["auto", "all", "max", "mean"]
# A decoded cell is 19 266 rows, whatever it expresses.
_DECODED_CELLS = 2


class ScfoundationModel(FamilyModel):
    """Embed cells and genes with scFoundation.

    ``load`` takes two companions: ``part``, which of the three published models (``"cell"`` for
    cells, ``"gene"`` for genes in context, ``"rde"`` for deeper profiles), and ``genes``, the path
    of the list of genes when it is not beside the weights.
    """

    family: ClassVar[str] = "scfoundation"
    notice: ClassVar[str] = (
        "scFoundation's published weights are licensed for non-commercial research only "
        "(scFoundation Model License). By loading them you accept that."
    )
    card: ClassVar[Mapping[str, Any]] = {
        "versions": ("01B-resolution: cell, gene, rde",),
        "published": "https://github.com/biomap-research/scFoundation (links in model/README.md)",
        "code licence": "Apache-2.0",
        "weights licence": LICENCE,
        "can": (
            "cell embeddings",
            "gene embeddings in context",
            "read-depth enhancement",
            "bulk samples",
            "attention",
        ),
        "verified": (
            "outputs of the authors' own network on random weights at a small size; a plain "
            "retelling in float64 at the published size; never on the trained weights themselves"
        ),
    }

    config_type = ScfoundationConfig
    network_type = ScfoundationNetwork
    tokenizer_type = ScfoundationTokenizer
    _looks_published = staticmethod(looks_published)
    _read = staticmethod(read_scfoundation)
    config: ScfoundationConfig
    network: ScfoundationNetwork

    @classmethod
    def untrained(
        cls,
        adata: AnnData,
        *,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        decoder_width: int = 512,
        decoder_depth: int = 6,
        decoder_heads: int = 8,
        seed: int = 0,
    ) -> Self:
        """Build the architecture with random weights on the genes of ``adata``.

        Parameters
        ----------
        adata
            Raw counts.
        width, depth, heads, hidden
            Sizes of the encoder; the published ones when not given.
        decoder_width, decoder_depth, decoder_heads
            Sizes of the decoder.
        seed
            Of the weights.
        """
        tokenizer = ScfoundationTokenizer().fit(adata)
        head_width = decoder_width // decoder_heads
        config = ScfoundationConfig(
            n_genes=len(tokenizer.table.features),
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            decoder_width=decoder_width,
            decoder_depth=decoder_depth,
            decoder_heads=decoder_heads,
            decoder_hidden=4 * decoder_width,
            decoder_head_width=head_width,
            decoder_features=int(head_width * np.log(head_width)),
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
        values: Values = "counts",
        target: str = "t4",
        total_key: str | None = None,
    ) -> Embedding:
        """Return one vector a cell, in input order.

        Parameters
        ----------
        adata
            Expression with human gene symbols.
        batch_size, device
            Cells at a time, and where.
        pooling
            ``"all"`` (the authors' default, and ``"auto"``): the states of S and T, the maximum and
            the mean over the genes, side by side; ``"max"`` over all tokens (their other one);
            ``"mean"`` over the genes.
        layer
            0 (the authors'): after the last block and its norm; −1: before the last block.
        values, target, total_key
            What the data hold and the depth wished for; see :class:`ScfoundationTokenizer`.
        """
        how = self._chosen(pooling, "all", "max", "mean")
        depth = self._depth(layer)
        tokenizer = self._tokenizer_for(adata, values, target, total_key)
        found = self._by_length(
            adata,
            lambda tokens: self._pooled(tokens, how, depth, device),
            batch_size,
            tokenizer.encode,
        )
        return self._embedding(adata, found, pooling=how, layer=layer, **self._said(tokenizer))

    def gene_embeddings(
        self,
        adata: AnnData,
        *,
        device: str = "cpu",
        values: Values = "counts",
        target: str = "t4",
        total_key: str | None = None,
    ) -> Embedding:
        """Return each gene's state in the decoder, the mean over the cells; all genes have one."""
        sums, count = np.zeros((self.config.n_genes, self.config.decoder_width)), 0
        tokenizer = self._tokenizer_for(adata, values, target, total_key)
        for _, states in self._gene_states(adata, tokenizer, device):
            sums += states
            count += 1
        provenance = self._provenance(what="genes", **self._said(tokenizer))
        names = self.tokenizer.table.features
        return Embedding(
            values=(sums / count).astype(np.float32), names=names, provenance=provenance
        )

    def gene_states(
        self,
        adata: AnnData,
        *,
        device: str = "cpu",
        values: Values = "counts",
        target: str = "t4",
        total_key: str | None = None,
    ) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and ``(n_genes, decoder width)`` states cell by cell (the ``gene`` output)."""
        tokenizer = self._tokenizer_for(adata, values, target, total_key)
        return self._gene_states(adata, tokenizer, device)

    def enhance_depth(
        self,
        adata: AnnData,
        *,
        target: str = "t4",
        genes: Sequence[str] | None = None,
        device: str = "cpu",
        values: Values = "counts",
        total_key: str | None = None,
    ) -> AnnData:
        """Return the profile that the network expects at the depth ``target``.

        Parameters
        ----------
        adata
            Expression with human gene symbols.
        target
            The depth wished for: ``"t4"`` (10⁴ counts), ``"f5"`` (five times the cell's own) …
        genes
            Genes to return; all of the list when not given.
        device, values, total_key
            As for :meth:`embed`.

        Returns
        -------
        AnnData
            Cells in input order; ``X`` is dense, in units of ``log1p(CP10K)``.
        """
        import anndata

        self._needs_part("rde", what="deeper profiles")
        places = self._places_of(genes)
        tokenizer = self._tokenizer_for(adata, values, target, total_key)
        out = np.empty((adata.n_obs, len(places)), dtype=np.float32)
        for row, part in enumerate(self._single_cells(adata, tokenizer)):
            out[row] = self._run(part, device, self.network.expression)[0][places]
        made = anndata.AnnData(out, obs=adata.obs.copy())
        made.var_names = self.tokenizer.table.features[places].tolist()
        made.uns["scfoundation"] = self._provenance(**self._said(tokenizer)).to_json()
        return made

    @property
    def reconstructs(self) -> Literal["values"] | None:
        """Say that the decoder tells the values of hidden genes."""
        return "values"

    def _fitting(self, batch_size: int) -> int:
        return min(batch_size, _DECODED_CELLS)

    def filled(self, batch: TokenBatch, hidden: torch.Tensor) -> torch.Tensor:
        """Return what the network says of the ``hidden`` tokens."""
        return self.network.masked_expression(batch, hidden)

    def attention(
        self, adata: AnnData, *, device: str = "cpu"
    ) -> Iterator[tuple[str, np.ndarray, tuple[np.ndarray, ...]]]:
        """Yield name, token ids and ``(heads, length, length)`` of every encoder block, by cell."""
        return self._attention(adata, device)

    def _tokenizer_for(
        self, adata: AnnData, values: Values, target: str, total_key: str | None
    ) -> ScfoundationTokenizer:
        own: ScfoundationTokenizer = self.tokenizer
        return own.changed(values=values, target=target, total_key=total_key).for_all_of(adata)

    def _said(self, tokenizer: ScfoundationTokenizer) -> dict[str, Any]:
        return {
            "part": self.config.part,
            "input": tokenizer.values,
            "target": tokenizer.target,
            "bulk_total": tokenizer.bulk_total,
        }

    def _pooled(self, tokens: Tokens, how: str, depth: int, device: str) -> np.ndarray:
        states = self._run(tokens, device, lambda batch: self.network(batch, depth=depth))
        starts, ends = tokens.offsets[:-1], tokens.offsets[1:]
        if how == "max":
            return np.maximum.reduceat(states, starts)
        if short := tokens.obs_names[tokens.lengths < 3].tolist():
            msg = f"Cells {short[:3]!r} have fewer than 3 tokens: a gene, T and S. "
            raise DataError(msg + "Filter cells with so few counts, or use pooling='max'.")
        # The last two tokens of a cell are T and S; rows after them belong to the next cell.
        borders = np.stack([starts, ends - 2], axis=1).ravel()
        mean = (
            np.add.reduceat(states, borders, dtype=np.float64)[::2] / (ends - starts - 2)[:, None]
        )
        if how == "mean":
            return mean
        largest = np.maximum.reduceat(states, borders)[::2]
        return np.concatenate([states[ends - 1], states[ends - 2], largest, mean], axis=1)

    def _single_cells(self, adata: AnnData, tokenizer: ScfoundationTokenizer) -> Iterator[Tokens]:
        """Yield the tokens of one cell at a time: a decoded cell is 19 266 rows already."""
        for tokens in self._blocks_of_tokens(adata, 1, tokenizer.encode):
            for i in range(tokens.n_cells):
                yield tokens.take([i])

    def _gene_states(
        self, adata: AnnData, tokenizer: ScfoundationTokenizer, device: str
    ) -> Iterator[tuple[str, np.ndarray]]:
        self._needs_part("gene", "rde", what="states of genes")
        for part in self._single_cells(adata, tokenizer):
            states = self._run(part, device, self.network.decoded)[0]
            yield str(part.obs_names[0]), states[: self.config.n_genes]

    def _needs_part(self, *parts: str, what: str) -> None:
        if self.config.part and self.config.part not in parts:
            msg = (
                f"This is the published model for {self.config.part!r}; {what} are those of "
                f"{' or '.join(map(repr, parts))}. Load with part={parts[0]!r}."
            )
            raise ConfigError(msg)

    def _places_of(self, genes: Sequence[str] | None) -> np.ndarray:
        known = self.tokenizer.table.features
        if genes is None:
            return np.arange(len(known))
        index = {name: i for i, name in enumerate(known.tolist())}
        if missing := [g for g in genes if g not in index]:
            msg = f"{missing[0]!r} is no gene of the list.{closest(missing[0], index)} "
            raise ConfigError(msg + "Use human gene symbols as in model.tokenizer.table.features.")
        return np.array([index[g] for g in genes], dtype=np.int64)
