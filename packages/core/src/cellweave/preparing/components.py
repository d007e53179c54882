"""Low-dimensional coordinates with a fixed orientation, so that equal input gives equal bytes."""

from __future__ import annotations

import numpy as np

__all__ = ["principal_components", "signed_components", "standardized"]


def signed_components(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn singular vectors so that the largest loading of each component is positive.

    Parameters
    ----------
    left
        ``(n_rows, k)`` left singular vectors or scores.
    right
        ``(k, n_columns)`` loadings.
    """
    strongest = np.argmax(np.abs(right), axis=1)
    signs = np.sign(right[np.arange(len(right)), strongest])
    signs[signs == 0] = 1
    return left * signs, right * signs[:, None]


def standardized(values: np.ndarray, *, axis: int, ddof: int = 1) -> np.ndarray:
    """Centre and scale along ``axis``; what does not vary becomes 0, not NaN."""
    centred = values - values.mean(axis=axis, keepdims=True)
    spread = centred.std(axis=axis, ddof=ddof, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)


def principal_components(
    values: np.ndarray, n_components: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, loadings and the share of variance of each component.

    A narrow matrix is decomposed exactly; a wide one by the randomized solver from ``seed``.

    Parameters
    ----------
    values
        ``(n_cells, n_features)`` dense values; centred here.
    n_components
        Wanted number; fewer come back when the matrix has fewer.
    seed
        Start of the randomized solver.
    """
    from sklearn.decomposition import PCA

    n_components = min(n_components, *values.shape)
    solver = "covariance_eigh" if values.shape[1] <= 500 else "randomized"
    model = PCA(n_components=n_components, svd_solver=solver, random_state=seed)
    scores = model.fit_transform(np.asarray(values, dtype=np.float64))
    scores, loadings = signed_components(scores, model.components_)
    return (
        scores.astype(np.float32),
        loadings.T.astype(np.float32),
        model.explained_variance_ratio_,
    )
