"""The commands: one task scored beside its baselines, or a table of methods over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellweave.cli.options import Json, Report, Seed, Settings
from cellweave.cli.output import say, show_json, show_table

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["register"]

Name = Annotated[str, typer.Argument(help="A task, e.g. annotation or tasks.annotation.")]
Data = Annotated[str, typer.Argument(help="Labelled cells: h5ad, h5mu, zarr …")]
SplitBy = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="fraction:0.2 · tiles:0.2 · group:KEY=NAME+NAME · unseen:KEY=0.2 · each:KEY (bench) · "
        "context:NAME · perturbations · pairs:0 · all; default: what fits the task, e.g. "
        "perturbations, tiles:0.2, or fraction:0.2",
    ),
]
Test = Annotated[str | None, typer.Option("--test", help="Score on this file; no split.")]
Modality = Annotated[str | None, typer.Option("--modality", help="Which, in a file of several.")]
Target = Annotated[
    str | None, typer.Option("--target-modality", help="Modality to predict (cross_modality).")
]
Result = Annotated[Path | None, typer.Option("--output", "-o", help="Write the scores as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        "task",
        epilog="Example: cellweave task annotation cells.h5ad --split group:batch=b1 "
        "--report annotation.html",
    )(_task)
    app.command(
        "bench",
        epilog="Example: cellweave bench annotation cells.h5ad --methods linear,knn --seeds 3",
    )(_bench)


def _task(
    name: Name,
    data: Data,
    split: SplitBy = None,
    test: Test = None,
    predict: Annotated[
        str | None, typer.Option("--predict", help="Predict for the cells of this file.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="Where predictions go: h5ad, .npz or .csv.")
    ] = None,
    output: Result = None,
    report: Report = None,
    modality: Modality = None,
    target_modality: Target = None,
    seed: Seed = 0,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Fit a task and score it beside its baselines on cells it has not seen; predict for others."""
    from cellweave.config.arguments import parse_settings
    from cellweave.errors import ConfigError
    from cellweave_tasks import running
    from cellweave_tasks.side_by_side import side_by_side

    if (predict is None) != (predictions is None):
        msg = "--predict needs to know where results go. Give --predictions out.h5ad with it."
        raise ConfigError(msg)
    parameters = parse_settings(settings or []) | {"seed": seed}
    # Wrong settings are told before files are read.
    parameters = running.with_group(name, parameters, split)
    asked = running.new_task(name, **parameters)
    split = split or running.default_split(asked)

    def load(path: str, target: str | None = target_modality) -> AnnData:
        found = running.load_cells(path, modality=modality, target=target, seed=seed)
        return running.arranged(asked, found)

    def labelled(path: str) -> AnnData:
        found, note = running.only_labelled(asked, load(path))
        if note and not as_json:
            say(note)
        return found

    cells = labelled(data)
    if test is not None:
        train, held_out, shown = cells, labelled(test), f"test file {Path(test).name}"
    else:
        parts = running.split_cells(cells, split, parameters=parameters, seed=seed)
        train, held_out, shown = cells[parts.train].copy(), cells[parts.test].copy(), parts.name
    fitted = asked.fit(train)
    scores = fitted.evaluate(held_out)
    if output is not None:
        scores.save(output)
    if report is not None:
        from cellweave.reporting import write_page
        from cellweave_tasks.pages import task_page

        write_page(report, task_page(fitted, held_out, scores, split=shown))
    if predict is not None and predictions is not None:
        running.write_prediction(fitted, load(predict, None), predictions)
    if as_json:
        show_json({"split": shown, "summary": dict(scores.summary), "scores": _rows(scores.items)})
        return
    say(scores.summary.get("headline", ""))
    show_table(*side_by_side(scores.items))


def _bench(
    name: Name,
    data: Data,
    methods: Annotated[
        str,
        typer.Option("--methods", help="Methods of the task, comma-separated; default: its own."),
    ] = "",
    reps: Annotated[
        str, typer.Option("--reps", help="`obsm` keys to compare, comma-separated; X for values.")
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds, from --seed.")] = 3,
    split: SplitBy = None,
    output: Result = None,
    report: Report = None,
    modality: Modality = None,
    target_modality: Target = None,
    seed: Seed = 0,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Compare methods and embeddings on one task over seeds, baselines beside them."""
    from cellweave.config.arguments import parse_settings
    from cellweave_tasks import running
    from cellweave_tasks.side_by_side import side_by_side

    parameters = parse_settings(settings or [])
    asked = running.new_task(name, **parameters)
    split = split or running.default_split(asked)
    cells = running.load_cells(data, modality=modality, target=target_modality, seed=seed)
    cells, note = running.only_labelled(asked, running.arranged(asked, cells))
    if note and not as_json:
        say(note)
    found = running.bench(
        name,
        cells,
        methods=[m for m in methods.split(",") if m],
        reps=[r for r in reps.split(",") if r],
        seeds=list(range(seed, seed + seeds)),
        split=split,
        parameters=parameters,
    )
    if output is not None:
        found.save(output)
    if report is not None:
        from cellweave.reporting import write_page
        from cellweave_tasks.pages import bench_page

        write_page(report, bench_page(found, task=name, split=split))
    if as_json:
        show_json({"split": split, "scores": _rows(found.items), "summary": dict(found.summary)})
        return
    for sentence in found.summary["headlines"]:
        say(sentence)
    show_table(*side_by_side(found.items))


def _rows(items: Any) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(score) for score in items]
