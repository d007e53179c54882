"""Read files into a MuData and write data back, through the doorway."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["read", "write"]


def read(
    *paths: str | Path,
    modalities: Mapping[str, str | Path] | None = None,
    lazily: bool = False,
    values: bool = True,
) -> MuData:
    """Read one or more files into a MuData.

    Knows h5ad, h5mu, zarr, 10x h5 and 10x mtx folders (split by feature type), and the formats of
    the installed modality packages. The modality of each file is guessed from names and values by
    those packages, or given by the caller.

    Parameters
    ----------
    paths
        Files or folders.
    modalities
        Modality name to path, for files whose modality is known.
    lazily
        Leave the matrices of h5ad, h5mu, zarr and Cell Ranger's h5 in their files, as Dask arrays
        (needs the extra ``out-of-core``): :func:`cellweave.prepare` then works through them block
        by block, and :func:`cellweave.write` too.
    values
        Whether matrices are wanted at all; :func:`cellweave.link` mostly needs names alone.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.read("rna.h5ad", "atac.h5ad")  # doctest: +SKIP
    >>> mdata = cellweave.read(modalities={"rna": "a.h5ad", "prot": "b.h5ad"})  # doctest: +SKIP
    """
    from cellweave.data import read as read_files

    manager = get_plugin_manager()
    registry = manager.registry(ComponentKind.MODALITY)
    readers = {name: registry[name].load for name in registry}
    return read_files(
        *paths,
        modalities=modalities,
        guess=manager.guess_modality,
        readers=readers,
        lazily=lazily,
        values=values,
    )


def write(data: MuData | AnnData, path: str | Path) -> None:
    """Write to h5mu, h5ad or zarr by the suffix: atomically, with a manifest of digests."""
    from cellweave.data import write as write_file

    write_file(data, path)
