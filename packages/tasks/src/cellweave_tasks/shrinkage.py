r"""What neighbours tell and what was measured, weighed gene by gene (empirical Bayes, linear).

A regressor predicts from the cell's axes what gene :math:`g` should be, :math:`m_{ig}`; the cell's
own measured value :math:`x_{ig}` knows more where counts are many. Their best linear mixture,

.. math:: \hat y_{ig} = \bar y_g + (1 + a_g)(m_{ig} - \bar m_g) + b_g (x_{ig} - \bar x_g),

is the form of a posterior mean: :math:`b_g` near 0 for genes whose counts are noise. Weights come
by least squares on training cells, with :math:`m` from regressors that did not see the cell (five
folds, with the settings of the one that saw all), and a ridge of ten cells towards
:math:`a_g = b_g = 0`.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from cellweave_tasks.regressors import KernelRidge, Ridge

__all__ = ["Shrinkage"]

_FOLDS = 5
_RIDGE = 10.0


class Shrinkage:
    """A regressor's prediction, drawn towards the cell's own values as far as they can be trusted.

    Parameters
    ----------
    prior
        ``"kernel"`` or ``"ridge"``.
    seed
        Of the regressor and the folds.
    """

    def __init__(self, *, prior: str = "kernel", seed: int = 0) -> None:
        self.prior, self.seed = prior, seed

    def fit(self, features: np.ndarray, measured: np.ndarray, targets: np.ndarray) -> Self:
        """Fit the regressor on all cells, the weights on predictions for cells left out."""
        make = KernelRidge if self.prior == "kernel" else Ridge
        self.regressor = make(seed=self.seed).fit(features, targets)
        expected = self._left_out(features, targets)
        self.means = targets.mean(axis=0), expected.mean(axis=0), measured.mean(axis=0)
        prior, own = expected - self.means[1], measured - self.means[2]
        self.extra, self.weight = _weights(prior, own, targets - self.means[0] - prior)
        return self

    def predict(self, features: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Return the mixture for cells with these values."""
        target, expected, own = self.means
        prior = self.regressor.predict(features) - expected
        return np.asarray(target + (1 + self.extra) * prior + self.weight * (measured - own))

    def _left_out(self, features: np.ndarray, targets: np.ndarray) -> np.ndarray:
        n = len(features)
        order = np.random.default_rng(self.seed).permutation(n)
        expected = np.zeros_like(targets)
        for fold in range(min(_FOLDS, n)):
            out = order[fold::_FOLDS]
            kept = np.setdiff1d(order, out)
            model = self.regressor.twin().fit(features[kept], targets[kept])
            expected[out] = model.predict(features[out])
        return expected


def _weights(prior: np.ndarray, own: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solve ``rest = a prior + b own`` for each column, ridge towards 0."""

    def squares(values: np.ndarray) -> np.ndarray:
        return np.asarray((values**2).sum(axis=0) + _RIDGE * (values**2).mean() + 1e-12)

    pp, oo, po = squares(prior), squares(own), (prior * own).sum(axis=0)
    pr, own_rest = (prior * rest).sum(axis=0), (own * rest).sum(axis=0)
    size = pp * oo - po**2
    return (oo * pr - po * own_rest) / size, (pp * own_rest - po * pr) / size
