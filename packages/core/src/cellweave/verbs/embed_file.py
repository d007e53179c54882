"""Embed the cells of a file into a copy of it; of an h5ad only some rows are in memory at once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cellweave.data.backed import backed_cells, can_be_backed
from cellweave.errors import ConfigError, DataError, one_of
from cellweave.storage import atomic_file

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.contracts import Model
    from cellweave.records import Embedding

__all__ = ["embed_file"]

_FORMATS = (".h5ad", ".zarr")


def embed_file(
    data: str | Path,
    model: Model,
    output: str | Path,
    *,
    key_added: str,
    batch_size: int = 32,
    device: str = "cpu",
) -> Embedding:
    """Write one vector a cell into ``obsm`` of a copy of the file, and return them.

    An h5ad whose matrices are CSR is read block by block, and copied as it is; other formats are
    read whole.

    Parameters
    ----------
    data
        The cells; of several modalities ``rna`` is embedded.
    model
        A loaded model.
    output
        ``.h5ad`` or ``.zarr``.
    key_added
        ``obsm`` key.
    batch_size, device
        For the model.
    """
    path, output = _plain_path(data), Path(output)
    if output.suffix.lower() not in _FORMATS:
        msg = f"Cannot write cells to {output.name!r}. Give a name that ends in .h5ad or .zarr."
        raise ConfigError(msg)
    if output.suffix.lower() == ".h5ad" and can_be_backed(path):
        with backed_cells(path) as adata:
            found = model.embed(adata, batch_size=batch_size, device=device)
        _write_beside(path, output, found, key_added)
        return found
    adata = _read_one(data)
    found = model.embed(adata, batch_size=batch_size, device=device)
    found.write(adata, key_added=key_added)
    from cellweave.verbs.read import write

    write(adata, output)
    return found


def _plain_path(data: str | Path) -> Path:
    """Return the path without the name of a modality in front, ``rna=cells.h5ad``."""
    _, equals, rest = str(data).partition("=")
    return Path(rest if equals and not Path(data).exists() else data).expanduser()


def _write_beside(path: Path, output: Path, found: Embedding, key_added: str) -> None:
    """Copy the file and add what was found; matrices are not read."""
    import h5py
    from anndata.io import write_elem

    with atomic_file(output, kind="h5ad") as temporary:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            for group in ("obsm", "uns"):
                if group not in file:
                    write_elem(file, group, {})
            write_elem(file["obsm"], key_added, found.values)
            write_elem(file["uns"], key_added, {"provenance": found.provenance.to_json()})


def _read_one(data: str | Path) -> AnnData:
    from cellweave.verbs.read import read

    mdata = read(str(data))
    if len(mdata.mod) > 1 and "rna" not in mdata.mod:
        msg = f"{str(data)!r} holds {one_of(mdata.mod)} and no rna. Give a file with one modality."
        raise DataError(msg)
    adata: AnnData = mdata.mod["rna" if "rna" in mdata.mod else next(iter(mdata.mod))]
    return adata
