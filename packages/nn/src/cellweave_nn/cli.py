"""The commands: pretrain, finetune, estimate, push, runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellweave.cli.options import Json, Quiet
from cellweave.cli.output import note, say, show_json, show_progress, show_table
from cellweave.errors import StoppedError
from cellweave_nn._commands import COMMANDS

if TYPE_CHECKING:
    from cellweave_nn.training.loop import Trained

__all__ = ["register"]

Config = Annotated[Path, typer.Argument(help="A YAML or JSON file.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        "pretrain", help=COMMANDS["pretrain"], epilog="Example: cellweave pretrain config.yaml"
    )(_pretrain)
    app.command(
        "finetune", help=COMMANDS["finetune"], epilog="Example: cellweave finetune config.yaml"
    )(_finetune)
    app.command(
        "estimate", help=COMMANDS["estimate"], epilog="Example: cellweave estimate config.yaml"
    )(_estimate)
    app.command("push", help=COMMANDS["push"], epilog="Example: cellweave push run/model lab/name")(
        _push
    )
    runs = typer.Typer(help=COMMANDS["runs"], no_args_is_help=True)
    runs.command("list", epilog="Example: cellweave runs list .")(_list)
    runs.command("compare", epilog="Example: cellweave runs compare run-a run-b")(_compare)
    app.add_typer(runs, name="runs")


def _pretrain(config: Config, quiet: Quiet = False, as_json: Json = False) -> None:
    from cellweave.config import load_config
    from cellweave_nn.training.pretrain import pretrain
    from cellweave_nn.training.settings import PretrainConfig

    checked = load_config(config, PretrainConfig)
    with _stoppable("pretrain", config, checked.output) as (stop, ended):
        with show_progress(quiet=quiet) as progress:
            done = pretrain(checked, progress=progress, stop=stop)
        ended(done)
    if as_json:
        show_json(asdict(done) | {"output": str(checked.output)})
    else:
        say(f"wrote {checked.output / 'model'}: loss {done.metrics.get('loss', float('nan')):.4g}")


def _finetune(config: Config, quiet: Quiet = False, as_json: Json = False) -> None:
    from cellweave.config import load_config
    from cellweave_nn.adapt.finetune import FinetuneConfig, finetune

    checked = load_config(config, FinetuneConfig)
    with _stoppable("finetune", config, checked.output) as (stop, ended):
        with show_progress(quiet=quiet) as progress:
            done = finetune(checked, progress=progress, stop=stop)
        ended(done.trained)
    if as_json:
        show_json(asdict(done))
    else:
        say(
            f"{done.trainable} parameters trained ({checked.mode}); on held-out cells: accuracy "
            f"{done.accuracy:.3f}, macro F1 {done.macro_f1:.3f}"
        )


@contextmanager
def _stoppable(
    command: str, config: Path, output: Path
) -> Iterator[tuple[Callable[[], bool], Callable[[Trained], None]]]:
    """Give what asks for a stop, and what ends a command whose training was stopped.

    Whichever way it was stopped, the ending says where the run stands and how to go on.
    """
    from cellweave_nn.training.checkpoint import latest_checkpoint
    from cellweave_nn.training.run_folder import RunFolder
    from cellweave_nn.training.signals import stop_on_signals

    def ended(done: Trained | None) -> None:
        if done is not None and done.finished:
            return
        place = latest_checkpoint(RunFolder(path=output).checkpoints)
        kept = f"last checkpoint {place}" if place else "there is no checkpoint yet"
        again = f"cellweave {command} {shlex.quote(str(config))}"
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            again = "the same torchrun command"
        when = "at once" if done is None else f"after step {done.step}"
        if done is not None and not done.step:
            when = "before the first step"
        msg = f"Stopped {when}: {kept}. To go on: {again}"
        raise StoppedError(msg)

    try:
        with stop_on_signals(_tell_stopping) as stop:
            yield stop, ended
    except KeyboardInterrupt:
        ended(None)


def _tell_stopping() -> None:
    note("stopping at the end of this step; Ctrl-C again stops at once")


def _estimate(config: Config, as_json: Json = False) -> None:
    from cellweave_nn.training.estimate import estimate

    found = estimate(config)
    if as_json:
        show_json(asdict(found))
        return
    show_table(
        ["need", "value"],
        [
            ["parameters", f"{found.parameters:,}"],
            ["time", f"{found.seconds / 60:.1f} min ({found.seconds_per_step:.3g} s a step)"],
            ["memory", f"{found.peak_bytes / 2**30:.2f} GiB"],
            ["a checkpoint", f"{found.checkpoint_bytes / 2**20:.1f} MiB"],
            ["cells a second", f"{found.cells_per_second:.1f}"],
            ["tokens a second", f"{found.tokens_per_second:.0f}"],
        ],
    )


def _push(
    folder: Annotated[Path, typer.Argument(help="A model folder.")],
    name: Annotated[str, typer.Argument(help="owner/name on the Hub.")],
    revision: Annotated[str | None, typer.Option("--revision", help="Branch.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    as_json: Json = False,
) -> None:
    from cellweave.verbs.hub import push

    commit = push(folder, name, revision=revision, private=not public)
    if as_json:
        show_json({"name": name, "commit": commit})
    else:
        say(f"pushed {folder} to {name}; load it by revision {commit}")


def _list(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path(),
    as_json: Json = False,
) -> None:
    """List the runs below a folder."""
    from cellweave_nn.training.runs import list_runs

    found = list_runs(folder)
    if as_json:
        show_json([asdict(run) for run in found])
        return
    if not found:
        note(f"there is no run below {folder}")
        return
    rows = [
        [
            r.path,
            f"{r.step}/{r.steps}",
            _short(r.loss),
            _short(r.validation_loss),
            _short(r.finished),
        ]
        for r in found
    ]
    show_table(["run", "step", "loss", "validation", "finished"], rows)


def _compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")], as_json: Json = False
) -> None:
    """Show what differs between runs, settings and last metrics."""
    from cellweave_nn.training.runs import compare_runs

    table = compare_runs(runs)
    if as_json:
        show_json(table)
        return
    names = table.pop("run")
    show_table(["", *names], [[k, *map(_short, values)] for k, values in table.items()])


def _short(value: object) -> str:
    words = {None: "-", True: "yes", False: "no"}
    if isinstance(value, bool | None):
        return words[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
