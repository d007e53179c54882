"""What the values of expression data may be where raw counts no longer exist."""

from __future__ import annotations

from typing import Literal

__all__ = ["ExpressionValues", "without_counts"]

ExpressionValues = Literal["counts", "normalised", "log1p"]


def without_counts(modality: str) -> str:
    """Say how to prepare expression data of which only processed values exist."""
    return (
        "Where no counts exist: values='log1p' for logarithms, values='normalised' for TPM and "
        f"other divided counts; cellweave prepare DATA -o READY --set {modality}.values=log1p."
    )
