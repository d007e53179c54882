"""The commands of this package; importing this imports no task."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    from cellweave_tasks.commands import register as add_tasks
    from cellweave_tasks.commands_zeroshot import register as add_zeroshot

    add_tasks(app)
    add_zeroshot(app)
