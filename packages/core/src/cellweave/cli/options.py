"""Options that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BatchKey",
    "Genes",
    "Json",
    "LabelKey",
    "Links",
    "OutOfCore",
    "Output",
    "Pairing",
    "Quiet",
    "Report",
    "Seed",
    "Settings",
]

Json = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the result goes.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same machine, same bytes.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the component, repeatable; `cellweave plugins show NAME` tells them.",
    ),
]
Report = Annotated[Path | None, typer.Option("--report", help="Write a one-file HTML report.")]
Links = Annotated[
    Path | None,
    typer.Option(
        "--links",
        help="Links between features (.npz, .tsv, .csv, .parquet), or a table that leads to them.",
    ),
]
Genes = Annotated[
    Path | None, typer.Option("--gtf", "--genes", help="GTF or gene coordinates, for distances.")
]
OutOfCore = Annotated[
    bool | None,
    typer.Option(
        "--out-of-core/--in-memory",
        help="Work through the cells in blocks, or hold them all; by default whichever fits.",
    ),
]
LabelKey = Annotated[str, typer.Option("--label-key", help="`obs` column of cell types.")]
BatchKey = Annotated[str | None, typer.Option("--batch-key", help="`obs` column of batches.")]
Pairing = Annotated[
    str | None,
    typer.Option(
        "--pairing",
        help="`obs_names` if equal names are the same cell, or an `obs` column of ids; "
        "used to score, never to integrate.",
    ),
]
