"""Masked token prediction on ranks.

Devlin et al. 2019; Theodoris et al. 2023 (Geneformer): hide 15 % of the tokens (of these 80 %
become the mask, 10 % a random id, 10 % stay), and score cross-entropy at the hidden places only:

    L = −mean_{i hidden} log softmax(head(state_i))[id_i]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.drawing import chosen, special_id, uniform
from cellweave_nn.objectives.heads import HeadShape, TokenHead
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["MaskedToken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedToken:
    """Predict hidden tokens.

    Parameters
    ----------
    fraction
        Share of tokens that is hidden; special tokens never are.
    mask_share, random_share
        Shares of the hidden that become the mask and a random id; the rest stays as it is.
    """

    fraction: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the head that scores ids."""
        return {"token": TokenHead(shape.token_width, shape.n_ids)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide tokens."""
        hidden = chosen(batch, self.fraction, generator)
        fate = uniform(batch.n_tokens, batch, generator)
        other = torch.randint(max(batch.n_ids, 1), (batch.n_tokens,), generator=generator)
        to_mask = hidden & (fate < self.mask_share)
        to_random = hidden & ~to_mask & (fate < self.mask_share + self.random_share)
        ids = batch.ids.masked_fill(to_mask, special_id(batch, "mask"))
        ids = torch.where(to_random, other.to(batch.device), ids)
        targets = {"token_mask": hidden, "token_ids": batch.ids}
        return Corrupted(batch=batch.with_(ids=ids), targets=targets)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the cross-entropy; logits are computed at hidden places only."""
        at = corrupted.targets["token_mask"].nonzero().squeeze(1)
        logits = outputs.heads["token"](outputs.token_states[at])
        if not len(at):
            return {"masked_token": logits.sum()}
        loss = F.cross_entropy(logits.float(), corrupted.targets["token_ids"][at])
        return {"masked_token": loss}
