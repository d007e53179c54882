"""Labels, and labels that know their ontology.

Supervision: cross-entropy of the label from the cell's state (TEDDY), or against learned
prototypes on the sphere (the coherence term of scCello).
Contrast: Yuan et al. 2024 (scCello). Cells of one type attract; other cells push the harder the
farther their type is in the ontology; types that are ancestors of one another are left out:

    π = personalised PageRank on the ontology;  level = ⌊log2(π/10⁻⁴ + 1)⌋
    w_ik = 1 − level_ik / max level
    L = −mean_{i,j same type} log [ e_ij / (e_ij + Σ_{k other, no ancestor} w_ik e_ik) ]
    e_ij = exp(z_i·z_j/τ)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.batch import TokenBatch
from cellweave_nn.objectives.adversarial import context_codes
from cellweave_nn.objectives.heads import HeadShape, ProjectionHead
from cellweave_nn.outputs import Corrupted, EncoderOutput

__all__ = ["LabelSupervision", "OntologyContrast", "ontology_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSupervision:
    """Predict a cell's label.

    Parameters
    ----------
    n_labels
        Number of labels.
    key
        Per-cell context that holds the code; negative codes are unknown and left out.
    prototypes
        Compare with a learned prototype a label on the sphere, instead of a linear head.
    temperature
        Of the comparison with prototypes.
    """

    n_labels: int
    key: str = "cell_type"
    prototypes: bool = False
    temperature: float = 0.1

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the linear map from states to labels."""
        return {"label": nn.Linear(shape.cell_width, self.n_labels, bias=not self.prototypes)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide nothing."""
        return Corrupted(batch=batch, targets={})

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the cross-entropy over labelled cells."""
        codes = context_codes(corrupted.batch, self.key, self.n_labels, who="nn.labels")
        head = outputs.heads["label"]
        if self.prototypes:
            assert isinstance(head, nn.Linear)
            unit = F.normalize(outputs.cell_state, dim=-1)
            logits = unit @ F.normalize(head.weight, dim=-1).T / self.temperature
        else:
            logits = head(outputs.cell_state)
        if not bool((codes >= 0).any()):
            return {"labels": logits.sum() * 0.0}
        return {"labels": F.cross_entropy(logits.float(), codes, ignore_index=-100)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OntologyContrast:
    """Place cell types as the ontology places them.

    Parameters
    ----------
    parents
        For each label code, the codes of its parents.
    key
        Per-cell context that holds the code; negative codes are left out.
    temperature
        τ.
    width
        Features that are compared.
    """

    parents: list[list[int]]
    key: str = "cell_type"
    temperature: float = 0.1
    width: int = 64

    def heads(self, shape: HeadShape) -> dict[str, nn.Module]:
        """Build the projection to the sphere."""
        return {"ontology": ProjectionHead(shape.cell_width, self.width)}

    def corrupt(self, batch: TokenBatch, generator: torch.Generator) -> Corrupted:
        """Hide nothing."""
        return Corrupted(batch=batch, targets={})

    def loss(self, outputs: EncoderOutput, corrupted: Corrupted) -> Mapping[str, torch.Tensor]:
        """Return the mean over pairs of cells of one type."""
        codes = context_codes(corrupted.batch, self.key, len(self.parents), who="nn.ontology")
        z = outputs.heads["ontology"](outputs.cell_state).float()
        weights = torch.from_numpy(ontology_weights(self.parents)).to(z)
        return {"ontology": ontology_loss(z, codes, weights, self.temperature)}


def ontology_loss(
    z: torch.Tensor, codes: torch.Tensor, weights: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Return the loss of the module's docstring for unit rows ``z``."""
    rows = (codes >= 0).nonzero().squeeze(1)
    z, codes = z[rows], codes[rows]
    energy = (z @ z.T / temperature).exp()
    push = (energy * weights[codes][:, codes]).sum(1, keepdim=True)
    same = (codes[:, None] == codes[None, :]) & ~torch.eye(
        len(codes), dtype=torch.bool, device=z.device
    )
    loss = -(energy / (energy + push)).log()
    return (loss * same).sum() / same.sum().clamp_min(1)


def ontology_weights(
    parents: Sequence[Sequence[int]], *, restart: float = 0.1, unit: float = 1e-4
) -> np.ndarray:
    """Return ``(n, n)`` weights of negatives: 0 for a type itself and its ancestors or heirs."""
    n = len(parents)
    linked, above = np.zeros((n, n)), np.eye(n, dtype=bool)
    for child, its_parents in enumerate(parents):
        for parent in its_parents:
            linked[child, parent] = linked[parent, child] = 1.0
            above[child, parent] = True
    for _ in range(n.bit_length()):  # the ancestors of ancestors, twice as far each time
        above = above | (above.astype(int) @ above.astype(int) > 0)
    walk = linked / np.maximum(linked.sum(1, keepdims=True), 1.0)
    rank = restart * np.linalg.inv(np.eye(n) - (1.0 - restart) * walk)
    level = np.floor(np.log2(rank / unit + 1.0))
    weights = 1.0 - level / level.max()
    weights[above | above.T] = 0.0
    return weights.astype(np.float32)
