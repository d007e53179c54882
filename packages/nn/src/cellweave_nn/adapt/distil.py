"""Distil a teacher into a smaller student (Hinton et al. 2015; on states, Sanh et al. 2019).

L = 1 − cos(P s(x), t(x)) + ‖P s(x) − t(x)‖² / ‖t(x)‖²,  P a linear map, s and t cell states
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cellweave.config import ComponentConfig
from cellweave_nn.models.build import build_encoder
from cellweave_nn.models.cell_model import CellModel
from cellweave_nn.training.randomness import torch_seeded
from cellweave_nn.training.schedules import learning_rate
from cellweave_nn.training.settings import TrainingSettings
from cellweave_nn.training.source import DataOrder, TokenSource
from cellweave_nn.training.start import can_start_from_factors, start_from_factors

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Distilled", "distil"]


class Distilled:
    """Hold a student and its losses.

    Parameters
    ----------
    model
        The student; it embeds in its own width.
    losses
        One number a step.
    """

    def __init__(self, *, model: CellModel, losses: list[float]) -> None:
        self.model = model
        self.losses = losses


def distil(
    teacher: CellModel,
    adata: AnnData,
    *,
    encoder: ComponentConfig | None = None,
    parameters: Mapping[str, Any] | None = None,
    training: TrainingSettings | None = None,
    seed: int = 0,
) -> Distilled:
    """Train a student to give the teacher's cell states.

    Parameters
    ----------
    teacher
        The model to learn from; it stays as it is.
    adata
        Cells; labels are not needed. A student that can start from factors of them does.
    encoder
        The student's encoder; the teacher's own kind when not given.
    parameters
        What differs from the teacher's parameters, e.g. ``{"depth": 2}``.
    training
        Steps, slot size and rates.
    seed
        For weights and order.
    """
    settings = training or TrainingSettings(steps=200, learning_rate=1e-3)
    base = teacher.config.encoder
    name = encoder.name if encoder else base.name
    own = dict(encoder.parameters) if encoder else dict(base.parameters)
    chosen = {**own, "n_ids": teacher.n_ids, **dict(parameters or {})}
    student = build_encoder(name, chosen, seed=seed)
    source = TokenSource(
        tokens=teacher.tokenizer.encode(adata),
        special=dict(teacher.config.special),
        n_ids=teacher.n_ids,
    )
    if can_start_from_factors(student, source.tokens):
        start_from_factors(student, source.tokens, seed=seed)
    losses = _train(teacher.encoder, student, source, settings, seed)
    config = teacher.config.model_copy(
        update={
            "encoder": ComponentConfig(name=name, parameters=chosen),
            "objectives": {},
            "precision": "fp32",
            "removed_heads": {},
        }
    )
    model = CellModel(config=config, tokenizer=teacher.tokenizer, encoder=student)
    return Distilled(model=model, losses=losses)


def _train(
    teacher: nn.Module,
    student: nn.Module,
    source: TokenSource,
    settings: TrainingSettings,
    seed: int,
) -> list[float]:
    wide: Any = teacher
    narrow: Any = student
    with torch_seeded(seed, "projection"):
        projection = nn.Linear(narrow.cell_width, wide.cell_width)
    trained = [*student.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(trained, weight_decay=settings.weight_decay)
    order = DataOrder(n_cells=source.n_cells, size=settings.cells_per_slot, seed=seed)
    student.train()
    losses = []
    for step in range(settings.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, settings)
        batch = source.batch(order.cells(step))
        with torch.no_grad():
            aim = teacher(batch).cell_state
        with torch_seeded(seed, "dropout", step):
            found = projection(student(batch).cell_state)
        error = (found - aim).square().sum(-1) / aim.square().sum(-1).clamp_min(1e-12)
        loss = (1.0 - F.cosine_similarity(found, aim)).mean() + error.mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(trained, settings.clip or float("inf"))
        optimizer.step()
        losses.append(float(np.float64(loss.item())))
    return losses
