"""Bring the modalities of one cell together.

Radford et al. 2021 (CLIP); scMamba adds the cosine term. a, b are unit states of two modalities:

    L = ½ [CE(s a bᵀ, i) + CE(s b aᵀ, i)] + λ (1 − mean_i a_i·b_i),  s learned

``separate`` encodes each modality of a cell alone (a two-tower model in one encoder); otherwise
the mean token states of a joint encoding are compared. Cells that lack a modality of a pair are
left out of that pair, so mosaic data are fine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.layers.ragged import cell_mean
from cellweave_nn.objectives.heads import HeadShape, ProjectionHead, ScaleHead
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["ModalityAlignment", "clip_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityAlignment:
    """Align the modalities of a cell.

    Parameters
    ----------
    n_modalities
        Number of modalities.
    separate
        As above.
    cosine
        λ.
    width
        Features that are compared.
    """

    n_modalities: int = 2
    separate: bool = True
    cosine: float = 1.0
    width: int = 64

    @property
    def changes_cells(self) -> bool:
        """Tell whether the corrupted batch has other cells than the batch."""
        return self.separate

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the projection to the sphere and the scale."""
        width = shape.cell_width if self.separate else shape.token_width
        return {"aligned": ProjectionHead(width, self.width), "scale": ScaleHead()}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Say which cells have which modality; split the cells where they are encoded alone."""
        if batch.modality is None:
            msg = "nn.alignment needs several modalities. Tokenize more than one."
            raise DataError(msg)
        slot = batch.cell_of_token() * self.n_modalities + batch.modality
        size = batch.n_cells * self.n_modalities
        present = torch.zeros(size, dtype=torch.bool, device=batch.device).index_fill(
            0, slot, value=True
        )
        targets = {"present": present.view(-1, self.n_modalities)}
        if not self.separate:
            return Corrupted(batch=batch, targets=targets)
        parts = []
        for modality in range(self.n_modalities):
            parts.append(batch.keep(batch.modality == modality))
        return Corrupted(batch=_joined(parts), targets=targets)

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean over pairs of modalities."""
        present = corrupted.targets["present"]
        if self.separate:
            states = outputs.cell_state.view(self.n_modalities, len(present), -1)
        else:
            batch = corrupted.batch
            assert batch.modality is not None
            slot = batch.modality * batch.n_cells + batch.cell_of_token()
            means = cell_mean(outputs.token_states, slot, self.n_modalities * batch.n_cells)
            states = means.view(self.n_modalities, batch.n_cells, -1)
        losses = []
        for one, other in combinations(range(self.n_modalities), 2):
            rows = (present[:, one] & present[:, other]).nonzero().squeeze(1)
            a, b = (outputs.heads["aligned"](states[m, rows]).float() for m in (one, other))
            losses.append(clip_loss(a, b, outputs.heads["scale"], cosine=self.cosine))
        return {"alignment": torch.stack(losses).mean()}


def clip_loss(a: torch.Tensor, b: torch.Tensor, scale: nn.Module, *, cosine: float) -> torch.Tensor:
    """Return the symmetric cross-entropy of unit rows that pair by index, and the cosine term."""
    if not len(a):
        return a.sum() + scale(a.sum())
    logits = scale(a @ b.T)
    pair = torch.arange(len(a), device=a.device)
    contrast = 0.5 * (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair))
    return contrast + cosine * (1.0 - (a * b).sum(-1).mean())


def _joined(parts: list[TokenBatch]) -> TokenBatch:
    """Put batches one after another."""
    first = parts[0]
    offsets, start = [first.offsets], first.offsets[-1]
    for part in parts[1:]:
        offsets.append(part.offsets[1:] + start)
        start = offsets[-1][-1]

    def cat(name: str) -> torch.Tensor | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else torch.cat(found)

    ids = cat("ids")
    assert ids is not None
    return first.with_(
        offsets=torch.cat(offsets),
        ids=ids,
        values=cat("values"),
        modality=cat("modality"),
        positions=cat("positions"),
        known=cat("known"),
        context={k: torch.cat([p.context[k] for p in parts]) for k in first.context},
        lengths=tuple(n for part in parts for n in part.lengths),
    )
