"""The commands ``annotate-ions`` and ``register-image``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cellweave.cli.commands_data import load_inputs
from cellweave.cli.options import Json, Output
from cellweave.cli.output import say, show_json

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData

__all__ = ["register"]

_SEPARATORS = {".tsv": "\t", ".csv": ","}
_LANDMARKS = ("image_x", "image_y", "spot_x", "spot_y")


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(
        "annotate-ions",
        epilog="Example: cellweave annotate-ions image.imzML lipids.csv -o ions.tsv --ppm 5",
    )(_annotate)
    app.command(
        "register-image",
        epilog="Example: cellweave register-image msi.h5ad visium.h5ad -o msi_on_spots.h5ad "
        "--spot-diameter 55 --landmarks marks.csv",
    )(_register)


def _annotate(
    file: Annotated[str, typer.Argument(help="Data whose features have an m/z.")],
    table: Annotated[Path, typer.Argument(help="Compounds: `formula` or `mass`, and `name`.")],
    output: Output,
    ppm: Annotated[float, typer.Option("--ppm", help="Tolerance.")] = 5.0,
    polarity: Annotated[
        str, typer.Option("--polarity", help="positive or negative: its usual adducts.")
    ] = "positive",
    adducts: Annotated[
        list[str] | None, typer.Option("--adduct", help="An ion such as [M+Na]+; repeatable.")
    ] = None,
    modality: Annotated[
        str | None, typer.Option("--modality", help="In a file of several.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the compounds of a table that each m/z may be: by exact mass, adduct and tolerance."""
    from cellweave.errors import ConfigError, one_of
    from cellweave_metabolomics.annotation import annotate
    from cellweave_metabolomics.chemistry import ADDUCTS

    _check_table_name(output)
    if polarity not in ADDUCTS:
        msg = f"Got --polarity {polarity!r}. Expected one of {one_of(ADDUCTS)}."
        raise ConfigError(msg)
    data = _one(file, modality, "metab", values=False)
    found = annotate(data, table, ppm=ppm, adducts=adducts or ADDUCTS[polarity])
    _write_table(found, output)
    named = int(found["feature"].nunique())
    summary = {"features": data.n_vars, "annotated": named, "candidates": len(found)}
    if as_json:
        show_json({"output": str(output), **summary})
    else:
        say(
            f"{named} of {data.n_vars} features have {len(found)} candidates within {ppm:g} ppm; "
            f"wrote {output}"
        )


def _register(
    image: Annotated[str, typer.Argument(help="Pixels with coordinates in obsm['spatial'].")],
    spots: Annotated[str, typer.Argument(help="Spots with coordinates in obsm['spatial'].")],
    output: Output,
    spot_diameter: Annotated[float, typer.Option("--spot-diameter", help="In the spots' unit.")],
    pixel_size: Annotated[float, typer.Option("--pixel-size", help="In the image's unit.")] = 1.0,
    landmarks: Annotated[
        Path | None, typer.Option("--landmarks", help="Table: image_x, image_y, spot_x, spot_y.")
    ] = None,
    shape: Annotated[str, typer.Option("--shape", help="Of spots: circle or square.")] = "circle",
    aggregate: Annotated[str, typer.Option("--aggregate", help="mean or sum.")] = "mean",
    samples: Annotated[int, typer.Option("--samples", help="Parts of a pixel's edge.")] = 5,
    as_json: Json = False,
) -> None:
    """Bring a metabolite image onto the spots of another measurement of the same tissue."""
    from cellweave.verbs.read import write
    from cellweave_metabolomics.registration import register as bring

    affine = None if landmarks is None else _affine(landmarks)
    found = bring(
        _one(image, None, "metab"), _one(spots, None, "spatial"), spot_diameter=spot_diameter,
        affine=affine, pixel_size=pixel_size, shape=shape, aggregate=aggregate,
        samples=samples,
    )  # fmt: skip
    write(found, output)
    covered = int((found.obs["covered"] > 0).sum())
    if as_json:
        show_json({"output": str(output), "spots": found.n_obs, "covered": covered})
    else:
        say(f"{covered} of {found.n_obs} spots are covered by pixels; wrote {output}")


def _one(file: str, modality: str | None, usual: str, *, values: bool = True) -> AnnData:
    """Read one modality: the named one, the usual one, or the only one there is."""
    from cellweave.errors import DataError, one_of

    mdata = load_inputs([file], values=values)
    names = list(mdata.mod)
    name = modality or (usual if usual in names or len(names) > 1 else names[0])
    if name not in names:
        msg = (
            f"{file!r} holds {one_of(names)}, no {name!r}. Write {usual}=FILE to name it yourself."
        )
        raise DataError(msg)
    found: AnnData = mdata.mod[name]
    return found


def _affine(path: Path) -> np.ndarray:
    from cellweave.errors import DataError
    from cellweave.linking import read_delimited
    from cellweave_metabolomics.registration import fit_affine

    frame = read_delimited(path)
    missing = [c for c in _LANDMARKS if c not in frame.columns]
    if missing:
        msg = (
            f"{str(path)!r} lacks the columns {missing!r}; it has {list(frame.columns)[:8]!r}. "
            f"Expected {', '.join(_LANDMARKS)}, one landmark a row."
        )
        raise DataError(msg)
    return fit_affine(*_numbers(frame, path))


def _numbers(frame: pd.DataFrame, path: Path) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np
    import pandas as pd

    from cellweave.errors import DataError

    table = frame[list(_LANDMARKS)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(table).all():
        row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0]) + 2
        msg = f"Row {row} of {str(path)!r} is no four numbers. Mend or drop the row."
        raise DataError(msg)
    return table[:, :2], table[:, 2:]


def _check_table_name(path: Path) -> None:
    from cellweave.errors import DataError

    if path.suffix not in (*_SEPARATORS, ".parquet"):
        msg = f"A table cannot be written to {path.name!r}. Use .tsv, .csv or .parquet."
        raise DataError(msg)


def _write_table(table: pd.DataFrame, path: Path) -> None:
    from cellweave.storage import atomic_file, write_bytes

    if path.suffix == ".parquet":
        with atomic_file(path, kind="ion_annotation") as temporary:
            table.to_parquet(temporary, engine="pyarrow")
        return
    text = table.to_csv(sep=_SEPARATORS[path.suffix], index=False)
    write_bytes(path, text.encode(), kind="ion_annotation")
