"""Write AnnData and MuData: whole or not at all, with a manifest, the caller's object untouched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.errors import ConfigError, DataError
from cellweave.storage import atomic_file, atomic_folder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["write"]

_HEADER_BYTES = 512


def write(data: MuData | AnnData, path: str | Path, *, compression: str | None = "gzip") -> None:
    """Write to ``.h5ad``, ``.h5mu`` or ``.zarr``, atomically and with a manifest of digests.

    Parameters
    ----------
    data
        Strings in ``obs`` and ``var`` become categories in the file, not in ``data``.
    path
        Its ending says the format. A MuData goes to ``.h5mu`` or ``.zarr``; an AnnData to
        ``.h5ad`` or ``.zarr``.
    compression
        For HDF5: ``"gzip"``, ``"lzf"`` or ``None``; zarr keeps its own default.
    """
    path = Path(path)
    suffix, is_mudata = path.suffix.lower(), hasattr(data, "mod")
    _check_format(path, suffix, is_mudata=is_mudata)
    if suffix == ".zarr":
        with atomic_folder(path, kind="zarr") as folder:
            _write_zarr(folder, data)
        return
    with atomic_file(path, kind=suffix[1:]) as temporary:
        _write_hdf5(temporary, data, compression)


def _check_format(path: Path, suffix: str, *, is_mudata: bool) -> None:
    fitting = (".h5mu", ".zarr") if is_mudata else (".h5ad", ".zarr")
    if suffix in fitting:
        return
    what = "a MuData" if is_mudata else "an AnnData"
    hint = " Write one modality with write(mdata['rna'], …)." if suffix == ".h5ad" else ""
    msg = (
        f"Cannot write {what} to {path.name!r}. Expected a name that ends in "
        f"{' or '.join(fitting)}.{hint}"
    )
    raise ConfigError(msg)


def _write_hdf5(path: Path, data: Any, compression: str | None) -> None:
    import h5py

    options = {"compression": compression} if compression else {}
    is_mudata = hasattr(data, "mod")
    with h5py.File(path, "w", userblock_size=_HEADER_BYTES if is_mudata else 0) as file:
        _write_into(file, data, options)
    if is_mudata:
        import mudata

        version = getattr(mudata, "__mudataversion__", "0.1.0")
        text = f"MuData (format-version={version};creator=cellweave;creator-version=0.1)"
        with path.open("r+b") as raw:
            raw.write(text.encode().ljust(_HEADER_BYTES, b"\0"))


def _write_zarr(folder: Path, data: Any) -> None:
    import zarr

    root = zarr.open_group(str(folder), mode="w", zarr_format=2)
    _write_into(root, data, {})


def _write_into(root: Any, data: Any, options: dict[str, Any]) -> None:
    """Write the elements of AnnData or MuData under ``root``, as the formats prescribe."""
    from anndata.io import write_elem

    if not hasattr(data, "mod"):
        write_elem(root, "/", _categorised(data), dataset_kwargs=options)
        return
    tables = {"obs": _with_categories(data.obs), "var": _with_categories(data.var)}
    for name in ("obsm", "varm", "obsp", "varp", "uns", "obsmap", "varmap"):
        tables[name] = dict(getattr(data, name))
    for name, table in tables.items():
        write_elem(root, name, table, dataset_kwargs=options)
    mods = root.require_group("mod")
    for key, adata in data.mod.items():
        if hasattr(adata, "mod"):
            msg = f"mdata[{key!r}] is itself a MuData. Write nested objects to files of their own."
            raise DataError(msg)
        write_elem(mods, key, _categorised(adata), dataset_kwargs=options)
    mods.attrs["mod-order"] = list(data.mod)
    root.attrs["axis"] = data.axis
    root.attrs["encoding-type"] = "MuData"
    root.attrs["encoding-version"] = "0.1.0"
    root.attrs["encoder"] = "cellweave"
    root.attrs["encoder-version"] = "0.1"


def _categorised(adata: AnnData) -> AnnData:
    """Share the arrays of ``adata``; only its two tables are copied, to hold categories."""
    from anndata import AnnData

    raw = adata.raw
    return AnnData(
        X=adata.X,
        obs=_with_categories(adata.obs),
        var=_with_categories(adata.var),
        uns=dict(adata.uns),
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
        layers=dict(adata.layers),
        raw=None
        if raw is None
        else {"X": raw.X, "var": _with_categories(raw.var), "varm": dict(raw.varm)},
    )


def _with_categories(table: Any) -> Any:
    """Return a copy whose text columns are categories where that is shorter, as anndata does."""
    import pandas as pd

    table = table.copy()
    for column in table.columns:
        values = table[column]
        if pd.api.types.infer_dtype(values, skipna=True) != "string" or values.dtype == "category":
            continue
        categories = pd.Categorical(values)
        if len(categories.categories) < len(categories) or values.isna().any():
            table[column] = categories
    return table
