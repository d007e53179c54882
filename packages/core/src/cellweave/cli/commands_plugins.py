"""``cellweave plugins``: list, check and start plugins."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellweave.cli.options import Json
from cellweave.cli.output import say, show_json, show_table

if TYPE_CHECKING:
    from cellweave.registry import Component

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    group = typer.Typer(
        help="List components, show the settings of one, check it, or start a plugin of your own.",
        invoke_without_command=True,
        epilog="Example: cellweave plugins check glue",
    )
    group.callback()(_list)
    group.command("show", epilog="Example: cellweave plugins show glue")(_show)
    group.command("check", epilog="Example: cellweave plugins check rna.rank")(_check)
    group.command(
        "new", epilog="Example: cellweave plugins new mymethod --kind integrator -o ./mymethod"
    )(_new)
    app.add_typer(group, name="plugins")


def _list(context: typer.Context, as_json: Json = False) -> None:
    """List every component, and every plugin that did not load with the reason and the fix."""
    if context.invoked_subcommand:
        return
    from cellweave.plugins import get_plugin_manager

    manager = get_plugin_manager()
    rows = [_row(c) for c in manager.components()]
    problems = manager.problems()
    if as_json:
        show_json({"components": rows, "problems": problems, "disabled": manager.disabled})
        return
    header = ("kind", "name", "summary", "distribution", "version")
    show_table(header, [[row[h] for h in header] for row in rows])
    if manager.disabled:
        say(f"\nDisabled by the environment: {', '.join(manager.disabled)}")
    for problem in problems:
        say(f"\nnot loaded: {problem}")


def _row(component: Any) -> dict[str, Any]:
    spec = component.spec
    return {
        "kind": component.kind.value,
        "name": spec.name,
        "summary": spec.summary,
        "distribution": component.distribution,
        "version": component.version,
        "modalities": list(spec.modalities),
        "tags": sorted(spec.tags),
        "needs": list(component.missing_modules()),
    }


def _named(name: str) -> list[Component]:
    """Return the components of a name; one name may stand for several kinds."""
    from cellweave.errors import UnknownComponentError, closest, one_of
    from cellweave.plugins import get_plugin_manager

    manager = get_plugin_manager()
    components = manager.components()
    found = [c for c in components if c.spec.name == name]
    # `annotation` means `tasks.annotation` where no other component ends so.
    found = found or [c for c in components if c.spec.name.partition(".")[2] == name]
    if not found:
        names = {c.spec.name for c in components}
        notes = " ".join(manager.problems())
        msg = f"Unknown component {name!r}.{closest(name, names)} Available: {one_of(names)}. "
        raise UnknownComponentError(msg + notes)
    return found


def _show(
    name: Annotated[str, typer.Argument(help="Name of a component.")], as_json: Json = False
) -> None:
    """Show what a component does and each of its settings: type, default, meaning."""
    from dataclasses import asdict

    from cellweave.config.described import component_settings

    found = _named(name)
    shown = [{**_row(c), "settings": [asdict(s) for s in component_settings(c)]} for c in found]
    if as_json:
        show_json(shown)
        return
    for row in shown:
        say(f"{row['name']}, {row['kind']} of {row['distribution']} {row['version']}")
        say(row["summary"])
        say(f"\n{_lead(row)}")
        for meaning, settings in groupby(row["settings"], key=itemgetter("meaning")):
            for setting in settings:
                say(f"  {_as_code(setting)}")
            if meaning:
                say(fill(meaning, 88, initial_indent=" " * 6, subsequent_indent=" " * 6))


def _lead(row: dict[str, Any]) -> str:
    if row["settings"]:
        return "Settings (--set NAME=VALUE):"
    if row["kind"] == "model":
        return "It is read from published files; `cellweave models` says which."
    return "It has no settings."


def _as_code(setting: dict[str, Any]) -> str:
    default = "" if setting["default"] is None else f" = {setting['default']}"
    return f"{setting['name']}: {setting['kind']}{default}"


def _check(
    name: Annotated[str, typer.Argument(help="Name of a component.")], as_json: Json = False
) -> None:
    """Import one component and run its conformance suite."""
    from cellweave.cli.output import clean
    from cellweave.testing import check

    found = _named(name)
    results = [r for c in found for r in check(c.load(), c.kind.value, spec=c.spec)]
    failed = [r for r in results if r.outcome == "failed"]
    if as_json:
        show_json(
            {
                "name": name,
                "passed": not failed,
                "checks": [
                    {"name": r.name, "outcome": r.outcome, "message": r.message} for r in results
                ],
            }
        )
    else:
        show_table(("outcome", "check"), [(r.outcome, r.name) for r in results])
        for result in failed:
            say(f"\n{result.name}: {clean(result.message)}")
        say(f"\n{len(results) - len(failed)} of {len(results)} checks without a failure")
    if failed:
        raise typer.Exit(2)


def _new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, lower case.")],
    kind: Annotated[str, typer.Option("--kind", help="integrator or tokenizer")] = "integrator",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to make.")] = None,
) -> None:
    """Make a working plugin with tests, from the template."""
    from cellweave.testing.template import render

    folder = output or Path(f"cellweave-{name}")
    render(folder, name=name, kind=kind)
    say(f"Made {folder}. Next: pip install -e {folder} pytest && pytest {folder}")
