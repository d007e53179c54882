"""A trained model: embed cells in input order, look at genes and attention, save and load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import nn

import cellweave_nn
from cellweave.errors import ConfigError, DataError
from cellweave.records import Embedding, Provenance, Tokens
from cellweave_nn.adapt.shrunk import reshaped
from cellweave_nn.batch import TokenBatch
from cellweave_nn.models.build import build_encoder, build_objectives, tokenizer_from_state
from cellweave_nn.models.folder import (
    FolderConfig,
    FolderContent,
    is_model_folder,
    read_folder,
    write_folder,
)
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.outputs import EncoderOutput
from cellweave_nn.training.checkpoint import strict_load

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["CellAttention", "CellModel", "load_model"]

# Cells are read from `adata` in blocks of so many batches, so that memory does not grow with it.
_BATCHES_IN_BLOCK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CellAttention:
    """Hold the attention of one cell.

    Parameters
    ----------
    name
        The cell.
    ids
        Its tokens; where the encoder puts a row for the cell first, that row has the id −1.
    weights
        One ``(heads, length, length)`` array a block.
    """

    name: str
    ids: np.ndarray
    weights: tuple[np.ndarray, ...]


class CellModel:
    """An encoder with its weights, its heads and its tokenizer.

    Parameters
    ----------
    config
        What the parts are, by registry name.
    tokenizer
        The fitted tokenizer.
    encoder
        The encoder with its weights.
    heads
        Prediction heads by name.
    card
        The model card's text.
    """

    family = "nn.model"

    def __init__(
        self,
        *,
        config: FolderConfig,
        tokenizer: Any,
        encoder: nn.Module,
        heads: nn.ModuleDict | None = None,
        card: str = "",
    ) -> None:
        self.config = config
        self._tokenizer = tokenizer
        self.encoder = encoder.eval()
        self.heads = (heads if heads is not None else nn.ModuleDict()).eval()
        self.card = card

    @property
    def tokenizer(self) -> Any:
        """Give the tokenizer the weights were trained with."""
        return self._tokenizer

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """Return the same weights behind another tokenizer, e.g. one that edits each cell."""
        return type(self)(
            config=self.config,
            tokenizer=tokenizer,
            encoder=self.encoder,
            heads=self.heads,
            card=self.card,
        )

    @property
    def n_parameters(self) -> int:
        """Count the numbers in encoder and heads."""
        modules = (self.encoder, self.heads)
        return sum(p.numel() for m in modules for p in m.parameters())

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Tell whether ``path`` is a model folder of ours."""
        return is_model_folder(Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model folder, strictly."""
        content = read_folder(path)
        config = content.config
        encoder = build_encoder(config.encoder.name, config.encoder.parameters)
        reshaped(encoder, removed_heads=config.removed_heads, precision=config.precision)
        heads = _heads_of(config, encoder)
        whole = nn.ModuleDict({"encoder": encoder, "heads": heads})
        strict_load(whole, content.weights, source=Path(path))
        tokenizer = tokenizer_from_state(content.tokenizer)
        return cls(
            config=config, tokenizer=tokenizer, encoder=encoder, heads=heads, card=content.card
        )

    def save(self, folder: str | Path) -> None:
        """Write a model folder, atomically, with a manifest."""
        whole = nn.ModuleDict({"encoder": self.encoder, "heads": self.heads})
        content = FolderContent(
            config=self.config,
            weights=whole.state_dict(),
            tokenizer=self.tokenizer.state(),
            card=self.card,
        )
        write_folder(folder, content)

    def encode(self, batch: TokenBatch, **options: bool) -> EncoderOutput:
        """Run the encoder on one batch, heads attached."""
        return replace(self.encoder(batch, **options), heads=dict(self.heads.items()))

    def embed(
        self,
        adata: AnnData,
        *,
        batch_size: int = 32,
        device: str = "cpu",
        layer: int = -1,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> Embedding:
        """Return one vector a cell, in input order, in bounded memory.

        Parameters
        ----------
        adata
            The cells; not changed.
        batch_size
            Cells that go through the encoder at once; cells of like length go together.
        device
            ``"cpu"`` or ``"cuda"``.
        layer
            Which depth: −1 is the encoder's own cell state; another number is the mean over
            tokens of the states at that depth, 0 the embedding.
        precision
            Of matrix products.
        """
        rows = []
        for tokens in self._token_blocks(adata, batch_size):
            rows.append(self._embed_block(tokens, batch_size, device, layer, precision))
        values = np.concatenate(rows)
        names = adata.obs_names.to_numpy(dtype=str)
        return Embedding(values=values, names=names, provenance=self._provenance(layer))

    def gene_embeddings(self) -> Embedding:
        """Return the static embedding of every token: what its id alone becomes."""
        n_ids = len(self.tokenizer.vocabulary)
        batch = TokenBatch(offsets=torch.tensor([0, n_ids]), ids=torch.arange(n_ids))
        table = getattr(getattr(self.encoder, "input", self.encoder), "tokens", None)
        if not isinstance(table, nn.Module) or not hasattr(table, "table"):
            msg = f"{self.config.encoder.name!r} has no embedding of single tokens."
            raise ConfigError(msg + " Use contextual_gene_embeddings.")
        with torch.inference_mode():
            values = table(batch.ids).float().cpu().numpy()
        names = np.array(self.tokenizer.vocabulary.names)
        return Embedding(values=values, names=names, provenance=self._provenance(0))

    def contextual_gene_embeddings(
        self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu"
    ) -> Embedding:
        """Return the mean state of each token over the cells that have it."""
        names = self.tokenizer.vocabulary.names
        sums, counts = None, np.zeros(len(names))
        for tokens in self._token_blocks(adata, batch_size):
            for rows in _by_length(tokens, batch_size):
                part = tokens.take(rows)
                states = self._states(part, device).float().cpu().numpy()
                if sums is None:
                    sums = np.zeros((len(names), states.shape[1]))
                np.add.at(sums, part.ids, states)
                np.add.at(counts, part.ids, 1)
        assert sums is not None
        seen = counts > 0
        values = (sums[seen] / counts[seen, None]).astype(np.float32)
        return Embedding(
            values=values, names=np.array(names)[seen], provenance=self._provenance(-1)
        )

    def attention(
        self, adata: AnnData, *, batch_size: int = 8, device: str = "cpu"
    ) -> Iterator[CellAttention]:
        """Yield the attention of each cell, in input order."""
        cls_row = np.array([-1]) if getattr(self.encoder, "cls", None) is not None else np.array([])
        for tokens in self._token_blocks(adata, batch_size):
            for start in range(0, tokens.n_cells, batch_size):
                part = tokens.take(np.arange(start, min(start + batch_size, tokens.n_cells)))
                with torch.inference_mode():
                    out = self._on(device).encoder(self._batch(part, device), keep_attention=True)
                for i in range(part.n_cells):
                    ids = part.ids[part.offsets[i] : part.offsets[i + 1]]
                    yield CellAttention(
                        name=str(part.obs_names[i]),
                        ids=np.concatenate([cls_row, ids]).astype(np.int64),
                        weights=tuple(block[i].float().cpu().numpy() for block in out.attention),
                    )

    def pathway_attention(
        self, adata: AnnData, *, batch_size: int = 32, device: str = "cpu"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return names of pathways, and how much each decided each cell, in input order."""
        if not hasattr(self.encoder, "pathway_attention"):
            msg = (
                f"{self.config.encoder.name!r} has no pathway tokens. Build one with 'nn.pathway'."
            )
            raise ConfigError(msg)
        rows = []
        for tokens in self._token_blocks(adata, batch_size):
            for start in range(0, tokens.n_cells, batch_size):
                part = tokens.take(np.arange(start, min(start + batch_size, tokens.n_cells)))
                with torch.inference_mode():
                    encoder: Any = self._on(device).encoder
                    found = encoder.pathway_attention(self._batch(part, device))
                rows.append(found.float().cpu().numpy())
        return np.array(self.encoder.names, dtype=str), np.concatenate(rows)

    def predict(
        self, adata: AnnData, *, head: str = "label", batch_size: int = 32, device: str = "cpu"
    ) -> np.ndarray:
        """Return what a head that reads cell states says of each cell, in input order."""
        if head not in self.heads:
            msg = f"The model has no head {head!r}; it has {sorted(self.heads) or 'none'}."
            raise ConfigError(msg + " Fine-tune it for labels first.")
        states = self.embed(adata, batch_size=batch_size, device=device).values
        module = self.heads[head].cpu()
        with torch.inference_mode():
            found: np.ndarray = module(torch.from_numpy(states)).numpy()
        return found

    def _token_blocks(self, adata: AnnData, batch_size: int) -> Iterator[Tokens]:
        """Tokenize some cells at a time."""
        if batch_size < 1:
            msg = f"batch_size is {batch_size}. Use at least 1."
            raise ConfigError(msg)
        if adata.n_obs == 0:
            msg = "There is no cell to embed. Give an AnnData with at least one."
            raise DataError(msg)
        size = batch_size * _BATCHES_IN_BLOCK
        for start in range(0, adata.n_obs, size):
            tokens = self.tokenizer.encode(adata[start : start + size])
            if np.any(tokens.lengths == 0):
                empty = tokens.obs_names[tokens.lengths == 0]
                shown = ", ".join(map(repr, empty[:3].tolist()))
                msg = f"{len(empty)} cells have no token in the vocabulary ({shown}). "
                raise DataError(msg + "Check the names of features, or filter these cells.")
            yield tokens

    def _embed_block(
        self, tokens: Tokens, batch_size: int, device: str, layer: int, precision: str
    ) -> np.ndarray:
        out: np.ndarray | None = None
        for rows in _by_length(tokens, batch_size):
            states = self._cell_states(tokens.take(rows), device, layer, precision)
            if out is None:
                out = np.empty((tokens.n_cells, states.shape[1]), dtype=np.float32)
            out[rows] = states
        assert out is not None
        return out

    @torch.inference_mode()
    def _cell_states(self, tokens: Tokens, device: str, layer: int, precision: str) -> np.ndarray:
        batch = self._batch(tokens, device)
        model = self._on(device)
        half = precision == "bf16"
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=half):
            out = model.encoder(batch, keep_hidden=layer != -1)
        if layer == -1:
            return out.cell_state.float().cpu().numpy()
        from cellweave_nn.encoders.pooling import pool

        return pool(out.hidden[layer].float(), batch, "mean").cpu().numpy()

    @torch.inference_mode()
    def _states(self, tokens: Tokens, device: str) -> torch.Tensor:
        states: torch.Tensor = self._on(device).encoder(self._batch(tokens, device)).token_states
        return states

    def _batch(self, tokens: Tokens, device: str) -> TokenBatch:
        batch = TokenBatch.from_tokens(tokens, device=device)
        return batch.with_(special=self.config.special, n_ids=self.n_ids)

    @property
    def n_ids(self) -> int:
        """Count the ids the encoder was built for."""
        return int(self.config.encoder.parameters["n_ids"])

    def _on(self, device: str) -> Self:
        self.encoder.to(device)
        return self

    def _provenance(self, layer: int) -> Provenance:
        return Provenance(
            component=self.family,
            version=cellweave_nn.__version__,
            parameters={"encoder": self.config.encoder.name, "layer": layer},
            seed=self.config.seed,
            versions={"torch": torch.__version__, "numpy": np.__version__},
        )


def load_model(path: str | Path) -> CellModel:
    """Load a model folder, strictly."""
    return CellModel.load(path)


def _heads_of(config: FolderConfig, encoder: nn.Module) -> nn.ModuleDict:
    if not config.objectives:
        return nn.ModuleDict()
    parts: Any = encoder
    shape = HeadShape(
        token_width=parts.token_width,
        cell_width=parts.cell_width,
        n_ids=int(config.encoder.parameters["n_ids"]),
    )
    return nn.ModuleDict(build_objectives(config.objectives).heads(shape))


def _by_length(tokens: Tokens, batch_size: int) -> Iterator[np.ndarray]:
    """Yield rows, cells of like length together, the longest first."""
    order = np.argsort(-tokens.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
