"""Read files into one MuData: h5ad, h5mu, zarr, Cell Ranger's h5 and mtx, and what plugins know."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.data.lazy import read_lazily
from cellweave.data.tenx import (
    is_matrix_folder,
    read_matrix_folder,
    read_tenx_h5,
    split_by_type,
)
from cellweave.data.untrusted import check_before_reading, unreadable
from cellweave.data.zarrs import check_zarr_before_reading, is_zarr
from cellweave.errors import CellweaveError, ConfigError, UnreadableFileError, one_of
from cellweave.joins import without_pulling
from cellweave.storage import recover

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["read"]

# A modality's name to what gives its class, imported only when a file asks for it.
Readers = Mapping[str, Callable[[], Any]]

_NAMED = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_]*)=(?P<path>.+)", re.DOTALL)
_PACKAGES = {
    "rna": "cellweave-rna",
    "atac": "cellweave-atac",
    "prot": "cellweave-protein",
    "spatial": "cellweave-spatial",
    "metab": "cellweave-metabolomics",
}


@dataclass(frozen=True, slots=True)
class _Source:
    """One thing to read, with the name the caller gave it."""

    path: Path
    name: str | None


def read(
    *paths: str | Path,
    modalities: Mapping[str, str | Path] | Sequence[str] | None = None,
    guess: Callable[[AnnData], str | None] | None = None,
    readers: Readers | None = None,
    lazily: bool = False,
    values: bool = True,
) -> MuData:
    """Read files and folders into one MuData.

    Parameters
    ----------
    *paths
        h5ad, h5mu, zarr, Cell Ranger's h5 or folder of matrix.mtx, or a format that a modality
        reads; each alone or as ``"rna=path"``. Its content decides what a format is.
    modalities
        A name for each path in turn; or a mapping from a name to its path, or to the key that the
        modality has inside a file (``{"prot": "adt"}``).
    guess
        Names the modality of an AnnData, or returns ``None``; asked where no name is given.
    readers
        Modality name to a callable that returns its class (:class:`~cellweave.contracts.Modality`),
        for formats that are not known here.
    lazily
        Leave ``X`` and ``layers`` of h5ad, h5mu, zarr and Cell Ranger's h5 in the files, as Dask
        arrays of CSR blocks of cells; other formats are read whole.
    values
        Whether ``X`` and ``layers`` are wanted at all; without them h5ad, h5mu and zarr give names
        and tables only.

    Returns
    -------
    A MuData whose ``obs`` holds only what the files kept there; annotation stays with each
    modality.

    Raises
    ------
    UnreadableFileError
        For a damaged, hostile or unknown file; a file that cellweave wrote is compared with its
        digest first, any other HDF5 file is first read in a child process with limits.
    ConfigError
        For paths and names that do not fit each other, or a modality that nobody can name.
    """
    sources, rename = _sources(paths, modalities)
    parts: dict[str, AnnData] = {}
    whole: MuData | None = None
    for source in sources:
        found = _load(source, readers or {}, lazily=lazily, values=values)
        if not isinstance(found, Mapping):
            whole = found
            found = dict(found.mod)
        for key, adata in _keyed(found, source, rename, guess).items():
            if key in parts:
                raise _twice(key, source.path)
            parts[key] = adata
    if rename:
        msg = (
            f"No file holds {', '.join(map(repr, sorted(rename)))}, neither as a path nor as a "
            f"modality. The files hold: {one_of(parts)}."
        )
        raise ConfigError(msg)
    if whole is not None and len(sources) == 1 and list(whole.mod) == list(parts):
        return whole
    return _woven(parts, whole if len(sources) == 1 else None)


def _twice(key: str, path: Path) -> ConfigError:
    msg = (
        f"{str(path)!r} brings the modality {key!r} a second time. Name one of them otherwise: "
        f"read('{key}2={path}', …)."
    )
    return ConfigError(msg)


def _sources(
    paths: Sequence[str | Path], modalities: Mapping[str, str | Path] | Sequence[str] | None
) -> tuple[list[_Source], dict[str, str]]:
    """Pair paths with names, and check that everything is there before anything is read.

    Also returns the keys inside files that shall be renamed.
    """
    if isinstance(modalities, Mapping):
        sources, rename = _by_mapping(paths, modalities)
    else:
        names = [None] * len(paths) if modalities is None else list(modalities)
        if isinstance(modalities, str) or len(names) != len(paths):
            msg = f"Got {modalities!r} for {len(paths)} paths. Give one name a path, in a list."
            raise ConfigError(msg)
        sources, rename = [_source(path, name) for path, name in zip(paths, names)], {}
    if not sources:
        msg = "Nothing to read. Give at least one path: read('rna.h5ad', 'atac.h5ad')."
        raise ConfigError(msg)
    for source in sources:
        recover(source.path)
    missing = [str(s.path) for s in sources if not s.path.exists()]
    if missing:
        msg = f"There is nothing at {', '.join(map(repr, missing))}. Check the path."
        raise UnreadableFileError(msg)
    return sources, rename


def _by_mapping(
    paths: Sequence[str | Path], modalities: Mapping[str, str | Path]
) -> tuple[list[_Source], dict[str, str]]:
    given = {str(place): name for name, place in modalities.items()}
    sources = [_source(path, given.pop(str(path), None)) for path in paths]
    # What is no path can only be a key inside a file that was given as a path.
    inside = {p: n for p, n in given.items() if paths and not Path(p).expanduser().exists()}
    sources += [_source(p, n) for p, n in given.items() if p not in inside]
    return sources, inside


def _source(path: str | Path, name: str | None) -> _Source:
    named = _NAMED.fullmatch(path) if isinstance(path, str) and not Path(path).exists() else None
    if named:
        return _Source(Path(named["path"]).expanduser(), name or named["name"])
    return _Source(Path(path).expanduser(), name)


def _load(
    source: _Source, readers: Readers, *, lazily: bool, values: bool
) -> Mapping[str, AnnData] | MuData:
    """Read one path; a key of ``""`` says that the modality is not known yet."""
    path = source.path
    later = partial(read_lazily, values=values) if lazily or not values else None
    if is_zarr(path):
        check_zarr_before_reading(path)
        return _parts_of(path, _guarded(path, later or _read_zarr))
    if _looks_like_hdf5(path):
        check_before_reading(path)
        kind = _guarded(path, _kind_of_hdf5)
        if kind in _HDF5_READERS:
            return _parts_of(path, _guarded(path, later or _HDF5_READERS[kind]))
        if kind == "10x":
            return read_tenx_h5(path, lazily=lazily)
    elif path.suffix.lower() in (".h5ad", ".h5mu"):
        check_before_reading(path)
        raise unreadable(path, "it is not an HDF5 file")
    elif is_matrix_folder(path):
        return read_matrix_folder(path)
    return _by_modality(source, readers)


def _by_modality(source: _Source, readers: Readers) -> dict[str, AnnData]:
    """Let the named modality, or each whose ``formats`` fit, read what is not known here."""
    path = source.path
    if source.name is not None and source.name not in readers:
        raise unreadable(path, f"it is of no format known here.{_known(readers)}")
    names = [source.name] if source.name is not None else list(readers)
    refusals = []
    for name in names:
        modality = readers[name]()
        if source.name is None and not _may_read(modality, path):
            continue
        try:
            return {name: modality().read(path)}
        except CellweaveError as error:
            refusals.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - parsers raise anything over a damaged file
            refusals.append(f"{name}: {type(error).__name__}: {error}")
    if refusals:
        msg = f"Cannot read {str(path)!r}. {' '.join(refusals)}"
        raise UnreadableFileError(msg)
    raise unreadable(path, f"it is of no format known here.{_known(readers)}")


def _may_read(modality: Any, path: Path) -> bool:
    """Tell from the modality's ``formats``; those that describe a folder are tried on any."""
    if path.is_dir():
        return any(not str(sign).startswith(".") for sign in modality.formats)
    return any(path.name.lower().endswith(str(sign).lower()) for sign in modality.formats)


