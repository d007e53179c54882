"""Commands that weave: integrate, evaluate, report, run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellweave.cli.commands_data import Files, load_inputs
from cellweave.cli.options import (
    BatchKey,
    Genes,
    Json,
    LabelKey,
    Links,
    Output,
    Pairing,
    Quiet,
    Report,
    Seed,
    Settings,
)
from cellweave.cli.output import say, show_json, show_progress, show_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from cellweave.records import FeatureLinks, Scores

__all__ = ["register", "scores_to_rows"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        "integrate",
        epilog="Example: cellweave integrate glue rna.h5ad atac.h5ad --gtf genes.gtf "
        "-o out.h5mu --report report.html",
    )(_integrate)
    app.command(
        "evaluate",
        epilog="Example: cellweave evaluate out.h5mu --use-rep X_glue --pairing obs_names",
    )(_evaluate)
    app.command("run", epilog="Example: cellweave run pipeline.yaml")(_run)
    app.command("schema", epilog="Example: cellweave schema > pipeline.schema.json")(_schema)


def _integrate(
    method: Annotated[str, typer.Argument(help="Name of an integrator, e.g. glue.")],
    files: Files,
    output: Output,
    report: Report = None,
    seed: Seed = 0,
    settings: Settings = None,
    links: Links = None,
    genes: Genes = None,
    label_key: LabelKey = "cell_type",
    batch_key: BatchKey = None,
    pairing: Pairing = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Put the cells of two or more modalities into one space, and say how good it is."""
    from cellweave.config.arguments import parse_settings
    from cellweave.verbs.components import create

    parameters = parse_settings(settings or [])
    create("integrator", method, **{"seed": seed, **parameters})  # wrong names are told at once
    _weave(
        load_inputs(files),
        method=method,
        parameters=parameters,
        output=output,
        report_path=report,
        seed=seed,
        links_file=links,
        genes=genes,
        scoring={"label_key": label_key, "batch_key": batch_key, "pairing": pairing},
        quiet=quiet,
        as_json=as_json,
    )


def _weave(
    mdata: MuData,
    *,
    method: str,
    parameters: dict[str, Any],
    output: Path,
    report_path: Path | None,
    seed: int,
    links_file: Path | None,
    genes: Path | None,
    scoring: dict[str, Any],
    quiet: bool,
    as_json: bool,
    prepare_settings: dict[str, dict[str, Any]] | None = None,
    link_settings: dict[str, Any] | None = None,
) -> None:
    from cellweave.verbs.evaluate import evaluate
    from cellweave.verbs.integrate import integrate
    from cellweave.verbs.prepare import prepare
    from cellweave.verbs.read import write
    from cellweave.verbs.report import report as write_report

    with show_progress(quiet=quiet) as progress:
        ready = prepare(mdata, settings=prepare_settings, seed=seed, progress=progress)
        links = _links_for(ready, links_file, genes, link_settings or {})
        result = integrate(
            ready, method, links=links, seed=seed, parameters=parameters, progress=progress
        )
    key = f"X_{method}"
    result.write(ready, key_added=key)
    scores = evaluate(ready, use_rep=key, seed=seed, **scoring)
    write(ready, output)
    if report_path is not None:
        write_report(report_path, mdata=ready, result=result, scores=scores, links=links)
    if as_json:
        show_json(
            {
                "output": str(output),
                "report": str(report_path) if report_path else None,
                "key": key,
                "quality": dict(result.quality),
                "advice": list(result.advice),
                "scores": scores_to_rows(scores),
            }
        )
        return
    _show_scores(scores)
    for sentence in result.advice:
        say(f"advice: {sentence}")
    say(f"wrote {output}" + (f" and {report_path}" if report_path else ""))


def _links_for(
    mdata: MuData, file: Path | None, genes: Path | None, settings: dict[str, Any]
) -> Sequence[FeatureLinks]:
    from cellweave.verbs.link import link

    if file is None:
        return link(mdata, genes=genes, **settings)
    from cellweave.linking import holds_links, read_links

    if holds_links(file):
        return read_links(file, mdata)
    # a table such as metabolite and gene, which the modality's own way to link understands
    return link(mdata, genes=genes, **{**settings, "table": file})


def scores_to_rows(scores: Scores) -> list[dict[str, Any]]:
    """Return the scores as plain JSON rows."""
    from dataclasses import asdict

    return [asdict(item) for item in scores.items]


def _show_scores(scores: Scores) -> None:
    whole = [s for s in scores.items if not s.group or "->" in s.group]
    rows = [
        (
            s.metric,
            s.group,
            "-" if s.value is None else f"{s.value:.4f}",
            "-" if s.best is None else f"{s.best:g}",
            "-" if s.chance is None else f"{s.chance:.3g}",
            s.note,
        )
        for s in whole
    ]
    show_table(("metric", "group", "value", "best", "chance", "note"), rows)


def _evaluate(
    files: Files,
    use_rep: Annotated[str, typer.Option("--use-rep", help="`obsm` key of the embedding.")],
    label_key: LabelKey = "cell_type",
    batch_key: BatchKey = None,
    pairing: Pairing = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the scores to a JSON file.")
    ] = None,
    report: Report = None,
    as_json: Json = False,
) -> None:
    """Score an embedding that is in the file."""
    from cellweave.verbs.evaluate import evaluate
    from cellweave.verbs.report import report as write_report

    mdata = load_inputs(files)
    scores = evaluate(
        mdata,
        use_rep=use_rep,
        label_key=label_key,
        batch_key=batch_key,
        pairing=pairing,
        seed=seed,
    )
    if output is not None:
        scores.save(output)
    if report is not None:
        write_report(report, mdata=mdata, scores=scores)
    if as_json:
        show_json(scores_to_rows(scores))
    else:
        _show_scores(scores)


def _run(
    config: Annotated[Path, typer.Argument(help="YAML or JSON; see `cellweave schema`.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Do a whole run from a file: read, prepare, link, integrate, evaluate, report."""
    from cellweave.config import PipelineConfig, load_config
    from cellweave.verbs.components import create

    plan = load_config(config, PipelineConfig)
    items = plan.inputs
    files = (
        [f"{name}={path}" for name, path in items.items()]
        if isinstance(items, dict)
        else [str(path) for path in items]
    )
    create("integrator", plan.integrator.name, **plan.integrator.parameters)
    settings: dict[str, Any] = {"method": plan.links.method, "parameters": plan.links.parameters}
    _weave(
        load_inputs(files),
        method=plan.integrator.name,
        parameters=plan.integrator.parameters,
        output=plan.output,
        report_path=plan.report,
        seed=plan.seed,
        links_file=None,
        genes=plan.links.genes,
        scoring={
            "label_key": plan.label_key,
            "batch_key": plan.batch_key,
            "pairing": plan.pairing,
        },
        quiet=quiet,
        as_json=as_json,
        prepare_settings=plan.prepare,
        link_settings={**settings, "table": plan.links.table},
    )


def _schema() -> None:
    """Write the JSON Schema of pipeline files."""
    from cellweave.config import PipelineConfig

    show_json(PipelineConfig.model_json_schema())
