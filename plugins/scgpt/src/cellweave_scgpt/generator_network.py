r"""The network of scGPT's generator of perturbed cells, from the blocks of the engine.

Cui et al., Nature Methods 2024 (``TransformerGenerator``): a control cell's genes, their values
and a flag a gene go in, and a factor and an offset a gene come out,

.. math:: x_0 = LN(E_g) + V(v_g) + F_{flag(g)}, \qquad
          \hat y_g = m_g + a(x_n)(v_g - m_g) + b(x_n)

:math:`m` is the mean of the control cells, which the authors leave out: with the last layers at
zero, training starts at "no change". What a gene is like, where it is known, is added to
:math:`E_g` through a projection, so that a gene that was never perturbed is told from others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from cellweave.errors import ConfigError, DataError
from cellweave_nn.layers.block import TransformerBlock
from cellweave_nn.layers.embedding import ContinuousValues, TokenEmbedding
from cellweave_nn.layers.layout import padded_layout
from cellweave_scgpt.network import ExpressionHead

if TYPE_CHECKING:
    from cellweave_scgpt.model import ScgptModel

__all__ = ["GeneratorNetwork", "sizes_of", "start_from"]

_FEWEST_KNOWN = 0.1


class GeneratorNetwork(nn.Module):
    """Map values and flags to factors and offsets.

    Parameters
    ----------
    n_names
        Genes and agents, one row each.
    width, depth, heads, hidden
        Model width, blocks, attention heads, width of the feed-forward.
    described
        ``(n_names, k)`` what each is like, or ``None``.
    dropout
        On what each block adds.
    """

    def __init__(
        self,
        n_names: int,
        *,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        described: torch.Tensor | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.genes = TokenEmbedding(n_names, width, norm=True)
        self.values = ContinuousValues(width)
        self.flags = nn.Embedding(2, width)
        self.blocks = nn.ModuleList(
            TransformerBlock.simple(width, heads, hidden, activation="relu", dropout=dropout)
            for _ in range(depth)
        )
        self.factor, self.offset = (_silent(ExpressionHead(width, zero=False)) for _ in range(2))
        self.likeness = None if described is None else nn.Linear(described.shape[1], width, False)
        self.described: torch.Tensor | None
        self.register_buffer("described", described)

    def forward(
        self,
        ids: torch.Tensor,
        values: torch.Tensor,
        flags: torch.Tensor,
        lengths: Sequence[int],
        *,
        nameless: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return factors and offsets, ``(N, L)`` both, of cells padded on the right.

        Parameters
        ----------
        ids, values, flags
            ``(N, L)``: names, values of the control cell, 1 where perturbed.
        lengths
            Tokens of each cell.
        nameless
            ``(N, L)``: tokens that show what they are like, and not which they are.
        """
        rows = self.genes.table(ids)
        if nameless is not None:
            rows = rows.masked_fill(nameless.unsqueeze(-1), 0.0)
        if self.likeness is not None and self.described is not None:
            rows = rows + self.likeness(self.described[ids])
        x = self.genes.norm(rows) + self.values(values) + self.flags(flags)
        layout = padded_layout(lengths, ids.device)
        for block in self.blocks:
            x = block(x, layout)
        return self.factor(x), self.offset(x)


def _silent(head: ExpressionHead) -> ExpressionHead:
    """Put the last layer at zero."""
    for parameter in head.fc[-1].parameters():
        nn.init.zeros_(parameter)
    return head


def sizes_of(model: ScgptModel) -> dict[str, int]:
    """Return the sizes of published weights, for a network that starts from them."""
    config = model.config
    if config.values != "continuous":
        msg = (
            f"These weights read values as {config.values!r}, and the generator reads normalised "
            "logarithms. Give weights with continuous values, e.g. the whole-human model."
        )
        raise ConfigError(msg)
    return {k: getattr(config, k) for k in ("width", "depth", "heads", "hidden")}


def start_from(network: GeneratorNetwork, model: ScgptModel, names: Sequence[str]) -> None:
    """Take the embeddings of genes and values, and the blocks; new names get the mean row.

    These are the parts that the authors take, too: heads and flags are new.
    """
    source, table = model.network, model.tokenizer.table
    places = dict(zip(map(str, table.features), table.ids.tolist(), strict=True))
    known = [(i, places[n]) for i, n in enumerate(names) if n in places]
    if len(known) < _FEWEST_KNOWN * len(names):
        msg = (
            f"The weights know {len(known)} of {len(names)} genes, e.g. not {names[0]!r}; theirs "
            f"look like {next(iter(places), 'none')!r}. Map the names first."
        )
        raise DataError(msg)
    with torch.no_grad():
        rows = source.genes.table.weight
        network.genes.table.weight.copy_(rows[list(places.values())].mean(dim=0))
        here, there = (torch.tensor(k) for k in zip(*known, strict=True))
        network.genes.table.weight[here] = rows[there]
    network.genes.norm.load_state_dict(source.genes.norm.state_dict())
    network.values.load_state_dict(source.values.state_dict())  # type: ignore[union-attr]
    network.blocks.load_state_dict(source.blocks.state_dict())
