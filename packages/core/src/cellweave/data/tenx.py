"""Read what Cell Ranger writes: the h5 of version 2 and 3, and folders of matrix.mtx."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.data.lazy import lazy_columns
from cellweave.data.untrusted import check_before_reading, unreadable
from cellweave.errors import DataError, UnreadableFileError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["is_matrix_folder", "read_matrix_folder", "read_tenx_h5", "split_by_type"]

_MODALITIES = {
    "Gene Expression": "rna",
    "Antibody Capture": "prot",
    "Peaks": "atac",
    "CRISPR Guide Capture": "crispr",
    "Multiplexing Capture": "hashtag",
    "Antigen Capture": "antigen",
    "Custom": "custom",
}
_FEATURES = ("features.tsv", "genes.tsv")
_EXACT_IN_FLOAT32 = 1 << 24
_INTERVAL = r"^(?P<chrom>[^:]+):(?P<chromStart>\d+)-(?P<chromEnd>\d+)$"
# gzip cannot shrink more than this, and an entry of a matrix takes at least this many bytes.
_LARGEST_RATIO = 1032
_SHORTEST_ENTRY = 6


def read_tenx_h5(path: Path, *, lazily: bool = False) -> dict[str, AnnData]:
    """Read a Cell Ranger h5 (version 2 or 3) into one AnnData a feature type.

    ``lazily`` leaves the values of version 3 in the file, to be read in blocks of cells.
    """
    check_before_reading(path)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "matrix" in file:
                counts, features, barcodes = _version_3(file["matrix"], path if lazily else None)
            else:
                counts, features, barcodes = _version_2(file)
        return split_by_type(_assembled(counts, features, barcodes))
    except UnreadableFileError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise unreadable(path, f"it is no Cell Ranger matrix ({error})") from error


def is_matrix_folder(folder: Path) -> bool:
    """Tell whether a folder holds ``matrix.mtx`` and its features, perhaps gzipped and prefixed."""
    if not folder.is_dir() or not _candidates(folder):
        return False
    endings = tuple(f"{name}{gz}" for name in _FEATURES for gz in ("", ".gz"))
    return any(p.name.endswith(endings) for p in folder.iterdir())


def read_matrix_folder(folder: Path) -> dict[str, AnnData]:
    """Read ``matrix.mtx``, ``features.tsv`` (or ``genes.tsv``) and ``barcodes.tsv``."""
    found = _candidates(folder)
    if len(found) > 1:
        msg = (
            f"{str(folder)!r} holds {len(found)} matrices: {', '.join(p.name for p in found)}. "
            "Put each with its features and barcodes into a folder of its own."
        )
        raise DataError(msg)
    matrix = found[0]
    prefix = matrix.name[: matrix.name.index("matrix.mtx")]
    try:
        features = _table(_beside(folder, prefix, _FEATURES))
        barcodes = _table(_beside(folder, prefix, ("barcodes.tsv",)))[0].to_numpy(object)
        counts = _matrix_market(matrix, (len(features), len(barcodes)))
        return split_by_type(_assembled(counts, _named(features), barcodes))
    except (UnreadableFileError, FileNotFoundError):
        raise
    except (OSError, KeyError, ValueError, TypeError, EOFError, OverflowError) as error:
        raise unreadable(matrix, error) from error


def split_by_type(adata: AnnData) -> dict[str, AnnData]:
    """Give one AnnData for each value of ``var["feature_types"]``, by modality name."""
    types = adata.var["feature_types"].astype(str)
    parts: dict[str, AnnData] = {}
    for kind in types.unique():
        name = _MODALITIES.get(kind) or "".join(
            c if c.isalnum() else "_" for c in kind.strip().lower()
        )
        part = adata[:, (types == kind).to_numpy()].copy()
        part.var_names_make_unique()
        parts[name or "unnamed"] = _with_intervals(part) if name == "atac" else part
    return parts


def _version_3(group: Any, lazy: Path | None) -> tuple[Any, pd.DataFrame, np.ndarray]:
    features = group["features"]
    table = {"gene_ids": _text(features["id"]), "name": _text(features["name"])}
    table["feature_types"] = _text(features["feature_type"])
    for key in ("genome", "interval"):
        if key in features:
            table[key] = _text(features[key])
    counts = lazy_columns(lazy, "matrix", group) if lazy else _compressed(group)
    return counts, pd.DataFrame(table), _text(group["barcodes"])


def _version_2(file: Any) -> tuple[sp.csr_matrix, pd.DataFrame, np.ndarray]:
    genomes = [g for g in file if "barcodes" in file[g] and "genes" in file[g]]
    if not genomes:
        msg = f"there is neither a group 'matrix' nor a genome; it holds {sorted(file)[:5]}"
        raise KeyError(msg)
    tables, blocks = [], []
    barcodes = _text(file[genomes[0]]["barcodes"])
    for genome in genomes:
        group = file[genome]
        if not np.array_equal(_text(group["barcodes"]), barcodes):
            msg = f"the genomes {genomes} list different barcodes; write one file a genome"
            raise ValueError(msg)
        ids, names = _text(group["genes"]), _text(group["gene_names"])
        tables.append(pd.DataFrame({"gene_ids": ids, "name": names, "genome": genome}))
        blocks.append(_compressed(group))
    features = pd.concat(tables, ignore_index=True)
    features["feature_types"] = "Gene Expression"
    return sp.csr_matrix(sp.hstack(blocks, format="csr")), features, barcodes


def _compressed(group: Any) -> sp.csr_matrix:
    """Columns of features × barcodes are rows of cells × features: nothing is turned round."""
    n_features, n_cells = (int(n) for n in group["shape"][()])
    data, indices, indptr = (group[k][()] for k in ("data", "indices", "indptr"))
    fits = len(indptr) == n_cells + 1 and indptr[0] == 0 and indptr[-1] == len(data)
    if not fits or len(indices) != len(data) or (np.diff(indptr) < 0).any():
        msg = "its sparse matrix is inconsistent"
        raise ValueError(msg)
    if len(indices) and not (indices.min() >= 0 and indices.max() < n_features):
        msg = f"feature numbers lie outside the {n_features} features"
        raise ValueError(msg)
    return sp.csr_matrix((_as_float(data), indices, indptr), shape=(n_cells, n_features))


def _as_float(data: np.ndarray) -> np.ndarray:
    exact = len(data) == 0 or np.abs(data).max() < _EXACT_IN_FLOAT32
    return data.astype(np.float32 if exact else np.float64)


def _assembled(counts: Any, features: pd.DataFrame, barcodes: np.ndarray) -> AnnData:
    from anndata import AnnData

    if counts.shape != (len(barcodes), len(features)):
        msg = f"{counts.shape} values for {len(barcodes)} barcodes and {len(features)} features"
        raise ValueError(msg)
    var = features.drop(columns="name").set_index(pd.Index(features["name"].to_numpy(object)))
    return AnnData(X=counts, obs=pd.DataFrame(index=pd.Index(barcodes)), var=var)


def _with_intervals(adata: AnnData) -> AnnData:
    places = adata.var_names.str.extract(_INTERVAL)
    if places.notna().to_numpy().all():
        adata.var["chrom"] = places["chrom"].to_numpy(object)
        for column in ("chromStart", "chromEnd"):
            adata.var[column] = places[column].to_numpy(object).astype(np.int64)
    return adata


def _text(dataset: Any) -> np.ndarray:
    values = dataset[()]
    return np.array(
        [v.decode("utf-8") if isinstance(v, bytes) else str(v) for v in values], dtype=object
    )


def _candidates(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz")))


def _beside(folder: Path, prefix: str, names: tuple[str, ...]) -> Path:
    for name in names:
        for ending in ("", ".gz"):
            if (path := folder / f"{prefix}{name}{ending}").is_file():
                return path
    msg = (
        f"{str(folder)!r} has a matrix.mtx but no {' or '.join(names)} (or .gz) beside it. "
        "Copy the whole folder that Cell Ranger wrote."
    )
    raise UnreadableFileError(msg)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open plain or gzipped, by content: names lie."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not gzipped:
            yield file
            return
        with gzip.open(file) as unpacked:
            yield unpacked  # type: ignore[misc]


def _table(path: Path) -> pd.DataFrame:
    try:
        with _opened(path) as file:
            return pd.read_csv(
                file,
                sep="\t",
                header=None,
                dtype=str,
                keep_default_na=False,
                quoting=csv.QUOTE_NONE,
            )
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error


def _named(table: pd.DataFrame) -> pd.DataFrame:
    named = pd.DataFrame({"gene_ids": table[0], "name": table[1] if 1 in table else table[0]})
    named["feature_types"] = table.get(2, "Gene Expression")
    return named


def _matrix_market(path: Path, expected: tuple[int, int]) -> sp.csr_matrix:
    """Check what the header promises against names and size, then parse."""
    with _opened(path) as file:
        shape, n_values = _promised(file)
    if shape != expected:
        msg = (
            f"{shape[0]} × {shape[1]} values for {expected[0]} features and {expected[1]} barcodes"
        )
        raise ValueError(msg)
    if n_values * _SHORTEST_ENTRY > _LARGEST_RATIO * path.stat().st_size:
        msg = f"the header promises {n_values} values, more than the file can hold"
        raise ValueError(msg)
    from scipy.io import mmread

    with _opened(path) as file:
        matrix = sp.csr_matrix(sp.coo_matrix(mmread(file)).T)
    matrix.data = _as_float(matrix.data)
    return matrix


def _promised(file: IO[bytes]) -> tuple[tuple[int, int], int]:
    first = file.readline(1000).lower().split()
    if first[:3] != [b"%%matrixmarket", b"matrix", b"coordinate"] or b"complex" in first:
        msg = "it does not begin as a sparse MatrixMarket file"
        raise ValueError(msg)
    for _ in range(10_000):
        line = file.readline(10_000)
        if not line.startswith(b"%"):
            rows, columns, n_values = (int(n) for n in line.split())
            return (rows, columns), n_values
    msg = "its header never ends"
    raise ValueError(msg)
