"""The transformer encoder that most cell foundation models are a setting of.

Vaswani et al. 2017; Devlin et al. 2019 (BERT; Geneformer, Nicheformer); Cui et al. 2024 (scGPT).

    x_0 = E[id] + value(v) + place(p) + modality(m)
    x_l = block_l(x_{l-1}), pre- or post-norm
    cell = pool(x_n), or norm(pool(x_n before its norm)) when `residual_pooling`

A norm on each token takes away how much there was of it; pooled before it, the state of an
untrained encoder is the weighted sum of the embeddings of a cell's genes, which is as much as a
linear method knows, and training starts from there (:mod:`cellweave_nn.training.start`).

Departure: tokens are packed; a cell never attends to, or pays for, padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.inputs import Places, TokenInput, Values
from cellweave_nn.encoders.pooling import Pooling, pool
from cellweave_nn.encoders.running import (
    run_stack,
    sequences_of,
    with_cell_rows,
    without_cell_rows,
)
from cellweave_nn.encoders.settings import settings_of
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import Stack, TransformerBlock
from cellweave_nn.layers.embedding import AutoBinValues, BinnedValues, ContinuousValues
from cellweave_nn.layers.favor import FavorAttention
from cellweave_nn.layers.feedforward import FeedForward, ModalityExperts
from cellweave_nn.layers.flow import FlowAttention
from cellweave_nn.layers.generative import GenerativeAttention
from cellweave_nn.layers.kernels import FullAttention
from cellweave_nn.layers.norm import make_norm
from cellweave_nn.outputs import EncoderOutput

__all__ = ["Kernel", "TransformerEncoder", "make_kernel"]

Kernel = Literal["full", "causal", "generative", "favor", "flow"]


class TransformerEncoder(nn.Module):
    """Encode tokens with a transformer.

    Parameters
    ----------
    n_ids
        Size of the vocabulary.
    width, depth, heads, hidden
        D, blocks, heads, and the width of the feed-forward (``4 · width`` when 0).
    values, n_bins, places, n_places, n_modalities, n_domains, flag, token_norm, input_norm
        As in :class:`~cellweave_nn.encoders.inputs.TokenInput`; ``places="rotary"`` turns queries
        and keys instead.
    attention
        ``full``, ``causal``, ``generative``, ``favor`` or ``flow``.
    pooling
        How a cell's state is made; ``cls`` puts a learned row before each cell.
    activation, norm, norm_first, eps, bias
        As in :class:`~cellweave_nn.layers.block.TransformerBlock`.
    dropout, attention_dropout
        Shares of what is dropped while training.
    experts
        Whether each modality has feed-forwards of its own.
    project_unknown
        As in :class:`~cellweave_nn.layers.attention.SelfAttention`.
    residual_pooling
        Whether cells are pooled from the residual stream, before the last norm, and then normed
        themselves; for pre-norm blocks and any pooling but ``cls``.
    """

    def __init__(
        self,
        *,
        n_ids: int,
        width: int = 256,
        depth: int = 6,
        heads: int = 4,
        hidden: int = 0,
        values: Values = "none",
        n_bins: int = 51,
        places: Places = "none",
        n_places: int = 2048,
        n_modalities: int = 0,
        n_domains: int = 0,
        flag: bool = False,
        token_norm: bool = False,
        input_norm: bool = True,
        attention: Kernel = "full",
        pooling: Pooling = "mean",
        activation: str = "gelu",
        norm: str = "layer",
        norm_first: bool = True,
        eps: float = 1e-5,
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        experts: bool = False,
        project_unknown: bool = True,
        residual_pooling: bool = False,
    ) -> None:
        config = settings_of(locals())
        super().__init__()
        if residual_pooling and (pooling == "cls" or not norm_first):
            msg = (
                "residual_pooling needs pre-norm blocks and a pooling of tokens, not pooling="
                f"{pooling!r}, norm_first={norm_first}. Use pooling='weighted', or leave it out."
            )
            raise ConfigError(msg)
        self.config = config
        self.pooling = pooling
        self.token_width = self.cell_width = width
        self.input = TokenInput(
            n_ids,
            width,
            values=values,
            n_bins=n_bins,
            places=places,
            n_places=n_places,
            n_modalities=n_modalities,
            n_domains=n_domains,
            flag=flag,
            token_norm=token_norm,
            norm=input_norm,
            dropout=dropout,
        )
        self.cls = nn.Parameter(torch.randn(width) * 0.02) if pooling == "cls" else None

        last = make_norm(norm, width, eps=eps) if norm_first else None
        in_stack = None if residual_pooling else last
        self.stack = Stack((_block(config) for _ in range(depth)), last_norm=in_stack)
        self.token_norm = last if residual_pooling else None
        self.cell_norm = make_norm(norm, width, eps=eps) if residual_pooling else None
        start_small(self, depth)

    def forward(
        self,
        batch: TokenBatch,
        *,
        padded: bool = False,
        keep_hidden: bool = False,
        keep_attention: bool = False,
    ) -> EncoderOutput:
        """Return token states, ragged as the batch, and one state a cell.

        Parameters
        ----------
        batch
            The cells. ``context["cell_embedding"]`` replaces the learned row of ``cls`` pooling.
        padded
            Compute the padded way; the numbers are the same.
        keep_hidden, keep_attention
            Also return states of every depth, and attention weights (one cell at a time).
        """
        made = self.input(batch)
        sequences = sequences_of(made.rows, batch)
        if self.cls is not None:
            given = batch.context.get("cell_embedding")
            rows = self.cls.expand(batch.n_cells, -1) if given is None else given
            sequences = with_cell_rows(sequences, rows)
        out = run_stack(
            self.stack,
            sequences,
            padded=padded,
            keep_hidden=keep_hidden,
            keep_attention=keep_attention,
        )
        if self.cls is None:
            states, hidden = out.states, out.hidden
            cell_state = pool(states, batch, self.pooling)
            if self.cell_norm is not None and self.token_norm is not None:
                # Pooling by value gives the type of the values, which need not be the weights'.
                cell_state = self.cell_norm(cell_state.to(states.dtype))
                states = self.token_norm(states)
                hidden = (*hidden[:-1], states) if hidden else ()
        else:
            cell_state = out.states[sequences.offsets[:-1]]
            states = without_cell_rows(out.states, sequences.offsets)
            hidden = tuple(without_cell_rows(h, sequences.offsets) for h in out.hidden)
        return EncoderOutput(
            token_states=states,
            cell_state=cell_state,
            token_embeddings=made.token_embeddings,
            hidden=hidden,
            attention=out.attention,
        )


def _block(config: Mapping[str, Any]) -> TransformerBlock:
    """Build one block from the encoder's arguments."""
    width, heads, dropout = config["width"], config["heads"], config["dropout"]
    hidden = config["hidden"] or 4 * width
    wide = {
        "activation_name": config["activation"],
        "bias": config["bias"],
        "dropout": dropout,
    }
    feedforward: nn.Module = (
        ModalityExperts(width, hidden, max(config["n_modalities"], 1), **wide)
        if config["experts"]
        else FeedForward(width, hidden, **wide)
    )
    kernel = make_kernel(config["attention"], width // heads, dropout=config["attention_dropout"])
    attention = SelfAttention(
        width,
        heads,
        bias=config["bias"],
        out_bias=config["bias"],
        rotary=config["places"] == "rotary",
        project_unknown=config["project_unknown"],
        kernel=kernel,
    )
    return TransformerBlock(
        width,
        attention=attention,
        feedforward=feedforward,
        norm=config["norm"],
        eps=config["eps"],
        norm_first=config["norm_first"],
        dropout=dropout,
    )


def make_kernel(name: Kernel, head_width: int, *, dropout: float = 0.0) -> nn.Module:
    """Build an attention kernel by name."""
    if name == "generative":
        return GenerativeAttention()
    if name == "favor":
        return FavorAttention(head_width)
    if name == "flow":
        return FlowAttention()
    return FullAttention(causal=name == "causal", dropout=dropout)


def start_small(encoder: nn.Module, depth: int) -> None:
    """Draw weights as GPT-2 does: N(0, 0.02²), the last layer of each residual /√(2·depth).

    What embeds values keeps its own start, and ids then start as large as values, or neither
    would be heard beside the other.
    """
    reads_values = any(isinstance(m, ContinuousValues) for m in encoder.modules())
    for name, module in encoder.named_modules():
        if ".values." in name:
            continue
        if isinstance(module, nn.Linear | nn.Embedding):
            residual = name.endswith((".attention.out", ".down"))
            std = 0.02 * (2 * max(depth, 1)) ** -0.5 if residual else 0.02
            is_table = isinstance(module, nn.Embedding)
            nn.init.normal_(module.weight, std=1.0 if is_table and reads_values else std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, AutoBinValues):
            for table in (module.emb, module.emb_mask, module.emb_pad):
                nn.init.normal_(table.weight, std=0.1)
        if isinstance(module, BinnedValues):
            nn.init.normal_(module.table.weight, std=0.02)
