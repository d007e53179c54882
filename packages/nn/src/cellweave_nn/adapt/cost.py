"""What a smaller model loses beside the one it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from cellweave.errors import DataError

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave_nn.models.cell_model import CellModel

__all__ = ["AccuracyCost", "cost_of", "neighbour_accuracy"]

_TILE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyCost:
    """Say what a smaller model loses.

    Parameters
    ----------
    mean_cosine, lowest_cosine
        Of the two embeddings of each cell, where they are of one width.
    bytes_before, bytes_after
        Of the encoders.
    accuracy_before, accuracy_after
        Share of cells whose nearest neighbours name them rightly, where labels were given.
    """

    mean_cosine: float
    lowest_cosine: float
    bytes_before: int
    bytes_after: int
    accuracy_before: float | None = None
    accuracy_after: float | None = None


def cost_of(
    before: CellModel, after: CellModel, adata: AnnData, *, label_key: str | None = None
) -> AccuracyCost:
    """Compare the embeddings of two models, and with ``label_key`` how well neighbours name cells.

    Parameters
    ----------
    before, after
        The model and what was made of it. Students may be narrower: their cosines are NaN.
    adata
        Cells; best those that neither model was trained on.
    label_key
        ``obs`` column of types.
    """
    a, b = (m.embed(adata).values.astype(np.float64) for m in (before, after))
    cosine = np.array([np.nan])
    if a.shape == b.shape:
        cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    found: tuple[float | None, float | None] = (None, None)
    if label_key is not None:
        labels = _labels_of(adata, label_key)
        found = neighbour_accuracy(a, labels), neighbour_accuracy(b, labels)
    return AccuracyCost(
        mean_cosine=float(cosine.mean()),
        lowest_cosine=float(cosine.min()),
        bytes_before=_bytes(before.encoder),
        bytes_after=_bytes(after.encoder),
        accuracy_before=found[0],
        accuracy_after=found[1],
    )


def neighbour_accuracy(embedding: np.ndarray, labels: np.ndarray, *, k: int = 15) -> float:
    """Return the share of cells that the majority of their ``k`` nearest others names rightly.

    Nearness is the cosine; a tie goes to the type that comes first in the alphabet.
    """
    names, codes = np.unique(labels, return_inverse=True)
    unit = embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
    k = min(k, len(unit) - 1)
    right = 0
    for start in range(0, len(unit), _TILE):
        near = unit[start : start + _TILE] @ unit.T
        rows = np.arange(len(near))
        near[rows, start + rows] = -np.inf  # a cell is no neighbour of its own
        chosen = codes[np.argpartition(-near, k - 1, axis=1)[:, :k]]
        votes = np.zeros((len(near), len(names)))
        np.add.at(votes, (rows[:, None], chosen), 1)
        right += int((votes.argmax(1) == codes[start : start + _TILE]).sum())
    return right / len(unit)


def _labels_of(adata: AnnData, key: str) -> np.ndarray:
    if key not in adata.obs:
        msg = f"obs has no column {key!r}; it has {list(adata.obs)}. Name one as `label_key`."
        raise DataError(msg)
    labels: np.ndarray = adata.obs[key].astype(str).to_numpy(dtype=str)
    return labels


def _bytes(module: nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors)
