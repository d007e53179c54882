"""Read published vocabularies: names and ids, factors, gene orders; JSON, TSV, h5ad and npy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cellweave.errors import UnreadableFileError

__all__ = ["ids_of_order", "read_factors", "read_gene_order", "read_json_table"]


def read_json_table(path: str | Path) -> dict[str, float]:
    """Read a flat JSON object of names and numbers (token ids, medians)."""
    try:
        values = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        msg = f"Cannot read {str(path)!r} as JSON: {error}. Give the published file."
        raise UnreadableFileError(msg) from error
    if not isinstance(values, dict) or not all(_is_number(v) for v in values.values()):
        msg = f"{str(path)!r} is not a flat table of names and numbers. Expected {{name: number}}."
        raise UnreadableFileError(msg)
    return values


def read_gene_order(path: str | Path, *, column: str = "gene_name") -> list[str]:
    """Read an ordered list of genes: a TSV with ``column``, an h5ad's ``var_names``, or lines."""
    path = Path(path)
    if path.suffix == ".h5ad":
        return _var_names(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Cannot read {str(path)!r}: {error}. Give a text file or an h5ad."
        raise UnreadableFileError(msg) from error
    header = lines[0].split("\t") if lines else []
    if column in header:
        at = header.index(column)
        return [line.split("\t")[at] for line in lines[1:] if line.strip()]
    return [line.strip() for line in lines if line.strip()]


def ids_of_order(genes: Sequence[str], *, before: Sequence[str] = ()) -> dict[str, int]:
    """Return name → id: auxiliary names first, then the genes in their order."""
    return {name: i for i, name in enumerate([*before, *genes])}


def read_factors(path: str | Path, genes: Sequence[str]) -> dict[str, float]:
    """Read one factor a gene from ``.npy`` in the order of ``genes``; NaN: never measured."""
    try:
        values = np.load(path, allow_pickle=False).astype(np.float64).ravel()
    except (OSError, ValueError) as error:
        msg = f"Cannot read {str(path)!r}: {error}. Give an .npy of numbers."
        raise UnreadableFileError(msg) from error
    if len(values) != len(genes):
        msg = (
            f"{str(path)!r} holds {len(values)} factors for {len(genes)} genes. Give the file that "
            "belongs to this gene order."
        )
        raise UnreadableFileError(msg)
    return dict(zip(genes, values.tolist()))


def rounded_factors(factors: Mapping[str, float]) -> dict[str, float]:
    """Round halves up, and replace zeros and gaps by 1 (Nicheformer's notebooks)."""
    values = np.floor(np.nan_to_num(np.fromiter(factors.values(), float)) + 0.5)
    return dict(zip(factors, np.where(values == 0, 1.0, values).tolist()))


def _var_names(path: Path) -> list[str]:
    import anndata

    try:
        return [str(name) for name in anndata.read_h5ad(path, backed="r").var_names]
    except (OSError, KeyError, ValueError) as error:
        msg = f"Cannot read {str(path)!r} as h5ad: {error}. Give the published gene order."
        raise UnreadableFileError(msg) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
