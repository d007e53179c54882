"""Mamba-2 in plain chunked matrix products, and its bidirectional form.

Dao and Gu 2024 (Mamba-2, state-space duality); Qi et al. 2025 (GeneMamba: both directions):

    S_t = exp(Δ_t A) S_{t-1} + Δ_t x_t B_tᵀ,   y_t = S_t C_t + D x_t
    within a chunk:   Y = (C Bᵀ ∘ decay) (Δ x), one matrix product
    between chunks:   only S is carried on, so the cost is linear in length

Parameters are named as in the published state dicts: ``in_proj conv1d dt_bias A_log D norm
out_proj``. Shapes: B cells, L length, H heads, P head width, S state, C chunk length.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from cellweave.errors import ConfigError
from cellweave_nn.layers.layout import Layout
from cellweave_nn.layers.norm import make_norm
from cellweave_nn.layers.tags import NO_TAGS, Tags

__all__ = ["BidirectionalMamba", "GatedRMSNorm", "Mamba2", "chunked_scan"]

# On a CPU a cell is read in pieces of so many tokens: temporaries of all of it leave the cache,
# and beyond 32 MiB the allocator asks the system for fresh pages each time. Read whole, a token
# of 16 000 cost twice what one of 4 000 did.
_TOKENS_AT_ONCE = 4096

Carried = tuple[torch.Tensor, torch.Tensor]


class GatedRMSNorm(nn.Module):
    """Normalise ``x · silu(gate)`` by its root mean square."""

    def __init__(self, width: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """Map ``(…, D)`` to ``(…, D)``."""
        gated = x * F.silu(gate)
        scale = torch.rsqrt(gated.square().mean(-1, keepdim=True) + self.eps)
        return gated * scale * self.weight


class Mamba2(nn.Module):
    """Run one selective state space over each cell from left to right.

    Parameters
    ----------
    width
        D.
    state
        S, features of the state.
    conv
        Length of the causal convolution.
    expand
        Inner width over D.
    head_width
        P.
    groups
        Groups of heads that share B and C.
    chunk
        C; the result does not depend on it beyond rounding.
    """

    def __init__(
        self,
        width: int,
        *,
        state: int = 64,
        conv: int = 4,
        expand: int = 2,
        head_width: int = 64,
        groups: int = 1,
        chunk: int = 64,
    ) -> None:
        super().__init__()
        inner = expand * width
        if inner % head_width:
            msg = f"Inner width {inner} does not divide by head width {head_width}. Change one."
            raise ConfigError(msg)
        self.inner, self.state, self.groups = inner, state, groups
        self.head_width, self.heads, self.chunk = head_width, inner // head_width, chunk
        mixed = inner + 2 * groups * state
        self.in_proj = nn.Linear(width, inner + mixed + self.heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, conv, groups=mixed)
        self.dt_bias = nn.Parameter(_inverse_softplus(torch.rand(self.heads)))
        self.A_log = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedRMSNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x_bld: torch.Tensor) -> torch.Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``; what stands to the right changes nothing."""
        if x_bld.device.type != "cpu":
            return self._read(x_bld, None)[0]
        cells = max(1, _TOKENS_AT_ONCE // max(x_bld.shape[1], 1))
        parts = [self._in_pieces(part) for part in torch.split(x_bld, cells)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _in_pieces(self, x_bld: torch.Tensor) -> torch.Tensor:
        """Read some cells piece by piece; what was read is carried on."""
        chunks = max(1, _TOKENS_AT_ONCE // (self.chunk * max(len(x_bld), 1)))
        pieces, carried = [], None
        # Split, not sliced, here and below: the gradient of a slice is a whole tensor of zeros.
        for piece in torch.split(x_bld, chunks * self.chunk, dim=1):
            read, carried = self._read(piece, carried)
            pieces.append(read)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

    def _read(self, x_bld: torch.Tensor, carried: Carried | None) -> tuple[torch.Tensor, Carried]:
        """Return the piece's output, and what the next piece needs: last places, and the state."""
        shared = self.groups * self.state
        sizes = [self.inner, self.inner + 2 * shared, self.heads]
        gate, mixed, dt = torch.split(self.in_proj(x_bld), sizes, dim=-1)
        mixed, last = self._convolved(mixed, carried[0] if carried else None)
        x, b, c = torch.split(F.silu(mixed), [self.inner, shared, shared], dim=-1)
        x_blhp = torch.unflatten(x, -1, (self.heads, self.head_width))
        dt = F.softplus(dt + self.dt_bias)
        y, state = _scanned(
            x_blhp * dt.unsqueeze(-1),
            -self.A_log.exp() * dt,
            torch.unflatten(b, -1, (self.groups, self.state)),
            torch.unflatten(c, -1, (self.groups, self.state)),
            chunk=self.chunk,
            state=carried[1] if carried else None,
        )
        y = y + self.D.unsqueeze(-1) * x_blhp
        return self.out_proj(self.norm(y.flatten(-2), gate)), (last, state)

    def _convolved(
        self, mixed_bld: torch.Tensor, before: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix each place with the few before it; return the last few as well."""
        taps, few = self.conv1d.weight[:, 0], self.conv1d.kernel_size[0] - 1
        length, bias = mixed_bld.shape[1], self.conv1d.bias
        assert bias is not None
        if before is None:
            before = mixed_bld.new_zeros(len(mixed_bld), few, mixed_bld.shape[2])
        seen = torch.cat([before, mixed_bld], dim=1)
        # Tap by tap: conv1d on a CPU keeps a kernel of half a megabyte for every shape it meets.
        out = torch.addcmul(bias, seen.narrow(1, 0, length), taps[:, 0])
        for k in range(1, few + 1):
            out = out.addcmul_(seen.narrow(1, k, length), taps[:, k])
        return out, seen.narrow(1, length, few)


def chunked_scan(
    x: torch.Tensor, log_decay: torch.Tensor, b: torch.Tensor, c: torch.Tensor, *, chunk: int
) -> torch.Tensor:
    """Solve the recurrence of the module's docstring.

    Parameters
    ----------
    x
        ``(B, L, H, P)``, already times Δ.
    log_decay
        ``(B, L, H)``, Δ A, never positive.
    b, c
        ``(B, L, G, S)``, shared by ``H / G`` heads each.
    chunk
        C.

    Returns
    -------
    torch.Tensor
        ``(B, L, H, P)``.
    """
    return _scanned(x, log_decay, b, c, chunk=chunk, state=None)[0]


def _scanned(
    x: torch.Tensor,
    log_decay: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    *,
    chunk: int,
    state: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Go on from a state ``(B, H, S, P)``; return outputs and the last state."""
    length, repeat = x.shape[1], x.shape[2] // b.shape[2]
    missing = -length % chunk
    # To (B, H, chunks, C, …); zeros on the right add nothing to any state.
    x, b, c = (_chunks(_pad_length(t, missing), chunk) for t in (x, b, c))
    decay = _chunks(_pad_length(log_decay, missing).unsqueeze(-1), chunk).squeeze(-1).cumsum(-1)
    if b.shape[1] > 1:  # one group broadcasts by itself
        b, c = (t.repeat_interleave(repeat, dim=1) for t in (b, c))
    within = _within_chunk(decay)
    y = ((c @ b.transpose(-1, -2)) * within) @ x
    to_end = torch.exp(decay[..., -1:] - decay).unsqueeze(-1)
    states = (b.transpose(-1, -2)) @ (x * to_end)
    before, state = _carry(states, decay[..., -1].exp(), state)
    y = y + (c @ before) * decay.exp().unsqueeze(-1)
    return y.flatten(2, 3).transpose(1, 2)[:, :length], state


def _pad_length(t: torch.Tensor, missing: int) -> torch.Tensor:
    return F.pad(t, [0, 0] * (t.dim() - 2) + [0, missing]) if missing else t


def _chunks(t: torch.Tensor, chunk: int) -> torch.Tensor:
    return torch.unflatten(t.transpose(1, 2), 2, (-1, chunk))


def _within_chunk(decay: torch.Tensor) -> torch.Tensor:
    """Return ``exp(decay_i − decay_j)`` for ``j ≤ i`` and 0 elsewhere."""
    difference = decay.unsqueeze(-1) - decay.unsqueeze(-2)
    later = torch.ones(difference.shape[-2:], dtype=torch.bool, device=decay.device).triu(1)
    return difference.masked_fill(later, float("-inf")).exp()


def _carry(
    states: torch.Tensor, decay: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the state before each chunk, ``(B, H, chunks, S, P)``, and the one after the last."""
    current = torch.zeros_like(states[:, :, 0]) if state is None else state
    before = []
    # Unbound once: a chunk that is indexed costs a gradient as large as all of them.
    for added, kept in zip(states.unbind(2), decay[..., None, None].unbind(2), strict=True):
        before.append(current)
        current = torch.addcmul(added, current, kept)
    return torch.stack(before, dim=2), current


class BidirectionalMamba(nn.Module):
    """Read each cell from both ends and fuse the two readings.

    Parameters
    ----------
    width
        D.
    fuse
        ``"mean"``, ``"sum"``, ``"concat"`` (then a projection), ``"gate"``, or ``"none"``: both
        readings side by side, ``2 · D`` wide, for a fusion that blocks share.
    shared
        One state space for both directions, as published, or one each.
    norm
        Kind of norm before the state spaces; ``"none"`` as published.
    options
        Passed to :class:`Mamba2`.
    """

    def __init__(
        self,
        width: int,
        *,
        fuse: Literal["mean", "sum", "concat", "gate", "none"] = "mean",
        shared: bool = True,
        norm: str = "rms",
        **options: int,
    ) -> None:
        super().__init__()
        self.fuse = fuse
        self.norm = make_norm(norm, width)
        self.mamba = Mamba2(width, **options)
        self.backward_mamba = None if shared else Mamba2(width, **options)
        self.aggr = nn.Linear(2 * width, width) if fuse in ("concat", "gate") else None

    def forward(self, x: torch.Tensor, layout: Layout, tags: Tags = NO_TAGS) -> torch.Tensor:
        """Map ``(…, D)`` to ``(…, D)``, or to ``(…, 2 · D)`` when nothing is fused."""
        return layout.map(self._both, x)

    def _both(self, x: torch.Tensor, is_token: torch.Tensor | None) -> torch.Tensor:
        seen = self.norm(x)
        forward = self.mamba(seen) + x
        order = _reversal(x, is_token)
        reader = self.backward_mamba or self.mamba
        flipped = seen.gather(1, order) if is_token is not None else seen.flip(1)
        backward = reader(flipped)
        backward = backward.gather(1, order) if is_token is not None else backward.flip(1)
        return self._fused(forward, backward + x)

    def _fused(self, forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
        if self.fuse == "none":
            return torch.cat([forward, backward], dim=-1)
        if self.aggr is None:
            return (forward + backward) * (0.5 if self.fuse == "mean" else 1.0)
        mixed: torch.Tensor = self.aggr(torch.cat([forward, backward], dim=-1))
        if self.fuse == "concat":
            return mixed
        gate = torch.sigmoid(mixed)
        return gate * forward + (1 - gate) * backward


def _reversal(x: torch.Tensor, is_token: torch.Tensor | None) -> torch.Tensor:
    """Return the gather index that turns round the tokens and leaves the padding."""
    places = torch.arange(x.shape[1], device=x.device)
    if is_token is None:
        return places
    counts = is_token.sum(1, keepdim=True)
    order = torch.where(is_token, counts - 1 - places, places)
    return order.unsqueeze(-1).expand_as(x)


def _inverse_softplus(uniform: torch.Tensor) -> torch.Tensor:
    """Spread initial steps Δ between 0.001 and 0.1, evenly in the logarithm."""
    low, high = math.log(1e-3), math.log(1e-1)
    dt = torch.exp(uniform * (high - low) + low)
    return dt + torch.log(-torch.expm1(-dt))
