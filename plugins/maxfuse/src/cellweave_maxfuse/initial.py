"""The first co-embedding: what the linked features alone say, once smoothed.

``A, B`` smoothed linked values, columns standardised and weighted by how much of their spread
survived smoothing in both modalities (noise averages out, structure stays), rows of unit length.
``A B' ≈ U D V'`` gives coordinates ``U D^½`` and ``V D^½`` in one space; no cells × cells matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellweave.weaving import product_svd, standardised, unit_rows

__all__ = ["LinkedSpace", "linked_space"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedSpace:
    """Hold unit-length coordinates ``(n, d)`` of both sides and the ``(d,)`` singular values."""

    left: np.ndarray
    right: np.ndarray
    sizes: np.ndarray


def linked_space(left: np.ndarray, right: np.ndarray, n_components: int) -> LinkedSpace:
    """Return the co-embedding of two smoothed linked matrices with corresponding columns.

    ``left`` and ``right`` hold values that were standardised *before* smoothing.
    """
    kept = np.sqrt(left.std(axis=0) * right.std(axis=0))
    a, b = unit_rows(standardised(left) * kept), unit_rows(standardised(right) * kept)
    u, s, v = product_svd(a, b, n_components)
    scale = np.sqrt(s / s[0]) if len(s) and s[0] > 0 else s
    return LinkedSpace(
        left=unit_rows((u * scale).astype(np.float32)),
        right=unit_rows((v * scale).astype(np.float32)),
        sizes=s,
    )
