"""The command ``zeroshot``: models beside baselines that cannot be left out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellweave.cli.options import Json, Report, Seed
from cellweave.cli.output import say, show_json, show_table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        "zeroshot",
        epilog="Example: cellweave zeroshot ./Geneformer-V2-104M X_scgpt cells.h5ad "
        "--batch-key donor --baselines scvi --report zeroshot.html",
    )(_zeroshot)


def _zeroshot(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL… DATA", help="Folders of models or `obsm` keys; the cells come last."
        ),
    ],
    label_key: Annotated[
        str, typer.Option("--label-key", help="`obs` columns of types, comma-separated.")
    ] = "cell_type",
    batch_key: Annotated[
        str, typer.Option("--batch-key", help="`obs` column of batches; empty for one batch.")
    ] = "batch",
    baselines: Annotated[
        str,
        typer.Option(
            "--baselines",
            help="Beside HVG, PCA and Harmony, which always are: scvi, sysvi, combat …",
        ),
    ] = "",
    max_cells: Annotated[int, typer.Option("--max-cells", min=20, help="Cells drawn.")] = 7500,
    ontology: Annotated[
        str | None, typer.Option("--ontology", help="Cell Ontology (OBO), for OntoRWR.")
    ] = None,
    scib: Annotated[bool, typer.Option("--scib", help="Add scib-metrics' numbers.")] = False,
    masked_share: Annotated[
        float, typer.Option("--masked-share", help="Of each cell's genes, hidden; 0: none.")
    ] = 0.15,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 32,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda")] = "cpu",
    modality: Annotated[
        str | None, typer.Option("--modality", help="In a file of several.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Scores as JSON.")] = None,
    report: Report = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score models without training, by the protocol of Kedzierska et al. 2025."""
    from cellweave.errors import ConfigError
    from cellweave_tasks.running import load_cells
    from cellweave_tasks.zeroshot import find_models, zero_shot

    if len(inputs) < 2:
        msg = f"Only {inputs[0]!r} is given. Give models, then the cells: MODEL… DATA."
        raise ConfigError(msg)
    cells = load_cells(inputs[-1], modality=modality, seed=seed)
    found = zero_shot(
        cells,
        find_models(inputs[:-1], cells),
        label_keys=[k for k in label_key.split(",") if k],
        batch_key=batch_key or None,
        baselines=[b for b in baselines.split(",") if b],
        ontology=ontology,
        scib=scib,
        max_cells=max_cells,
        masked_share=masked_share,
        batch_size=batch_size,
        device=device,
        seed=seed,
    )
    if output is not None:
        found.scores.save(output)
    if report is not None:
        from cellweave.reporting import write_page
        from cellweave_tasks.zeroshot_page import zeroshot_page

        write_page(report, zeroshot_page(found))
    if as_json:
        from dataclasses import asdict

        rows = [asdict(s) for s in found.scores.items]
        show_json({"summary": dict(found.scores.summary), "scores": rows})
        return
    for sentence in found.scores.summary["sentences"]:
        say(sentence)
    from cellweave_tasks.embedding_pages import wide_table

    table = wide_table([s for s in found.scores.items if not s.group])
    # Embeddings as columns: few of them, and many measures.
    first, *others = zip(table.header, *table.rows, strict=True)
    show_table(tuple(map(str, first)), [tuple(map(str, row)) for row in others])
    for one in found.masked:
        from dataclasses import replace

        told = wide_table([replace(s, group="") for s in one.scores])
        first, *others = zip(told.header, *told.rows, strict=True)
        show_table(tuple(map(str, first)), [tuple(map(str, row)) for row in others])
