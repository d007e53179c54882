"""The command ``cellweave``."""

from __future__ import annotations

from cellweave.cli.app import main

__all__ = ["main"]
