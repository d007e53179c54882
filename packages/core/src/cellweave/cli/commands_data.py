"""Commands about data: read, validate, verify, simulate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellweave.cli.options import Json, Output, Quiet, Seed
from cellweave.cli.output import say, show_json

if TYPE_CHECKING:
    from mudata import MuData

__all__ = ["load_inputs", "register"]

Files = Annotated[
    list[str],
    typer.Argument(help="Files or folders; write `rna=path` to name the modality yourself."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("read", epilog="Example: cellweave read pbmc.h5 -o pbmc.h5mu")(_read)
    app.command("validate", epilog="Example: cellweave validate rna.h5ad prot.h5ad --json")(
        _validate
    )
    app.command("verify", epilog="Example: cellweave verify out.h5mu")(_verify)
    app.command("simulate", epilog="Example: cellweave simulate -o demo.h5mu --cells 500")(
        _simulate
    )


def load_inputs(
    files: list[str], *, lazily: bool | None = False, copies: int = 1, values: bool = True
) -> MuData:
    """Read the files of a command; ``name=path`` names the modality.

    Parameters
    ----------
    files
        Paths, some with a name before.
    lazily
        Whether matrices stay in the files until their cells are worked on; ``None`` decides by
        whether ``copies`` of them fit into memory.
    copies
        How many times its matrices' size the command takes at its height.
    values
        Whether the matrices are needed at all.
    """
    from cellweave.verbs.read import read

    named: dict[str, str | Path] = {}
    plain: list[str] = []
    for item in files:
        name, equals, path = item.partition("=")
        if equals and not Path(item).exists():
            named[name] = path
        else:
            plain.append(item)
    if lazily is None:
        lazily = _is_too_large([*plain, *map(str, named.values())], copies)
    return read(*plain, modalities=named or None, lazily=lazily, values=values)


def _is_too_large(paths: list[str], copies: int) -> bool:
    """Tell whether the matrices of the files, ``copies`` times, exceed the free memory."""
    from cellweave.data.lazy import can_be_lazy, free_memory, stored_bytes

    return can_be_lazy() and copies * sum(map(stored_bytes, map(Path, paths))) > free_memory()


def _read(files: Files, output: Output, as_json: Json = False) -> None:
    """Read any supported files into one .h5mu (or .zarr), with a manifest."""
    from cellweave.verbs.read import write

    mdata = load_inputs(files)
    write(mdata, output)
    shapes = {name: list(adata.shape) for name, adata in mdata.mod.items()}
    if as_json:
        show_json({"output": str(output), "modalities": shapes})
    else:
        for name, (cells, features) in shapes.items():
            say(f"{name}: {cells} cells, {features} features")
        say(f"wrote {output}")


def _validate(
    files: Files,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the safe fixes; needs -o.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="For --fix.")] = None,
    batch_key: Annotated[str, typer.Option("--batch-key")] = "batch",
    label_key: Annotated[str, typer.Option("--label-key")] = "cell_type",
    as_json: Json = False,
) -> None:
    """Look at all values and names; tell everything that is wrong, and the line that mends it."""
    from cellweave.errors import ConfigError
    from cellweave.validation import fix as apply_fixes
    from cellweave.verbs.read import write
    from cellweave.verbs.validate import validate

    if fix and output is None:
        msg = "--fix writes a new file and needs to know where. Add -o fixed.h5mu."
        raise ConfigError(msg)
    mdata = load_inputs(files)
    report = validate(mdata, batch_key=batch_key, label_key=label_key)
    done: list[str] = []
    if fix and output is not None:
        mended, done = apply_fixes(mdata, report)
        write(mended, output)
        report = validate(mended, batch_key=batch_key, label_key=label_key)
    if as_json:
        show_json({**report.to_dict(), "fixed": done})
    else:
        for line in done:
            say(f"fixed: {line}")
        for finding in report.findings:
            say(str(finding))
        say("ok" if report.ok else "not ok")
    if not report.ok:
        raise typer.Exit(2)


def _verify(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders that cellweave wrote.")],
    as_json: Json = False,
) -> None:
    """Compare files with the digests they were written with; finds one flipped bit."""
    from cellweave.storage import verify

    problems = {str(path): verify(path) for path in paths}
    if as_json:
        show_json({"whole": not any(problems.values()), "problems": problems})
    else:
        for path, found in problems.items():
            say(f"{path}: {'; '.join(found) if found else 'whole'}")
    if any(problems.values()):
        raise typer.Exit(2)


def _simulate(
    output: Output,
    cells: Annotated[int, typer.Option("--cells", help="Cells per modality.")] = 500,
    types: Annotated[int, typer.Option("--types", help="Cell types.")] = 5,
    modalities: Annotated[str, typer.Option("--modalities")] = "rna,atac,prot",
    batches: Annotated[int, typer.Option("--batches")] = 1,
    seed: Seed = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make multi-omic data with known cell types, pairing and feature links."""
    from cellweave.datasets import simulate
    from cellweave.verbs.read import write

    names = tuple(part.strip() for part in modalities.split(","))
    mdata = simulate(n_cells=cells, n_types=types, modalities=names, batches=batches, seed=seed)
    write(mdata, output)
    shapes: dict[str, Any] = {name: list(adata.shape) for name, adata in mdata.mod.items()}
    if as_json:
        show_json({"output": str(output), "modalities": shapes})
    elif not quiet:
        say(f"wrote {output}: " + ", ".join(f"{n} {s[0]} × {s[1]}" for n, s in shapes.items()))