def _parts_of(path: Path, data: Any) -> Mapping[str, AnnData] | MuData:
    """Check the sparse matrices of what was read, and split what holds several feature types."""
    parts = data.mod if hasattr(data, "mod") else {"": data}
    for key, adata in parts.items():
        _check_sparse(path, key, adata)
    if hasattr(data, "mod"):
        whole: MuData = data
        return whole
    types = data.var.get("feature_types")
    if types is not None and types.nunique() > 1 and types.notna().all():
        return split_by_type(data)
    return {"": data}


def _keyed(
    found: Mapping[str, AnnData],
    source: _Source,
    rename: dict[str, str],
    guess: Callable[[AnnData], str | None] | None,
) -> dict[str, AnnData]:
    if source.name is not None:
        if len(found) == 1 or source.name in found:
            return {source.name: found.get(source.name, next(iter(found.values())))}
        msg = (
            f"{str(source.path)!r} holds {len(found)} modalities ({', '.join(found)}), so it "
            f"cannot be named {source.name!r}. Give the path alone, or name the one to take."
        )
        raise ConfigError(msg)
    return {
        rename.pop(key, key) or _guessed(adata, source.path, guess): adata
        for key, adata in found.items()
    }


def _guessed(adata: AnnData, path: Path, guess: Callable[[AnnData], str | None] | None) -> str:
    name = guess(adata) if guess is not None else None
    if name:
        return name
    from cellweave.validation.modalities import speaks_for
    from cellweave.validation.names import describe_names
    from cellweave.validation.values import summarise_values

    likely = None
    if adata.X is not None and adata.n_vars:
        likely = speaks_for(adata, describe_names(adata.var_names), summarise_values(adata.X))
    packages = [_PACKAGES[likely]] if likely else list(_PACKAGES.values())
    example = ", ".join(repr(str(n)) for n in adata.var_names[:3])
    msg = (
        f"Nothing installed knows the modality of {str(path)!r} ({adata.n_vars} features such as "
        f"{example}). Install what does: pip install {' or '.join(packages)}; or name it yourself: "
        f"read('{likely or 'rna'}={path}')."
    )
    raise ConfigError(msg)


