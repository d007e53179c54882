"""The joint space of all modalities, and the way of any cell into it.

A cell's coordinates are its canonical variates, each weighted by a power of its correlation and
scaled to length 1, beside its linked coordinates (length ``linked_weight``). Modalities that are
not linked meet through the one that links both (the hub): whitened cross-covariances multiply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cellweave.weaving import unit_rows
from cellweave_maxfuse.cca import common_axes
from cellweave_maxfuse.pairing import PairFit

__all__ = ["Joint", "compose_crosses", "joint_space", "linked_coordinates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """Hold modality to ``(p, k)`` weighted axes and ``(p,)`` mean, and the agreement by axis."""

    axes: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    agreement: np.ndarray
    crosses: dict[tuple[str, str], np.ndarray]

    def canonical(self, name: str, white: np.ndarray) -> np.ndarray:
        """Return the weighted canonical variates of whitened rows."""
        along: np.ndarray = ((white - self.means[name]) @ self.axes[name]).astype(np.float32)
        return along


def joint_space(
    fits: Sequence[PairFit], widths: Mapping[str, int], *, n_components: int, power: float
) -> Joint:
    """Return the common axes of all modalities."""
    crosses = compose_crosses({(f.left, f.right): f.cross for f in fits}, tuple(widths))
    axes, agreement = common_axes(crosses, widths, n_components)
    weight = (agreement / max(float(agreement[0]), 1e-12)) ** power
    means: dict[str, list[np.ndarray]] = {name: [] for name in widths}
    for fit in fits:
        means[fit.left].append(fit.left_mean)
        means[fit.right].append(fit.right_mean)
    return Joint(
        axes={m: a * weight for m, a in axes.items()},
        means={m: np.mean(v, axis=0) for m, v in means.items()},
        agreement=agreement,
        crosses=crosses,
    )


def compose_crosses(
    known: Mapping[tuple[str, str], np.ndarray], names: tuple[str, ...]
) -> dict[tuple[str, str], np.ndarray]:
    """Return the cross-covariance of every pair; missing ones go through the best hub."""
    crosses = dict(known)
    both = crosses | {(b, a): c.T for (a, b), c in crosses.items()}
    while missing := [p for p in combinations(sorted(names), 2) if p not in both]:
        for a, b in missing:
            ways = [both[a, h] @ both[h, b] for h in names if (a, h) in both and (h, b) in both]
            if ways:
                best = max(ways, key=lambda c: float(np.linalg.norm(c)))
                crosses[a, b] = best
                both |= {(a, b): best, (b, a): best.T}
    return crosses


def linked_coordinates(
    name: str,
    white: np.ndarray,
    linked: Mapping[tuple[str, str], Mapping[str, np.ndarray]],
    whites: Mapping[str, np.ndarray],
    joint: Joint,
) -> np.ndarray:
    """Return a modality's coordinates in the linked spaces of all pairs, side by side.

    In a pair that it is no part of, they are predicted from its canonical relation to a member.
    """
    parts = []
    for pair in sorted(linked):
        own = linked[pair].get(name)
        parts.append(
            own if own is not None else _predicted(name, white, linked[pair], whites, joint)
        )
    scaled: np.ndarray = np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))
    return scaled


def _predicted(
    name: str,
    white: np.ndarray,
    linked: Mapping[str, np.ndarray],
    whites: Mapping[str, np.ndarray],
    joint: Joint,
) -> np.ndarray:
    relations = {m: _cross(joint, name, m) for m in sorted(linked)}
    member = max(relations, key=lambda m: float(np.linalg.norm(relations[m])))
    there = whites[member] - joint.means[member]
    slope = relations[member] @ (there.T @ linked[member] / len(there))
    level = linked[member].mean(axis=0)
    predicted = level + (white - joint.means[name]) @ slope
    return unit_rows(predicted.astype(np.float32))


def _cross(joint: Joint, a: str, b: str) -> np.ndarray:
    return joint.crosses[a, b] if (a, b) in joint.crosses else joint.crosses[b, a].T
