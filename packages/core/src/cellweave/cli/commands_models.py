"""Commands about models: embed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cellweave.cli.options import Json, Output
from cellweave.cli.output import say, show_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("embed", epilog="Example: cellweave embed ./model rna.h5ad -o out.h5ad")(_embed)


def _embed(
    model: Annotated[Path, typer.Argument(help="Model folder, or published files.")],
    data: Annotated[str, typer.Argument(help="The cells.")],
    output: Output,
    key: Annotated[str | None, typer.Option("--key", help="`obsm` key to write.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 32,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda")] = "cpu",
    family: Annotated[str | None, typer.Option("--family", help="If not recognised.")] = None,
    as_json: Json = False,
) -> None:
    """Write one vector a cell into `obsm`, in input order."""
    from cellweave.cli.commands_data import load_inputs
    from cellweave.errors import DataError, one_of
    from cellweave.verbs.models import load
    from cellweave.verbs.read import write

    mdata = load_inputs([data])
    loaded = load(model, family=family)
    modality = "rna" if "rna" in mdata.mod else next(iter(mdata.mod))
    if len(mdata.mod) > 1 and "rna" not in mdata.mod:
        msg = f"{data!r} holds {one_of(mdata.mod)} and no rna. Give a file with one modality."
        raise DataError(msg)
    adata = mdata.mod[modality].copy()
    embedding = loaded.embed(adata, batch_size=batch_size, device=device)
    key_added = key or f"X_{loaded.family}"
    embedding.write(adata, key_added=key_added)
    write(adata, output)
    if as_json:
        show_json({"output": str(output), "key": key_added, "shape": list(embedding.values.shape)})
    else:
        say(f"wrote {output}: obsm[{key_added!r}] {embedding.values.shape}")
