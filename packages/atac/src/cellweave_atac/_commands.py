"""The command of this package; importing this imports no typer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    from cellweave_atac.commands import register as add_activity

    add_activity(app)
