"""``cellweave compare`` and ``cellweave demo``: several methods on one data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cellweave.cli.commands_data import Files, load_inputs
from cellweave.cli.options import BatchKey, Genes, Json, LabelKey, Pairing, Quiet, Report, Seed
from cellweave.cli.output import say, show_json, show_progress, show_table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        "compare",
        epilog="Example: cellweave compare pbmc.h5mu --methods maxfuse,bindsc --seeds 3",
    )(_compare)
    app.command("demo", epilog="Example: cellweave demo -o demo")(_demo)


def _demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for data and reports.")
    ] = Path("cellweave-demo"),
    cells: Annotated[int, typer.Option("--cells", help="Cells of each modality.")] = 600,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do the main job on data made here: simulate, validate, prepare, weave, score, report."""
    from cellweave.verbs.demo import demo

    with show_progress(quiet=quiet) as progress:
        tell = None if as_json or quiet else say
        made = demo(output, n_cells=cells, seed=seed, progress=progress, tell=tell)
    reports = {name: str(path) for name, path in made.reports.items()}
    if as_json:
        scores = {n: [asdict(i) for i in s.items] for n, s in made.scores.items()}
        show_json({"data": str(made.data), "reports": reports, "scores": scores})
    else:
        say(f"data: {made.data}")
        for name, path in reports.items():
            say(f"look at: {path} ({name})")


def _compare(
    files: Files,
    methods: Annotated[str, typer.Option("--methods", help="Names, with commas between.")],
    seeds: Annotated[int, typer.Option("--seeds", help="Runs of each method.", min=1)] = 3,
    genes: Genes = None,
    label_key: LabelKey = "cell_type",
    batch_key: BatchKey = None,
    pairing: Pairing = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the scores to a JSON file.")
    ] = None,
    report: Report = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run several integrators on one data set: quality, seconds, memory, and a recommendation."""
    from cellweave.verbs.compare import compare
    from cellweave.verbs.link import link
    from cellweave.verbs.prepare import prepare

    mdata = load_inputs(files)
    with show_progress(quiet=quiet) as progress:
        ready = prepare(mdata, progress=progress)
        outcome = compare(
            ready,
            methods=[m.strip() for m in methods.split(",") if m.strip()],
            seeds=seeds,
            links=link(ready, genes=genes),
            label_key=label_key,
            batch_key=batch_key,
            pairing=pairing,
            progress=progress,
        )
    if output is not None:
        outcome.scores.save(output)
    if report is not None:
        from cellweave.reporting import write_comparison_report

        write_comparison_report(report, comparison=outcome)
    rows = [asdict(s) for s in outcome.scores.items]
    if as_json:
        failures = {f"{r.method} seed {r.seed}": r.failure for r in outcome.runs if r.failure}
        show_json({"scores": rows, "recommendation": outcome.recommendation, "failures": failures})
        return
    names = list(dict.fromkeys(row["metric"] for row in rows))
    table = [
        [method, *(_cell(rows, method, name) for name in names)]
        for method in dict.fromkeys(row["method"] for row in rows)
    ]
    show_table(["method", *names], table)
    for run in outcome.runs:
        if run.failure:
            say(f"{run.method} (seed {run.seed}) failed: {run.failure}")
    say(outcome.recommendation)


def _cell(rows: list[dict[str, object]], method: str, metric: str) -> str:
    for row in rows:
        if row["method"] == method and row["metric"] == metric and not row["group"]:
            value = row["value"]
            return f"{value:.4g}" if isinstance(value, float | int) else "-"
    return "-"
