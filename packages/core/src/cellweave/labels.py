"""Which labels are labels: a cell called "unknown" has none."""

from __future__ import annotations

import numpy as np

__all__ = ["NO_LABEL", "is_known"]

# In small letters; what tables write where nobody knows.
NO_LABEL = frozenset(
    {"", "nan", "na", "n/a", "<na>", "none", "null", "unknown", "undefined", "unlabelled",
     "unlabeled", "unassigned", "unannotated", "not available"}
)  # fmt: skip


def is_known(labels: np.ndarray) -> np.ndarray:
    """Tell which labels are given: not missing, and no word for missing."""
    values = np.asarray(labels, dtype=object)
    names, codes = np.unique(values.astype(str), return_inverse=True)
    says_something = np.array([n.strip().lower() not in NO_LABEL for n in names], dtype=bool)
    known: np.ndarray = says_something[codes.reshape(values.shape)]
    return known
