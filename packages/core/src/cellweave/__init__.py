"""cellweave: single-cell multi-omics foundation models and integration, from parts that fit."""

from __future__ import annotations
