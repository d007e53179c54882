"""The report of a preparation: what was done, how good the cells are, where they lie.

It knows no modality by name: quality comes from whoever measured it, coordinates in ``obsm``
call for a picture of the tissue, and masses in ``var["mz"]`` for images of ions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave import pl
from cellweave.labels import is_known
from cellweave.pl.axes import new_axes
from cellweave.reporting.numbers import format_number
from cellweave.reporting.page import Block, Figure, Page, Section, Table, write_page

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData

__all__ = ["preparation_page", "write_preparation_report"]

_MOST_SHOWN = 20_000
_MOST_GROUPS = 12
_MOST_VIOLINS = 6
_MOST_IONS = 4


def write_preparation_report(
    path: str | Path,
    *,
    prepared: MuData,
    quality: Mapping[str, pd.DataFrame],
    representations: Mapping[str, str],
    title: str | None = None,
    label_key: str = "cell_type",
    batch_key: str = "batch",
    seed: int = 0,
) -> None:
    """Write one self-contained HTML file; the same inputs give the same bytes.

    Parameters
    ----------
    path
        Where to write.
    prepared
        What ``prepare`` gave; not changed.
    quality
        Modality to measures of its raw cells, as from ``Modality.quality``.
    representations
        Modality to the ``obsm`` key of its components.
    title
        Of the page.
    label_key, batch_key
        ``obs`` columns to colour by, where they are there.
    seed
        Of the layout.
    """
    page = preparation_page(
        prepared=prepared, quality=quality, representations=representations, title=title,
        label_key=label_key, batch_key=batch_key, seed=seed,
    )  # fmt: skip
    write_page(path, page)


def preparation_page(
    *,
    prepared: MuData,
    quality: Mapping[str, pd.DataFrame],
    representations: Mapping[str, str],
    title: str | None = None,
    label_key: str = "cell_type",
    batch_key: str = "batch",
    seed: int = 0,
) -> Page:
    """Build the page without writing it; parameters as in :func:`write_preparation_report`."""
    from cellweave import __version__

    sections: list[Section | None] = []
    tiles = []
    for name, adata in prepared.mod.items():
        keys = {"label_key": label_key, "batch_key": batch_key}
        tiles.append((name, f"{adata.n_obs:,}", f"cells, {adata.n_vars:,} features"))
        sections.append(_steps_section(name, adata))
        sections.append(_quality_section(name, adata, quality.get(name), batch_key))
        sections.append(_map_section(name, adata, representations[name], seed=seed, **keys))
        sections.append(_places_section(name, adata, representations[name], label_key))
    return Page(
        title=title or f"{' + '.join(prepared.mod)} prepared",
        sections=tuple(s for s in sections if s is not None),
        tiles=tuple(tiles),
        footer=f"Made by cellweave {__version__}. This file needs no network and no other file. "
        "Distances in UMAP pictures prove nothing.",
    )


def _steps_section(name: str, adata: AnnData) -> Section:
    """Return every step with its settings and outcome, and what it was made with."""
    record = json.loads(adata.uns.get("preparation", "{}"))
    rows = [
        (s["name"], _told(s["parameters"]), _told(s["outcome"])) for s in record.get("steps", ())
    ]
    said = record.get("provenance") or {}
    made_with = ", ".join(f"{n} {v}" for n, v in said.get("versions", {}).items())
    note = f"Seed {said['seed']}; {made_with}." if said else "How it was made is not recorded."
    table = Table(header=("Step", "Settings", "Outcome"), rows=rows, note=note)
    return Section(title=f"{name}: what was done", blocks=(table,))


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{int(value):,}" if value.is_integer() else format_number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return f"{len(value)} ({', '.join(map(str, value[:5]))}{' …' if len(value) > 5 else ''})"
    return "none" if value is None else str(value)


def _quality_section(
    name: str, adata: AnnData, quality: pd.DataFrame | None, batch_key: str
) -> Section | None:
    """Return a violin for each measure that varies, by batch, and how many cells stand out."""
    if quality is None or not len(quality):
        return None
    by = _groups(adata, quality, batch_key)
    numbers = [c for c in quality if quality[c].dtype.kind in "fiu" and quality[c].nunique() > 1]
    blocks: list[Block] = [
        _violin(name, quality, str(column), by) for column in numbers[:_MOST_VIOLINS]
    ]
    flags = [c for c in quality if quality[c].dtype.kind == "b"]
    if flags:
        rows = [(str(c).replace("_", " "), f"{int(quality[c].sum()):,}") for c in flags]
        note = f"Of {len(quality):,} cells. Nothing is dropped unless a setting says so."
        blocks.append(Table(header=("Stands out by", "Cells"), rows=rows, note=note))
    lead = "The cells as they came, before any was dropped."
    return Section(title=f"{name}: quality of the cells", lead=lead, blocks=tuple(blocks))


def _groups(adata: AnnData, quality: pd.DataFrame, batch_key: str) -> np.ndarray | None:
    if batch_key not in adata.obs or not quality.index.isin(adata.obs_names).all():
        return None
    groups = adata.obs[batch_key].astype(str).loc[quality.index].to_numpy()
    return groups if 1 < len(set(groups)) <= _MOST_GROUPS else None


def _violin(name: str, quality: pd.DataFrame, column: str, by: np.ndarray | None) -> Figure:
    values = quality[column].to_numpy(dtype=np.float64)
    known = values[np.isfinite(values)]
    long_tail = known.min() >= 0 and known.max() > 20 * max(float(np.median(known)), 1.0)
    counts = known.min() >= 0 and known.max() > 1000
    ax = pl.qc_violins(
        quality, column, by=by, log=bool(long_tail or counts), title=column.replace("_", " ")
    )
    return Figure(
        name=f"{name}-quality-{column}",
        title=f"{name}: {column}",
        canvas=ax.figure,  # type: ignore[arg-type]
        wide=by is not None and len(set(by)) > 4,
    )


def _map_section(
    name: str, adata: AnnData, key: str, *, label_key: str, batch_key: str, seed: int
) -> Section | None:
    """Return UMAPs of the components by type, batch and depth."""
    if key not in adata.obsm or adata.n_obs < 3:
        return None
    rows = _shown_rows(adata.n_obs)
    points = pl.layout(np.asarray(adata.obsm[key])[rows], seed)
    figures = []
    for column in (label_key, batch_key):
        values = _names(adata, column)
        if values is not None:
            shown = values[rows]
            figures.append(
                _drawn(
                    f"{name}-umap-{column}", column.replace("_", " "),
                    partial(_umap, points, shown, column),
                )
            )  # fmt: skip
    depth = _depth(adata)
    if depth is not None:
        figures.append(
            _drawn(
                f"{name}-umap-depth", "depth",
                lambda ax: pl.umap(points, color=depth[rows], title="log10(1 + total)", ax=ax),
                look_for="Good: no gradient over the whole picture.",
            )
        )  # fmt: skip
    lead = f"UMAP of {key}, {_of_all(rows, adata)}."
    return Section(title=f"{name}: cells by their components", lead=lead, blocks=tuple(figures))


def _places_section(name: str, adata: AnnData, key: str, label_key: str) -> Section | None:
    """Return maps of the tissue where there are places."""
    if "spatial" not in adata.obsm:
        return None
    points = np.asarray(adata.obsm["spatial"], dtype=np.float64)[:, :2]
    if "mz" in adata.var and np.array_equal(points, np.rint(points)):
        return _ions_section(name, adata, points)
    rows = _shown_rows(adata.n_obs)
    shown: list[tuple[str, np.ndarray | None]] = [(label_key, _names(adata, label_key))]
    shown.append(("log10(1 + total)", _depth(adata)))
    if key in adata.obsm:
        shown.append((f"first component of {key}", np.asarray(adata.obsm[key])[:, 0]))
    drawn = points[rows]
    figures = [
        _drawn(
            f"{name}-places-{i}", title,
            partial(_tissue, drawn, values[rows], title),
            width=4.8, height=4.0,
        )
        for i, (title, values) in enumerate(shown)
        if values is not None
    ]  # fmt: skip
    lead = f"{_of_all(rows, adata)}, each where it lies.".capitalize()
    return Section(title=f"{name}: cells in the tissue", lead=lead, blocks=tuple(figures))


def _ions_section(name: str, adata: AnnData, points: np.ndarray) -> Section:
    """Return images of the total and of the ions that lie in the most coherent places."""
    by = "morans_i" if "morans_i" in adata.var else None
    order = np.argsort(-adata.var[by].to_numpy(), kind="stable") if by else np.arange(adata.n_vars)
    depth = _depth(adata)
    figures = []
    if depth is not None:
        figures.append(_ion(f"{name}-total", "log10(1 + total intensity)", points, depth))
    for at in order[:_MOST_IONS]:
        column = adata.X[:, int(at)]
        values = np.asarray(column.todense() if hasattr(column, "todense") else column).ravel()
        figures.append(_ion(f"{name}-ion-{at}", _ion_title(adata, int(at)), points, values))
    lead = "The ions whose neighbouring pixels agree most (Moran's I)." if by else ""
    return Section(title=f"{name}: ions in the tissue", lead=lead, blocks=tuple(figures))


def _ion_title(adata: AnnData, at: int) -> str:
    name, mass = str(adata.var_names[at]), float(adata.var["mz"].iloc[at])
    only_mass = not any(c.isalpha() for c in name.lower().replace("m/z", "").replace("mz", ""))
    return f"m/z {mass:.4f}" if only_mass else f"{name}, m/z {mass:.4f}"


def _ion(name: str, title: str, points: np.ndarray, values: np.ndarray) -> Figure:
    return _drawn(
        name, title, lambda ax: pl.ion_image(points, values, title=title, ax=ax),
        width=4.8, height=3.6,
    )  # fmt: skip


def _drawn(
    name: str, title: str, draw: Callable[[Axes], Axes], *, look_for: str = "",
    width: float = 4.6, height: float = 3.4,
) -> Figure:  # fmt: skip
    ax = draw(new_axes(None, width=width, height=height))
    return Figure(name=name, title=title, canvas=ax.figure, look_for=look_for)  # type: ignore[arg-type]


def _umap(points: np.ndarray, values: np.ndarray, title: str, ax: Axes) -> Axes:
    return pl.umap(points, color=values, title=title, ax=ax)


def _tissue(points: np.ndarray, values: np.ndarray, title: str, ax: Axes) -> Axes:
    return pl.spatial_map(points, color=values, title=title, ax=ax)


def _shown_rows(n: int) -> np.ndarray:
    if n <= _MOST_SHOWN:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, _MOST_SHOWN, replace=False))


def _of_all(rows: np.ndarray, adata: AnnData) -> str:
    if len(rows) == adata.n_obs:
        return f"all {adata.n_obs:,} cells"
    return f"{len(rows):,} of {adata.n_obs:,} cells, drawn at random"


def _names(adata: AnnData, column: str) -> np.ndarray | None:
    """Return a column of names; ``None`` where it is absent or says one thing only."""
    if column not in adata.obs:
        return None
    values = adata.obs[column].to_numpy(dtype=object)
    named = np.where(is_known(values), values, "unknown").astype(str)
    return named if len(set(named)) > 1 else None


def _depth(adata: AnnData) -> np.ndarray | None:
    from cellweave.preparing import rows_to_values

    if "counts" not in adata.layers:
        return None
    totals = rows_to_values(_row_sums, adata.layers["counts"], width=1)
    return np.log10(1 + totals.ravel())


def _row_sums(block: Any) -> np.ndarray:
    return np.asarray(block.sum(axis=1), dtype=np.float64).reshape(-1, 1)
