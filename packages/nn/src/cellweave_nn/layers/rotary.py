"""Rotary positions (Su et al. 2021): rotate pairs of a head's features by the token's place."""

from __future__ import annotations

import torch

__all__ = ["rotate"]


def rotate(x: torch.Tensor, places: torch.Tensor, *, base: float = 10_000.0) -> torch.Tensor:
    """Rotate ``(…, H, K)`` by integer ``places`` ``(…)``; halves, not neighbours, are paired."""
    half = x.shape[-1] // 2
    rate = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = (places[..., None].to(torch.float32) * rate).unsqueeze(-2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
