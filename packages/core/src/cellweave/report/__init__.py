"""The former place of :mod:`cellweave.reporting`; its name is that of the verb ``report``."""

from __future__ import annotations

from cellweave.reporting import write_comparison_report, write_report

__all__ = ["write_comparison_report", "write_report"]
