"""Smaller weights for inference: int8 with scales found on the fly, or bfloat16.

Jacob et al. 2018. Each row of a weight has one scale, each row of an activation another, found
when it comes:

    W ≈ s_w · W₈,  x ≈ s_x · x₈;   y = s_w s_x (x₈ W₈ᵀ) + b,  the product in whole numbers
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal

from cellweave.errors import ConfigError
from cellweave_nn.adapt.cost import AccuracyCost, cost_of
from cellweave_nn.adapt.shrunk import Int8Linear, reshaped

if TYPE_CHECKING:
    from cellweave_nn.models.cell_model import CellModel

__all__ = ["AccuracyCost", "Int8Linear", "cost_of", "quantise"]


def quantise(model: CellModel, *, to: Literal["int8", "bf16"] = "int8") -> CellModel:
    """Return a smaller copy of a model for inference; the model itself stays as it is.

    The copy is saved and loaded as any other; :func:`cost_of` says what it costs.
    """
    if model.config.precision != "fp32":
        msg = f"The model is {model.config.precision} already. Quantise the one it was made from."
        raise ConfigError(msg)
    small = copy.deepcopy(model)
    reshaped(small.encoder, removed_heads={}, precision=to)
    small.config = model.config.model_copy(update={"precision": to})
    return small
