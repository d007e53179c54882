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
    from cellweave.verbs.embed_file import embed_file
    from cellweave.verbs.models import load

    loaded = load(model, family=family)
    key_added = key or f"X_{loaded.family}"
    embedding = embed_file(
        data, loaded, output, key_added=key_added, batch_size=batch_size, device=device
    )
    if as_json:
        show_json({"output": str(output), "key": key_added, "shape": list(embedding.values.shape)})
    else:
        say(f"wrote {output}: obsm[{key_added!r}] {embedding.values.shape}")
