"""The command ``activity``: gene activity of cells from their peaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellweave.cli.commands_data import load_inputs
from cellweave.cli.options import Json, OutOfCore, Output
from cellweave.cli.output import say, show_json

__all__ = ["register"]

_COPIES = 4  # at its height, in sizes of the matrix that was read


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        "activity", epilog="Example: cellweave activity atac.h5ad --gtf genes.gtf -o activity.h5ad"
    )(_activity)


def _activity(
    file: Annotated[str, typer.Argument(help="Peak counts, or several modalities with `atac`.")],
    output: Output,
    genes: Annotated[Path, typer.Option("--gtf", "--genes", help="GTF or gene coordinates.")],
    anchor: Annotated[
        str, typer.Option("--anchor", help="combined, gene_body or promoter.")
    ] = "combined",
    window: Annotated[int, typer.Option("--window", help="Bases around a gene.")] = 10_000,
    scale: Annotated[float, typer.Option("--scale", help="Bases of the decay.")] = 1000.0,
    power: Annotated[float, typer.Option("--power", help="Power of the decay.")] = 0.75,
    promoter_length: Annotated[int, typer.Option("--promoter-length")] = 2000,
    modality: Annotated[
        str | None, typer.Option("--modality", help="In a file of several.")
    ] = None,
    out_of_core: OutOfCore = None,
    as_json: Json = False,
) -> None:
    """Add up the peaks around each gene, near ones counting more: cells x genes."""
    from cellweave.errors import DataError, one_of
    from cellweave.verbs.read import write
    from cellweave_atac.activity import gene_activity

    mdata = load_inputs([file], lazily=out_of_core, copies=_COPIES)
    name = modality or ("atac" if "atac" in mdata.mod else "")
    if name not in mdata.mod:
        msg = (
            f"{file!r} holds {one_of(mdata.mod)}, no {name or 'atac'!r}. Name the peaks with "
            "--modality, or write atac=FILE."
        )
        raise DataError(msg)
    found = gene_activity(
        mdata.mod[name], genes, anchor=anchor, window=window, scale=scale, power=power,
        promoter_length=promoter_length,
    )  # fmt: skip
    write(found, output)
    if as_json:
        show_json({"output": str(output), "cells": found.n_obs, "genes": found.n_vars})
    else:
        say(f"{found.n_obs} cells, {found.n_vars} genes with a peak in reach; wrote {output}")
