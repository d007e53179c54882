"""How much of the machine a run uses: needed matrix products over what the machine can do.

Counted strictly: products of linear layers at the rows they are applied to, query by key and
weight by value within each cell (padding counts for nothing, half for causal), the chunk products
of state spaces; twice as much again for the backward pass where there is one. Look-ups, norms and
what is computed again for memory's sake count for nothing. Attention grows with the square of a
cell's length and all else with its length, so one slot is enough to know every later one.

    MFU = needed products a second / products a second of one large square matrix product
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.favor import FavorAttention
from cellweave_nn.layers.flow import FlowAttention
from cellweave_nn.layers.layout import Layout, Packed
from cellweave_nn.layers.mamba import Mamba2
from cellweave_nn.layers.masked_linear import MaskedLinear

__all__ = ["Work", "counted_work", "gemm_rate"]

_SIZE = {"cpu": 1024, "cuda": 8192}
_REPEATS = 5


@dataclass(slots=True, kw_only=True)
class Work:
    """Hold floating-point operations of a slot that was watched.

    Parameters
    ----------
    linear
        Those that grow with the number of tokens.
    squared
        Those that grow with its square.
    tokens, pairs
        Σ n and Σ n² over the cells of that slot.
    """

    linear: float = 0.0
    squared: float = 0.0
    tokens: int = 0
    pairs: int = 0

    def of(self, lengths: Sequence[int]) -> float:
        """Return the operations of a slot whose cells have these lengths."""
        tokens, pairs = _sizes(lengths)
        return self.linear * tokens / max(self.tokens, 1) + self.squared * pairs / max(
            self.pairs, 1
        )


@contextmanager
def counted_work(model: nn.Module, lengths: Sequence[int]) -> Iterator[Work]:
    """Watch one forward pass and yield what it needs, its backward pass included."""
    tokens, pairs = _sizes(lengths)
    work = Work(tokens=tokens, pairs=pairs)
    handles = [
        module.register_forward_hook(_watcher(work), always_call=False)
        for module in model.modules()
        if isinstance(module, nn.Linear | MaskedLinear | SelfAttention | Mamba2)
    ]
    try:
        yield work
    finally:
        for handle in handles:
            handle.remove()


def gemm_rate(device: torch.device, precision: str = "fp32") -> float:
    """Measure operations a second of one large square product, the best of a few."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    size = _SIZE.get(device.type, 1024)
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    out = torch.empty_like(a)
    best = float("inf")
    for _ in range(_REPEATS):
        _finish(device)
        begun = time.perf_counter()
        torch.mm(a, a, out=out)
        _finish(device)
        best = min(best, time.perf_counter() - begun)
    return float(2 * size**3 / best)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sizes(lengths: Sequence[int]) -> tuple[int, int]:
    return sum(lengths), sum(n * n for n in lengths)


def _watcher(work: Work):  # type: ignore[no-untyped-def] # noqa: ANN202 - torch types the hook
    def hook(module: nn.Module, args: tuple[object, ...], out: torch.Tensor) -> None:
        trained = 3 if out.requires_grad else 1
        if isinstance(module, nn.Linear):
            frozen = out.requires_grad and not module.weight.requires_grad
            rows = out.numel() // max(module.out_features, 1)
            size = module.in_features * module.out_features
            work.linear += 2.0 * rows * size * (2 if frozen else trained)
        elif isinstance(module, MaskedLinear):
            work.linear += 2.0 * len(out) * module.weight.numel() * trained
        elif isinstance(module, SelfAttention):
            _add_attention(work, module, args[1], trained)  # type: ignore[arg-type]
        elif isinstance(module, Mamba2):
            work.linear += _of_state_space(module, out) * trained

    return hook


def _add_attention(work: Work, module: SelfAttention, layout: Layout, trained: int) -> None:
    tokens, pairs = _sizes(_lengths(layout))
    width, kernel = module.head_width, module.kernel
    if isinstance(kernel, FavorAttention):
        m = len(kernel.projection_matrix)
        work.linear += 8.0 * tokens * module.heads * m * width * trained
    elif isinstance(kernel, FlowAttention):
        work.linear += 4.0 * tokens * module.heads * width * width * trained
    else:
        share = 0.5 if getattr(kernel, "causal", False) else 1.0
        work.squared += 4.0 * pairs * module.heads * width * share * trained


def _of_state_space(module: Mamba2, out: torch.Tensor) -> float:
    rows = out.shape[0] * out.shape[1]
    within = module.chunk * (module.groups * module.state + module.heads * module.head_width)
    states = 2 * module.state * module.heads * module.head_width
    return 2.0 * rows * (within + states)


def _lengths(layout: Layout) -> Sequence[int]:
    if isinstance(layout, Packed):
        return layout.lengths
    if layout.is_token is None:
        return ()
    counts: list[int] = layout.is_token.sum(1).tolist()
    return counts
