"""Next gene and its bin, and cells generated gene by gene.

Bian et al. 2024 (scMulan): with a causal encoder,

    L = −mean_t [ log P(id_{t+1} | ≤ t) + log P(bin_{t+1} | ≤ t) ]

Generation takes the likeliest token that is not there yet, and its likeliest bin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["NextGene", "generate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NextGene:
    """Predict the next token, and where tokens have bins, its bin.

    Parameters
    ----------
    n_bins
        Bins of a value; 0 predicts tokens alone.
    """

    n_bins: int = 0

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the two linear heads."""
        made: dict[str, nn.Module] = {"next": nn.Linear(shape.token_width, shape.n_ids, bias=False)}
        if self.n_bins:
            made["next_bin"] = nn.Linear(shape.token_width, self.n_bins, bias=False)
        return made

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide nothing: a causal encoder does not see what comes next."""
        targets = {"next_ids": batch.ids}
        if batch.values is not None:
            targets["next_values"] = batch.values
        return Corrupted(batch=batch, targets=targets)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return one term for tokens and one for bins."""
        batch = corrupted.batch
        not_last = torch.ones(batch.n_tokens, dtype=torch.bool, device=batch.device)
        ends = batch.offsets[1:][batch.offsets[1:] > batch.offsets[:-1]] - 1
        not_last[ends] = False
        at = not_last.nonzero().squeeze(1)
        states = outputs.token_states[at]
        logits = outputs.heads["next"](states).float()
        if not len(at):
            return {"next_gene": logits.sum()}
        terms = {"next_gene": F.cross_entropy(logits, corrupted.targets["next_ids"][at + 1])}
        if self.n_bins and "next_values" in corrupted.targets:
            bins = corrupted.targets["next_values"][at + 1].round().to(torch.int64)
            scores = outputs.heads["next_bin"](states).float()
            terms["next_bin"] = F.cross_entropy(scores, bins.clamp(0, self.n_bins - 1))
        return terms


@torch.no_grad()
def generate(
    encode: Callable[[TokenBatch], EncoderOutput],
    prompt: TokenBatch,
    *,
    steps: int,
    end_id: int | None = None,
) -> TokenBatch:
    """Append up to ``steps`` tokens to each cell, never one that is there already.

    Parameters
    ----------
    encode
        A model whose outputs carry the heads of :class:`NextGene`.
    prompt
        The beginnings of the cells.
    steps
        Tokens to append.
    end_id
        Token after which a cell is done; its later tokens are ``end_id`` too.
    """
    for _ in range(steps):
        out = encode(prompt)
        state = out.token_states[prompt.offsets[1:] - 1]
        scores = out.heads["next"](state)
        cell = prompt.cell_of_token()
        done = torch.zeros(prompt.n_cells, dtype=torch.bool, device=prompt.device)
        if end_id is not None:
            done = done.index_fill(0, cell[prompt.ids == end_id], value=True)
        scores = scores.index_put((cell, prompt.ids), scores.new_tensor(float("-inf")))
        best = scores.argmax(-1)
        best = best if end_id is None else best.masked_fill(done, end_id)
        values = None
        if prompt.values is not None and "next_bin" in out.heads:
            values = out.heads["next_bin"](state).argmax(-1)[:, None].to(prompt.values.dtype)
        prompt = prompt.appended(best[:, None], values)
    return prompt
