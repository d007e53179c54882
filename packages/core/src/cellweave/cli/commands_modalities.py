"""Commands that modality packages serve: prepare, links, tokenize."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellweave.cli.commands_data import Files, load_inputs
from cellweave.cli.options import (
    BatchKey,
    Genes,
    Json,
    LabelKey,
    OutOfCore,
    Output,
    Quiet,
    Report,
    Seed,
    Settings,
)
from cellweave.cli.output import say, show_json, show_progress

if TYPE_CHECKING:
    from cellweave.records import FeatureLinks
    from cellweave.tokenizing.streamed import TokenSummary

__all__ = ["register"]

# At their height, in sizes of the matrices that were read.
_COPIES_TO_PREPARE = 7
_COPIES_TO_TOKENIZE = 4


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("prepare", epilog="Example: cellweave prepare rna.h5ad -o prepared.h5mu")(_prepare)
    app.command(
        "links", epilog="Example: cellweave links rna.h5ad atac.h5ad --gtf genes.gtf -o links.tsv"
    )(_links)
    app.command("tokenize", epilog="Example: cellweave tokenize rna.rank rna.h5ad -o tokens.npz")(
        _tokenize
    )


def _prepare(
    files: Files,
    output: Output,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML: modality to settings.")
    ] = None,
    settings: Settings = None,
    seed: Seed = 0,
    out_of_core: OutOfCore = None,
    report: Report = None,
    label_key: LabelKey = "cell_type",
    batch_key: BatchKey = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Bring every modality into its prepared form: counts, normalised values, coordinates.

    With --set write MODALITY.KEY=VALUE, e.g. --set rna.n_top_genes=3000.
    """
    from cellweave.verbs.prepare import prepare
    from cellweave.verbs.read import write

    chosen = _settings_by_modality(config, settings or [])
    mdata = load_inputs(files, lazily=out_of_core, copies=_COPIES_TO_PREPARE)
    with show_progress(quiet=quiet) as progress:
        prepared = prepare(mdata, settings=chosen, seed=seed, progress=progress)
    write(prepared, output)
    if report is not None:
        from cellweave.verbs.report import report_preparation

        report_preparation(
            report, raw=mdata, prepared=prepared, label_key=label_key,
            batch_key=batch_key or "batch", seed=seed,
        )  # fmt: skip
    records = {n: a.uns.get("preparation", "{}") for n, a in prepared.mod.items()}
    _tell_preparations(records, output, report, as_json=as_json)


def _settings_by_modality(config: Path | None, pairs: list[str]) -> dict[str, dict[str, Any]]:
    from pydantic import RootModel

    from cellweave.config import load_config
    from cellweave.config.arguments import parse_settings
    from cellweave.errors import ConfigError

    chosen: dict[str, dict[str, Any]] = {}
    if config is not None:
        chosen = dict(load_config(config, RootModel[dict[str, dict[str, Any]]]).root)
    for key, value in parse_settings(pairs).items():
        modality, dot, name = key.partition(".")
        if not dot:
            msg = f"--set {key}={value} does not say for which modality. Write rna.{key}={value}."
            raise ConfigError(msg)
        chosen.setdefault(modality, {})[name] = value
    return chosen


def _tell_preparations(
    records: dict[str, str], output: Path, report: Path | None, *, as_json: bool
) -> None:
    import json

    parsed = {name: json.loads(text) for name, text in records.items()}
    if as_json:
        written = str(report) if report else None
        show_json({"output": str(output), "report": written, "preparations": parsed})
        return
    for name, preparation in parsed.items():
        for step in preparation.get("steps", []):
            outcome = ", ".join(f"{k} {v}" for k, v in step["outcome"].items())
            say(f"{name}: {step['name']}" + (f" ({outcome})" if outcome else ""))
    say(f"wrote {output}" + (f" and {report}" if report else ""))


def _links(
    files: Files,
    output: Output,
    genes: Genes = None,
    table: Annotated[Path | None, typer.Option("--table", help="Your own links.")] = None,
    method: Annotated[str | None, typer.Option("--method", help="A way to link.")] = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Link the features of modalities; write .npz, .tsv, .csv or .parquet by the suffix."""
    from cellweave.config.arguments import parse_settings
    from cellweave.linking import write_links
    from cellweave.verbs.link import link

    # Only correlations look at values; all other ways to link look at names.
    mdata = load_inputs(files, values=method == "correlation")
    found = link(
        mdata,
        genes=genes,
        table=table,
        method=method,
        parameters=parse_settings(settings or []),
    )
    write_links(found, output)
    rows = [_describe_links(one) for one in found]
    if as_json:
        show_json({"output": str(output), "links": rows})
        return
    for row in rows:
        say(
            f"{row['source']} to {row['target']}: {row['n_links']} links, "
            f"{row['unmatched_source']} + {row['unmatched_target']} features unmatched"
        )
        for reason, count in row["reasons"].items():
            say(f"  {count} unmatched: {reason}")
    say(f"wrote {output}")


def _describe_links(links: FeatureLinks) -> dict[str, Any]:
    from collections import Counter

    reasons = Counter([*links.unmatched_source.values(), *links.unmatched_target.values()])
    return {
        "source": links.source,
        "target": links.target,
        "n_links": len(links),
        "unmatched_source": len(links.unmatched_source),
        "unmatched_target": len(links.unmatched_target),
        "reasons": dict(reasons.most_common(10)),
    }


def _tokenize(
    component: Annotated[str, typer.Argument(help="Name of a tokenizer.")],
    files: Files,
    output: Output,
    modality: Annotated[str | None, typer.Option("--modality", help="Which modality.")] = None,
    settings: Settings = None,
    out_of_core: OutOfCore = None,
    as_json: Json = False,
) -> None:
    """Turn cells into ragged tokens; write one .npz with offsets, ids and values."""
    from cellweave.config.arguments import parse_settings
    from cellweave.errors import DataError, one_of
    from cellweave.plugins import get_plugin_manager
    from cellweave.records.component import ComponentKind
    from cellweave.verbs.tokenize import tokenize_to

    spec = get_plugin_manager().registry(ComponentKind.TOKENIZER)[component].spec
    if "several" in spec.tags:
        _tokenize_several(component, files, output, settings, as_json=as_json)
        return
    mdata = load_inputs(files, lazily=out_of_core, copies=_COPIES_TO_TOKENIZE)
    wanted = [modality] if modality else [m for m in spec.modalities if m in mdata.mod]
    if len(wanted) != 1 or wanted[0] not in mdata.mod:
        msg = (
            f"{component!r} works on {one_of(spec.modalities)}, the data hold {one_of(mdata.mod)}. "
            "Choose one with --modality."
        )
        raise DataError(msg)
    written = tokenize_to(
        output, mdata.mod[wanted[0]], component, parameters=parse_settings(settings or [])
    )
    _tell_tokens(written, output, as_json=as_json)


def _tokenize_several(
    component: str, files: list[str], output: Path, settings: list[str] | None, *, as_json: bool
) -> None:
    from cellweave.config.arguments import parse_settings
    from cellweave.verbs.tokenize import tokenize_to

    mdata = load_inputs(files)
    written = tokenize_to(output, mdata, component, parameters=parse_settings(settings or []))
    _tell_tokens(written, output, as_json=as_json)


def _tell_tokens(written: TokenSummary, output: Path, *, as_json: bool) -> None:
    summary = {"output": str(output), **asdict(written)}
    if as_json:
        show_json(summary)
    else:
        say(
            f"{summary['cells']} cells, {summary['tokens']} tokens, longest {summary['longest']}; "
            f"wrote {output}"
        )
