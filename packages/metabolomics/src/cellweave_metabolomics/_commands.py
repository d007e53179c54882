"""The commands of this package; importing this imports no typer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    from cellweave_metabolomics.commands import register as add_commands

    add_commands(app)
