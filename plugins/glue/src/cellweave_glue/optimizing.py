"""RMSprop in one pass over memory, with a bound on the length of the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from cellweave_glue import kernels
from cellweave_glue.fused import applies

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RmsProp"]

_DECAY = 0.99
_FLOOR = 1e-8


class RmsProp:
    """Divide each gradient by the root of its running mean square; PyTorch's defaults.

    Parameters
    ----------
    parameters
        What is optimised.
    largest
        Longest gradient, all parameters together; a longer one is shrunk to it.
    """

    def __init__(self, parameters: Iterable[Tensor], *, largest: float = math.inf) -> None:
        self._parameters = list(parameters)
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        self._largest = largest

    def forget_gradients(self) -> None:
        """Drop all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step against the gradients that there are."""
        shrink = self._shrink()
        for parameter, square in zip(self._parameters, self._squares):
            if parameter.grad is None:
                continue
            if applies(parameter):
                flat = (parameter, parameter.grad.contiguous(), square)
                kernels.rmsprop_sweep(
                    *(t.detach().view(-1).numpy() for t in flat),
                    *(np.float32(x) for x in (rate, _DECAY, _FLOOR, shrink)),
                )
                continue
            gradient = parameter.grad * shrink
            square.mul_(_DECAY).addcmul_(gradient, gradient, value=1 - _DECAY)
            parameter.addcdiv_(gradient, square.sqrt().add_(_FLOOR), value=-rate)

    def _shrink(self) -> float:
        if math.isinf(self._largest):
            return 1.0
        flat = [p.grad.reshape(-1) for p in self._parameters if p.grad is not None]
        length = math.sqrt(sum(float(torch.dot(g, g)) for g in flat))
        return min(1.0, self._largest / (length + 1e-6))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the running means, by the parameter's place."""
        return {str(i): s.cpu().numpy().copy() for i, s in enumerate(self._squares)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back :meth:`arrays`."""
        for i, square in enumerate(self._squares):
            square.copy_(torch.as_tensor(np.array(arrays[str(i)])))
