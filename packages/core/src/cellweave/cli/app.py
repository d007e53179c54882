"""Put the subcommands together, and turn every ending into an exit code.

0: done. 2: bad input, told in a few lines. 1: our bug. 130: stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from cellweave.cli import (
    commands_compare,
    commands_data,
    commands_integrate,
    commands_modalities,
    commands_models,
    commands_plugins,
)
from cellweave.cli.output import fail, note, stopped
from cellweave.errors import CellweaveError, DataNotice, LicenceNotice, StoppedError

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["build_app", "main"]

COMMAND_GROUP = "cellweave.commands"
_DEBUG_VARIABLE = "CELLWEAVE_DEBUG"
_INTERRUPTED = 130

_EPILOG = (
    "Example: cellweave integrate glue rna.h5ad atac.h5ad --gtf genes.gtf -o out.h5mu "
    "--report report.html"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get(_DEBUG_VARIABLE))
    given = [a for a in given if a != "--debug"]
    as_json = "--json" in given
    try:
        with warnings.catch_warnings():
            # What mudata and its like say to programmers is no news to who runs a command.
            warnings.simplefilter("default" if debug else "ignore")
            for notice in (DataNotice, LicenceNotice):
                warnings.filterwarnings("always", category=notice)
            if not debug:
                warnings.showwarning = _shown
            return _run(given)
    except KeyboardInterrupt:
        stopped("Stopped. What was there before is intact.", as_json=as_json)
        return _INTERRUPTED
    except StoppedError as error:
        stopped(str(error), as_json=as_json)
        return _INTERRUPTED
    except CellweaveError as error:
        if debug:
            traceback.print_exc()
        fail(str(error), as_json=as_json, kind=type(error).__name__)
        return 2
    except BrokenPipeError:  # `cellweave … | head` is no error
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - the last stop: no traceback reaches the user
        if debug:
            traceback.print_exc()
        text = (
            f"This is a bug in cellweave: {type(error).__name__}: {error}. "
            "Run again with --debug and report what it prints."
        )
        fail(text, as_json=as_json, kind="Bug")
        return 1


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show the text of a warning without the place in our code that it came from."""
    note(str(message))


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(build_app(arguments))
    try:
        outcome = command.main(args=arguments, prog_name="cellweave", standalone_mode=False)
    except typer.Abort as error:  # the parser's word for Ctrl-C
        raise KeyboardInterrupt from error
    except typer.Exit as error:
        if error.exit_code == _INTERRUPTED:  # newer parsers make Ctrl-C an exit code themselves
            raise KeyboardInterrupt from error
        return int(error.exit_code)
    except Exception as error:
        # Usage errors know how to show themselves; their class differs between typer versions.
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is None or code is None:
            raise
        show()
        return int(code)
    if outcome == _INTERRUPTED:
        raise KeyboardInterrupt
    return int(outcome) if isinstance(outcome, int) else 0


def build_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """Build the application; commands of other packages join when they are needed."""
    app = typer.Typer(
        help="Single-cell multi-omics foundation models and integration, from parts that fit.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top_level)
    for module in (
        commands_plugins,
        commands_data,
        commands_modalities,
        commands_integrate,
        commands_compare,
        commands_models,
    ):
        module.register(app)
    _join_other_packages(app, arguments)
    return app


def _top_level(
    version: bool = typer.Option(
        False, "--version", help="Show versions and leave.", is_eager=True
    ),
) -> None:
    """Single-cell multi-omics foundation models and integration, from parts that fit."""
    if version:
        typer.echo(f"cellweave {importlib.metadata.version('cellweave-core')}")
        raise typer.Exit


def _join_other_packages(app: typer.Typer, arguments: Sequence[str]) -> None:
    """Let installed packages add commands; a broken one is told and passed over."""
    asked = next((a for a in arguments if not a.startswith("-")), None)
    own = {c.name or (c.callback.__name__ if c.callback else "") for c in app.registered_commands}
    own |= {g.name for g in app.registered_groups if isinstance(g.name, str)}
    if asked in own:
        return  # nothing else needs to be imported for a command of ours
    for point in importlib.metadata.entry_points(group=COMMAND_GROUP):
        try:
            point.load().register(app)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin harms only itself
            origin = point.dist.name if point.dist else point.name
            sys.stderr.write(
                f"The commands of {origin} are not available: {type(error).__name__}: {error}\n"
            )
