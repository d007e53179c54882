"""DSB: remove ambient antibody and the technical component of each cell (Mulè et al. 2022).

    z_ij = (log(x_ij + 10) − μ_j) / σ_j     μ, σ of protein j over empty droplets
    t_i  = first principal component of (background mean of cell i, isotype controls of cell i)
    y_ij = z_ij − (regression of z_j on t)

The background mean of a cell is the lower mean of a two-component Gaussian mixture over its
proteins. We fit all cells at once by a vectorised EM, where the reference fits one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError
from cellweave.preparing import (
    map_rows,
    raw_values,
    rows_to_values,
    standardized,
    sum_over_blocks,
)
from cellweave_protein.markers import is_isotype

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "TwoGaussians",
    "background_means",
    "dsb",
    "model_based",
    "two_gaussians",
    "without_technical_component",
]

_PSEUDOCOUNT = 10.0


def dsb(
    cells: AnnData, empty_droplets: AnnData, *, denoise: bool = True, clip: float | None = None
) -> np.ndarray:
    """Return DSB-normalised values of ``cells``, float32, in input order.

    Parameters
    ----------
    cells
        Raw counts of cells.
    empty_droplets
        Raw counts of empty droplets of the same experiment and panel.
    denoise
        Whether to regress out each cell's technical component (step 2).
    clip
        Largest absolute value; ``None`` leaves values as they are.
    """
    counts = raw_values(cells, modality="prot").toarray()
    at = empty_droplets.var_names.get_indexer(cells.var_names)
    if (at < 0).any() or empty_droplets.n_obs < 2:
        missing = [str(n) for n in cells.var_names[at < 0][:3]]
        msg = (
            f"The empty droplets hold {empty_droplets.n_obs} droplets and lack {missing!r}. "
            "Expected two or more droplets with every protein of the cells."
        )
        raise DataError(msg)
    ambient = raw_values(empty_droplets, modality="empty droplets").toarray()[:, at]
    logs, noise = (np.log(np.asarray(x, np.float64) + _PSEUDOCOUNT) for x in (counts, ambient))
    spread = noise.std(axis=0, ddof=1)
    # A protein that no empty droplet holds has no spread: leave its scale as it is.
    values = (logs - noise.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if denoise:
        controls = np.array([is_isotype(str(n)) for n in cells.var_names])
        values = model_based(values, controls).astype(np.float64)
    if clip is not None:
        values = np.clip(values, -clip, clip)
    return values.astype(np.float32)


def model_based(values: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Regress each cell's technical component out of every protein; means are kept."""
    technical = _technical(_noise_of_cells(values, controls))
    mean = values.mean(axis=0)
    return _without(values, technical, _slopes(technical @ (values - mean), technical))


def without_technical_component(counts: Any, controls: np.ndarray) -> Any:
    """Return :func:`model_based` of the logs of counts: CSR, or a Dask array of CSR blocks."""
    n, width = counts.shape
    noise = rows_to_values(
        lambda b: _noise_of_cells(_logs(b), controls), counts, width=1 + int(controls.sum())
    )
    technical = _technical(noise)
    mean = sum_over_blocks(lambda b: _logs(b).sum(axis=0)[None], counts, shape=(1, width)) / n

    def slanted(block: Any, at: np.ndarray) -> np.ndarray:
        return np.asarray(at @ (_logs(block) - mean))[None]

    slopes = _slopes(sum_over_blocks(slanted, counts, technical, shape=(1, width))[0], technical)
    return map_rows(lambda b, at: _without(_logs(b), at, slopes), counts, technical)


def _logs(counts: Any) -> np.ndarray:
    return np.log1p(counts.toarray().astype(np.float64))


def _noise_of_cells(values: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Return the background mean of each cell beside its isotype controls."""
    markers = values[:, ~controls] if (~controls).any() else values
    return np.column_stack([background_means(markers), values[:, controls]])


def _technical(noise: np.ndarray) -> np.ndarray:
    scaled = standardized(noise, axis=0)
    _, _, directions = np.linalg.svd(scaled, full_matrices=False)
    technical = scaled @ directions[0]
    return technical - technical.mean()


def _slopes(slanted: np.ndarray, technical: np.ndarray) -> np.ndarray:
    weight = technical @ technical
    return slanted / weight if weight > 0 else np.zeros_like(slanted)


def _without(values: np.ndarray, technical: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    return (values - np.outer(technical, slopes)).astype(np.float32)


def background_means(values: np.ndarray, *, n_iter: int = 100) -> np.ndarray:
    """Return the lower mean of a two-Gaussian mixture over the proteins of every cell."""
    return two_gaussians(values, n_iter=n_iter).low.ravel()


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoGaussians:
    """Hold a mixture of two Gaussians for every row: arrays of shape ``(n_rows, 1)``."""

    low: np.ndarray
    high: np.ndarray
    sd_low: np.ndarray
    sd_high: np.ndarray
    share_low: np.ndarray

    def responsibility_of_low(self, values: np.ndarray) -> np.ndarray:
        """Return the probability of the lower Gaussian for every value."""
        low = self.share_low * _normal(values, self.low, self.sd_low)
        high = (1 - self.share_low) * _normal(values, self.high, self.sd_high)
        return low / np.maximum(low + high, 1e-300)


def two_gaussians(values: np.ndarray, *, n_iter: int = 100) -> TwoGaussians:
    """Fit two Gaussians to every row of ``values`` by EM, all rows at once."""
    spread = values.std(axis=1, keepdims=True)
    floor = np.maximum(0.05 * spread, 1e-6)
    first_sd = np.maximum(spread / 2, floor)
    fit = TwoGaussians(
        low=np.quantile(values, 0.25, axis=1, keepdims=True),
        high=np.quantile(values, 0.9, axis=1, keepdims=True),
        sd_low=first_sd,
        sd_high=first_sd,
        share_low=np.full_like(spread, 0.5),
    )
    for _ in range(n_iter):
        before = fit.low
        fit = _improved(values, fit, floor)
        if np.max(np.abs(fit.low - before)) < 1e-8:
            break
    return fit


def _improved(values: np.ndarray, fit: TwoGaussians, floor: np.ndarray) -> TwoGaussians:
    resp = fit.responsibility_of_low(values)
    low, sd_low = _weighted(values, resp, floor)
    high, sd_high = _weighted(values, 1 - resp, floor)
    swap = low > high
    return TwoGaussians(
        low=np.where(swap, high, low),
        high=np.where(swap, low, high),
        sd_low=np.where(swap, sd_high, sd_low),
        sd_high=np.where(swap, sd_low, sd_high),
        share_low=np.clip(
            np.where(swap, 1 - resp.mean(axis=1, keepdims=True), resp.mean(axis=1, keepdims=True)),
            0.01,
            0.99,
        ),
    )


def _normal(values: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * ((values - mean) / sd) ** 2) / sd


def _weighted(
    values: np.ndarray, weights: np.ndarray, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    mean = (weights * values).sum(axis=1, keepdims=True) / total
    variance = (weights * (values - mean) ** 2).sum(axis=1, keepdims=True) / total
    return mean, np.maximum(np.sqrt(variance), floor)
