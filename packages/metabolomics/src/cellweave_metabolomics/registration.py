"""Bring a metabolite image onto the spots of another measurement of the same tissue.

Each pixel, a square of the image, is mapped by an affine transformation and cut into s × s parts;
a part counts for a spot when its centre lies inside. Spot values are means weighted by the area
that a pixel has inside the spot, so a fine image is averaged and a coarse one is shared out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["fit_affine", "overlap_areas", "register"]


def fit_affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the ``(2, 3)`` affine map that takes ``source`` landmarks nearest to ``target``.

    Parameters
    ----------
    source, target
        ``(n, 2)`` positions of the same landmarks, three or more, not on one line.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        msg = f"Landmarks have shapes {source.shape} and {target.shape}. Expected (n, 2) twice."
        raise DataError(msg)
    design = np.column_stack([source, np.ones(len(source))])
    if np.linalg.matrix_rank(design - np.r_[source.mean(axis=0), 0]) < 3:
        msg = f"{len(source)} landmarks do not fix an affine map. Give three that form a triangle."
        raise DataError(msg)
    return np.linalg.lstsq(design, target, rcond=None)[0].T


def register(
    image: AnnData,
    spots: AnnData,
    *,
    spot_diameter: float,
    affine: np.ndarray | None = None,
    pixel_size: float = 1.0,
    shape: str = "circle",
    aggregate: str = "mean",
    samples: int = 5,
) -> AnnData:
    """Return the metabolites of ``image`` on the spots: one row a spot, in the order of ``spots``.

    Parameters
    ----------
    image
        Pixels with ``obsm["spatial"]`` (centres).
    spots
        Spots with ``obsm["spatial"]`` (centres).
    spot_diameter
        Diameter, or edge of a square spot, in the unit of the spots.
    affine
        ``(2, 3)`` map from image to spot coordinates; see :func:`fit_affine`. The identity when
        not given.
    pixel_size
        Edge of a pixel in the unit of the image.
    shape
        Of the spots: ``"circle"`` or ``"square"``.
    aggregate
        ``"mean"`` over the covered area, or ``"sum"`` of intensity that falls into the spot.
    samples
        Parts per edge into which a pixel is cut.

    Returns
    -------
    anndata.AnnData
        ``X`` CSR float32; ``obs["covered"]``: the share of the spot's area that pixels cover;
        a spot that no pixel covers is a row of zeros with ``covered`` 0.
    """
    from anndata import AnnData as AnnDataClass

    _check(spot_diameter, pixel_size, samples)
    _check_words(shape=(shape, ("circle", "square")), aggregate=(aggregate, ("mean", "sum")))
    transform = np.eye(2, 3) if affine is None else np.asarray(affine, dtype=np.float64)
    if transform.shape != (2, 3) or np.linalg.det(transform[:, :2]) == 0:
        msg = f"The affine map has shape {transform.shape}. Expected (2, 3) that can be inverted."
        raise ConfigError(msg)
    areas = overlap_areas(
        _places(image, "image"), _places(spots, "spots"), transform, spot_diameter,
        pixel_size=pixel_size, shape=shape, samples=samples,
    )  # fmt: skip
    spot_area = spot_diameter**2 * (np.pi / 4 if shape == "circle" else 1.0)
    pixel_area = pixel_size**2 * abs(np.linalg.det(transform[:, :2]))
    covered = np.asarray(areas.sum(axis=1)).ravel()
    if not covered.any():
        msg = "No pixel falls on a spot. Check the affine map and the units of both coordinates."
        raise DataError(msg)
    per_spot = np.divide(1.0, covered, out=np.zeros_like(covered), where=covered > 0)
    scale = per_spot if aggregate == "mean" else np.full(len(covered), 1 / pixel_area)
    values = sp.diags(scale) @ areas @ sp.csr_matrix(image.X, dtype=np.float64)
    result = AnnDataClass(
        X=sp.csr_matrix(values).astype(np.float32), obs=spots.obs.copy(), var=image.var.copy()
    )
    result.obs["covered"] = np.minimum(covered / spot_area, 1.0)
    result.obsm["spatial"] = np.array(spots.obsm["spatial"])
    return result


def overlap_areas(
    pixels: np.ndarray,
    spots: np.ndarray,
    affine: np.ndarray,
    spot_diameter: float,
    *,
    pixel_size: float,
    shape: str,
    samples: int,
) -> sp.csr_matrix:
    """Return ``(n_spots, n_pixels)`` areas, in the unit of the spots, that each pair shares."""
    from scipy.spatial import cKDTree

    steps = ((np.arange(samples) + 0.5) / samples - 0.5) * pixel_size
    tree = cKDTree(spots)
    part_area = (pixel_size / samples) ** 2 * abs(np.linalg.det(affine[:, :2]))
    norm = 2.0 if shape == "circle" else np.inf
    total = sp.csr_matrix((len(spots), len(pixels)))
    for dx in steps:
        for dy in steps:
            parts = (pixels + np.array([dx, dy])) @ affine[:, :2].T + affine[:, 2]
            near = tree.sparse_distance_matrix(
                cKDTree(parts), spot_diameter / 2, p=norm, output_type="ndarray"
            )
            area = np.full(len(near), part_area)
            total = total + sp.csr_matrix((area, (near["i"], near["j"])), shape=total.shape)
    return sp.csr_matrix(total)


def _check(spot_diameter: float, pixel_size: float, samples: int) -> None:
    if min(spot_diameter, pixel_size) <= 0 or not 1 <= samples <= 50:
        msg = (
            f"Got spot_diameter={spot_diameter!r}, pixel_size={pixel_size!r}, samples={samples!r}. "
            "Expected lengths above 0 and 1 to 50 samples."
        )
        raise ConfigError(msg)


def _check_words(**given: tuple[str, tuple[str, ...]]) -> None:
    pairs = given.items()
    wrong = [f"{n}={w!r} (expected one of {known})" for n, (w, known) in pairs if w not in known]
    if wrong:
        msg = f"The image cannot be registered: {', '.join(wrong)}. Choose what is offered."
        raise ConfigError(msg)


def _places(adata: AnnData, what: str) -> np.ndarray:
    places = np.asarray(adata.obsm["spatial"], np.float64) if "spatial" in adata.obsm else None
    if places is None or places.ndim != 2 or places.shape[1] < 2 or not np.isfinite(places).all():
        msg = f"There are no finite (n, 2) coordinates in obsm['spatial'] of the {what}. Add them."
        raise DataError(msg)
    return places[:, :2]