def _woven(parts: dict[str, AnnData], whole: MuData | None) -> MuData:
    """Make a MuData that pulls nothing up, whichever mudata is installed."""
    import mudata

    with without_pulling():
        woven = mudata.MuData(parts)
        if whole is not None:
            for column in whole.obs.columns:
                woven.obs[column] = whole.obs[column].reindex(woven.obs_names)
            woven.uns.update(whole.uns)
    return woven


def _known(readers: Readers) -> str:
    asked = f", and what these modalities read: {one_of(readers)}" if readers else ""
    return (
        f" Known are h5ad, h5mu, zarr, Cell Ranger h5 and matrix.mtx folders{asked}; modality "
        "packages (pip install cellweave-rna …) bring more"
    )


def _guarded(path: Path, reader: Callable[[Path], Any]) -> Any:
    """Call a reader; whatever it stumbles over in a file is one error."""
    try:
        return reader(path)
    except CellweaveError:
        raise
    except Exception as error:
        raise unreadable(path, f"{type(error).__name__}: {error}") from error


def _read_h5ad(path: Path) -> Any:
    import anndata

    return anndata.read_h5ad(path)


def _read_h5mu(path: Path) -> Any:
    import mudata

    with without_pulling():
        return mudata.read_h5mu(path)


_HDF5_READERS = {"anndata": _read_h5ad, "mudata": _read_h5mu}


def _read_zarr(path: Path) -> Any:
    import anndata
    import mudata
    import zarr

    root = zarr.open_group(str(path), mode="r")
    if root.attrs.get("encoding-type") == "MuData" or "mod" in root:
        with without_pulling():
            return mudata.read_zarr(str(path))
    return anndata.read_zarr(str(path))


def _kind_of_hdf5(path: Path) -> str:
    import h5py

    with h5py.File(path, "r") as file:
        encoding = str(file.attrs.get("encoding-type", "")).lower()
        if encoding == "mudata" or "mod" in file:
            return "mudata"
        if encoding == "anndata" or "obs" in file:
            return "anndata"
        if any("barcodes" in group for group in file.values() if isinstance(group, h5py.Group)):
            return "10x"
    return "unknown"


def _looks_like_hdf5(path: Path) -> bool:
    import h5py

    return path.is_file() and bool(h5py.is_hdf5(path))


def _check_sparse(path: Path, key: str, adata: AnnData) -> None:
    """Refuse indices outside their matrix: they would read, or crash on, foreign memory."""
    named = {"X": adata.X, **{f"layers[{k!r}]": v for k, v in adata.layers.items()}}
    named |= {f"obsm[{k!r}]": v for k, v in adata.obsm.items()}
    named |= {f"obsp[{k!r}]": v for k, v in adata.obsp.items()}
    for name, matrix in named.items():
        if hasattr(matrix, "indptr") and not _is_consistent(matrix):
            where = f"{key}: {name}" if key else name
            raise unreadable(path, f"the sparse matrix {where} points outside itself")


def _is_consistent(matrix: Any) -> bool:
    indptr, indices, data = matrix.indptr, matrix.indices, matrix.data
    by_row = getattr(matrix, "format", "csr") == "csr"
    width = matrix.shape[1] if by_row else matrix.shape[0]
    length = matrix.shape[0] if by_row else matrix.shape[1]
    if len(indptr) != length + 1 or len(indices) != len(data):
        return False
    if indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        return False
    return len(indices) == 0 or bool(indices.min() >= 0 and indices.max() < width)
