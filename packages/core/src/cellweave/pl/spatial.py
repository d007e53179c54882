"""Cells and pixels where they lie in the tissue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError
from cellweave.pl.axes import bare, new_axes
from cellweave.pl.scatter import dot_size, draw_dots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ion_image", "spatial_map"]


def spatial_map(
    coordinates: np.ndarray,
    *,
    color: Any = None,
    title: str = "",
    colours: Mapping[str, str] | None = None,
    legend: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw cells at their place in the tissue; the y axis points down, as in images.

    Parameters
    ----------
    coordinates
        ``(n, 2)``: x, y.
    color
        One value a cell: names or numbers.
    title, colours, legend, ax
        As in :func:`umap`.
    """
    points = _checked(coordinates)
    values = None if color is None else np.asarray(color)
    if values is not None and len(values) != len(points):
        msg = f"`color` has {len(values)} values for {len(points)} cells. Expected one each."
        raise DataError(msg)
    ax = new_axes(ax, width=4.8, height=4.0)
    draw_dots(ax, points, values, colours=colours, legend=legend, size=1.8 * dot_size(len(points)))
    ax.set_aspect("equal")
    ax.invert_yaxis()
    return bare(ax, title)


def ion_image(
    coordinates: np.ndarray,
    intensity: np.ndarray,
    *,
    title: str = "",
    clip: float = 99.0,
    ax: Axes | None = None,
) -> Axes:
    """Draw the intensity of one ion over the pixels of a mass-spectrometry image.

    Parameters
    ----------
    coordinates
        ``(n, 2)`` whole-numbered pixel positions: x, y; pixels that were not measured stay blank.
    intensity
        ``(n,)``.
    title
        Above the picture, e.g. the m/z.
    clip
        Percentile at which the scale ends, so that one hot spot does not hide the rest.
    ax
        Where to draw.
    """
    points = _checked(coordinates)
    values = np.asarray(intensity, dtype=np.float64).ravel()
    if len(values) != len(points):
        msg = f"`intensity` has {len(values)} values for {len(points)} pixels. Expected one each."
        raise DataError(msg)
    at = np.rint(points - points.min(axis=0)).astype(np.int64)
    image = np.full((at[:, 1].max() + 1, at[:, 0].max() + 1), np.nan)
    image[at[:, 1], at[:, 0]] = values
    ax = new_axes(ax, width=4.8, height=3.6)
    top = np.nanpercentile(values, clip)
    shown = ax.imshow(
        image, cmap="inferno", vmin=0.0, vmax=top if top > 0 else 1.0, interpolation="nearest"
    )
    if ax.figure is not None:
        bar = ax.figure.colorbar(shown, ax=ax, shrink=0.7, aspect=18, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=2)
    return bare(ax, title)


def _checked(coordinates: np.ndarray) -> np.ndarray:
    points = np.asarray(coordinates, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points).all() or not len(points):
        msg = (
            f"Coordinates have shape {points.shape} or hold NaN. Expected finite x and y per cell. "
            "They stand in obsm['spatial']."
        )
        raise DataError(msg)
    return points[:, :2]
