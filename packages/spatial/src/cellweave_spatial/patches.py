"""Squares of the tissue image around cells, for models that look at histology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import ConfigError, DataError
from cellweave_spatial.coordinates import coordinates_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["image_patches"]

_RESOLUTIONS = ("hires", "lowres")


def image_patches(
    adata: AnnData,
    *,
    size: int = 64,
    image: np.ndarray | None = None,
    scale: float = 1.0,
    library: str | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Return ``(n, size, size, channels)`` squares of the image centred on cells.

    What lies outside the image is 0. The dtype is that of the image.

    Parameters
    ----------
    adata
        Data whose coordinates are x (to the right) and y (down), in pixels of the full image.
    size
        Edge of a square, in pixels of the image at hand.
    image
        ``(height, width)`` or ``(height, width, channels)``; taken from
        ``uns["spatial"][library]["images"]`` when not given.
    scale
        Pixels of ``image`` per pixel of the full image; read from the scale factors with the image.
    library
        Key in ``uns["spatial"]``; needed when there is more than one.
    rows
        Positions of cells; all when not given.
    """
    if size < 1:
        msg = f"Got size={size!r}. Expected 1 or more pixels."
        raise ConfigError(msg)
    if image is None:
        image, scale = _stored(adata, library)
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or not scale > 0:
        msg = f"The image has shape {image.shape}, scale={scale!r}. Expected (h, w, c) and > 0."
        raise DataError(msg)
    chosen = np.arange(adata.n_obs) if rows is None else np.asarray(rows, dtype=np.int64)
    centres = np.rint(coordinates_of(adata)[chosen, :2] * scale).astype(np.int64)
    return _cut(image, centres, size)


def _cut(image: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    offsets = np.arange(size) - size // 2
    x = centres[:, 0, None] + offsets
    y = centres[:, 1, None] + offsets
    inside_x, inside_y = (x >= 0) & (x < image.shape[1]), (y >= 0) & (y < image.shape[0])
    patches = image[
        np.clip(y, 0, image.shape[0] - 1)[:, :, None], np.clip(x, 0, image.shape[1] - 1)[:, None, :]
    ]
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    patches[~inside] = 0
    return patches


def _stored(adata: AnnData, library: str | None) -> tuple[np.ndarray, float]:
    slides: dict[str, Any] = dict(adata.uns.get("spatial", {}))
    if library is None and len(slides) == 1:
        library = next(iter(slides))
    if library is None or library not in slides:
        msg = (
            f"uns['spatial'] holds the slides {sorted(slides)}, asked for {library!r}. Name one "
            "with library=, or give image= and scale=."
        )
        raise DataError(msg)
    images = slides[library].get("images", {})
    factors = slides[library].get("scalefactors", {})
    for resolution in _RESOLUTIONS:
        if resolution in images:
            key = f"tissue_{resolution}_scalef"
            if key not in factors:
                msg = f"uns['spatial'][{library!r}]['scalefactors'] lacks {key!r}. Give scale=."
                raise DataError(msg)
            return np.asarray(images[resolution]), float(factors[key])
    msg = f"uns['spatial'][{library!r}]['images'] holds no hires or lowres image. Give image=."
    raise DataError(msg)
