"""Stop within the step in which a number stops being one, and say where it happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from cellweave.errors import CellweaveError, NumericalError
from cellweave_nn.training.sharding import is_sharded, local

if TYPE_CHECKING:
    from cellweave_nn.batch import TokenBatch
    from cellweave_nn.training.model import PretrainingModel

__all__ = ["check_gradients", "check_loss"]


def check_loss(
    total: torch.Tensor,
    terms: Mapping[str, torch.Tensor],
    *,
    model: PretrainingModel,
    batch: TokenBatch,
    names: list[str],
    step: int,
) -> None:
    """Raise when the loss of a slot is not finite, naming terms, parameter and cells."""
    if bool(torch.isfinite(total)):
        return
    wrong = [name for name, term in terms.items() if not bool(torch.isfinite(term))]
    parameter = _first_broken(model, gradients=False)
    # One rank alone cannot run a sharded model: the others would have to take part.
    cells = names if is_sharded(model) else _broken_cells(model, batch, names)
    msg = (
        f"The loss is {total.item()} at step {step} (terms: {', '.join(wrong) or 'total'}). "
        f"{_of_parameter(parameter, 'value')} {_of_cells(cells)} "
        "The last checkpoint is untouched. Lower the learning rate, or look at these cells."
    )
    raise NumericalError(msg)


def check_gradients(model: nn.Module, norm: torch.Tensor, *, names: list[str], step: int) -> None:
    """Raise when the norm of all gradients is not finite, naming the first parameter."""
    if bool(torch.isfinite(norm)):
        return
    parameter = _first_broken(model, gradients=True)
    msg = (
        f"The gradient is not finite at step {step}. {_of_parameter(parameter, 'gradient')} "
        f"{_of_cells(names)} The last checkpoint is untouched. Lower the learning rate or "
        "`training.clip`, or look at these cells."
    )
    raise NumericalError(msg)


def _first_broken(model: nn.Module, *, gradients: bool) -> str | None:
    for name, parameter in model.named_parameters():
        tensor = parameter.grad if gradients else parameter
        if tensor is not None and not bool(torch.isfinite(local(tensor)).all()):
            return name
    return None


@torch.no_grad()
def _broken_cells(model: PretrainingModel, batch: TokenBatch, names: list[str]) -> list[str]:
    """Encode cells one by one and return those whose states are not finite."""
    broken = []
    if len(names) != batch.n_cells:  # two views of each cell, or modalities apart
        return names
    for row, name in enumerate(names):
        try:
            state = model.encoder(batch.select([row])).cell_state
        except CellweaveError:
            continue
        if not bool(torch.isfinite(state).all()):
            broken.append(name)
    return broken or names


def _of_parameter(name: str | None, what: str) -> str:
    if name is None:
        return "No parameter is broken, so the input is to blame."
    return f"The {what} of parameter {name!r} is broken."


def _of_cells(cells: list[str]) -> str:
    shown = ", ".join(repr(c) for c in cells[:5])
    more = f" and {len(cells) - 5} more" if len(cells) > 5 else ""
    return f"Cells: {shown}{more}."
