"""The command ``cellweave models``: what can be read, and a check of what was downloaded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellweave.cli.options import Json
from cellweave.cli.output import say, show_json, show_table
from cellweave.errors import PluginLoadError

if TYPE_CHECKING:
    from cellweave.registry import Component

__all__ = ["register"]

_HELP = "List published model families, or check downloaded files."
_CARD = ("versions", "published", "code licence", "weights licence", "can", "verified")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    models = typer.Typer(help=_HELP, epilog="Example: cellweave models check ./model")
    models.callback(invoke_without_command=True)(_list)
    models.command("check", epilog="Example: cellweave models check ./Geneformer-V2-104M")(_check)
    app.add_typer(models, name="models")


def _list(context: typer.Context, as_json: Json = False) -> None:
    """List the families that can be read: versions, where published, licences, what is verified."""
    if context.invoked_subcommand is not None:
        return
    from cellweave.plugins import get_plugin_manager
    from cellweave.records.component import ComponentKind

    registry = get_plugin_manager().registry(ComponentKind.MODEL)
    found = {name: _described(registry[name]) for name in registry}
    if as_json:
        show_json(found)
        return
    for name, card in found.items():
        say(f"{name}: {card['summary']} ({card['origin']})")
        for key in _CARD:
            if card.get(key):
                value = card[key]
                say(f"  {key}: {', '.join(value) if isinstance(value, list) else value}")


def _described(component: Component) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": component.spec.summary, "origin": component.origin}
    if missing := component.missing_modules():
        return told | {"verified": f"not usable here: {', '.join(missing)} is not installed"}
    try:
        card = getattr(component.load(), "card", {})
    except PluginLoadError as error:  # one broken family must not hide the others
        return told | {"verified": f"not usable here: {error}"}
    # An instance's card may be a text; families keep facts about themselves in a dictionary.
    return told | ({k: _plain(v) for k, v in card.items()} if isinstance(card, dict) else {})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def _check(
    path: Annotated[Path, typer.Argument(help="Folder or file as downloaded.")],
    family: Annotated[str | None, typer.Option("--family", help="If not recognised.")] = None,
    as_json: Json = False,
) -> None:
    """Load published weights strictly; print digests, shapes and one embedding to report."""
    from cellweave_nn.checkpoints.check import check_model

    found = check_model(path, family=family)
    if as_json:
        show_json(asdict(found))
        return
    say(f"family: {found.family}")
    for key, value in found.facts.items():
        say(f"{key}: {value}")
    say(f"keys: {found.keys}")
    show_table(["file", "bytes", "sha256"], found.files)
    show_table(["tensor", "shape", "type", "sha256"], found.tensors)
    say(f"embedding of the example cell: {' '.join(f'{v:.6f}' for v in found.embedding)} …")
    say(f"embedding sha256 (4 decimals): {found.embedding_digest}")
