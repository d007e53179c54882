"""The commands of this package by name; importing this imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

__all__ = ["COMMANDS", "register"]

COMMANDS = {
    "pretrain": "Train a foundation model from a configuration, or go on where it stopped.",
    "finetune": "Fine-tune a model for labels: full, last blocks, LoRA, or a linear probe.",
    "estimate": "Say what a pretraining will need, from a few real steps.",
    "push": "Share a model folder on the Hugging Face Hub.",
    "runs": "List runs, or lay some side by side.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    from cellweave_nn.cli import register as add

    add(app)
