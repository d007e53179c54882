r"""A CRISPR screen made up from a stated rule, to try models of unseen perturbations on.

Genes belong to programmes, :math:`k(g)`, and cells vary in the activity :math:`z` of each. Knocking
down a regulator :math:`p` of strength :math:`a_p` shifts its programme's downstream pattern
:math:`E_{k(p)}`, besides a response :math:`c` that all knock-downs share, and lowers :math:`p`:

.. math:: \log \mu_g = b_g + l_g z_{k(g)} + \sum_p (a_p E_{k(p),g} + \kappa c_g) - 2 [g = p],
          \qquad y \sim NB(d\, \mu / \textstyle\sum \mu,\ 2)

Pairs add on this scale, damped by ``damping``. Few cells of low depth see each perturbation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.errors import ConfigError

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["simulate_screen"]

_CONTROL = "ctrl"
_SHARED = 0.5
_THETA = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    """What is true: programme of each gene, its level and loading, effects, and strengths."""

    programme: np.ndarray
    level: np.ndarray
    loading: np.ndarray
    pattern: np.ndarray
    shared: np.ndarray
    regulators: np.ndarray
    strength: np.ndarray


def simulate_screen(
    *,
    n_genes: int = 300,
    n_programmes: int = 6,
    n_perturbed: int = 36,
    n_pairs: int = 24,
    n_cells: int = 30,
    n_control: int = 400,
    depth: float = 1500.0,
    damping: float = 0.8,
    seed: int = 0,
) -> AnnData:
    """Return cells with ``obs["condition"]`` (``"ctrl"``, ``"A+ctrl"``, ``"A+B"``).

    ``X`` holds normalised logarithms, ``layers["counts"]`` the counts, ``varm["X_gene"]`` an
    embedding of genes that knows their programmes with noise, ``uns["programmes"]`` which gene
    belongs to which.

    Parameters
    ----------
    n_genes, n_programmes, n_perturbed, n_pairs
        Sizes; the perturbed genes are spread over the programmes.
    n_cells, n_control
        Cells of each perturbation, and of control.
    depth
        Counts of a cell.
    damping
        What two effects together come to, relative to their sum.
    seed
        Same seed, same bytes.

    Examples
    --------
    >>> screen = simulate_screen(n_perturbed=6, n_pairs=2, n_cells=10, n_control=50)
    >>> screen.n_obs
    130
    """
    _check(n_genes, n_programmes, n_perturbed, n_pairs)
    rng = np.random.default_rng(seed)
    rule = _rule(rng, n_genes, n_programmes, n_perturbed)
    units: list[tuple[int, ...]] = [()] * n_control
    pairs = list(combinations(range(n_perturbed), 2))
    chosen = [pairs[i] for i in np.sort(rng.choice(len(pairs), n_pairs, replace=False))]
    for unit in [(p,) for p in range(n_perturbed)] + chosen:
        units += [unit] * n_cells
    counts = _counts(rng, rule, units, depth, damping)
    return _assembled(rng, rule, units, counts)


def _check(n_genes: int, n_programmes: int, n_perturbed: int, n_pairs: int) -> None:
    most = n_perturbed * (n_perturbed - 1) // 2
    if not (1 < n_programmes <= n_perturbed <= n_genes // 2 and 0 <= n_pairs <= most):
        msg = (
            f"{n_programmes} programmes, {n_perturbed} perturbed of {n_genes} genes, {n_pairs} "
            f"pairs do not fit. Expected 2 programmes or more, at least as many perturbed genes, "
            f"at most half of all, and at most {most} pairs."
        )
        raise ConfigError(msg)


def _rule(rng: np.random.Generator, n_genes: int, n_programmes: int, n_perturbed: int) -> _Rule:
    programme = np.arange(n_genes) % n_programmes
    pattern = np.zeros((n_programmes, n_genes))
    for k in range(n_programmes):
        down = programme == (k + 1) % n_programmes
        pattern[k, programme == k] = -rng.uniform(0.4, 1.2, (programme == k).sum())
        pattern[k, down] = rng.choice([-1, 1], down.sum()) * rng.uniform(0.3, 0.9, down.sum())
    shared = np.where(rng.random(n_genes) < 0.2, rng.normal(0, 1, n_genes), 0.0)
    return _Rule(
        programme=programme,
        level=rng.normal(0, 0.8, n_genes),
        loading=rng.uniform(0.4, 0.9, n_genes),
        pattern=pattern,
        shared=shared,
        regulators=np.arange(n_perturbed),
        strength=rng.uniform(0.6, 1.4, n_perturbed),
    )


def _counts(
    rng: np.random.Generator,
    rule: _Rule,
    units: list[tuple[int, ...]],
    depth: float,
    damping: float,
) -> np.ndarray:
    n, n_genes = len(units), len(rule.level)
    activity = rng.normal(0, 1, (n, len(rule.pattern)))
    signal = rule.level + rule.loading * activity[:, rule.programme]
    for i, unit in enumerate(units):
        total = np.zeros(n_genes)
        for p in unit:
            total += rule.strength[p] * rule.pattern[rule.programme[p]] + _SHARED * rule.shared
        signal[i] += total * (damping if len(unit) > 1 else 1.0)
        signal[i, list(unit)] -= 2.0
    mean = np.exp(signal)
    mean *= (depth * rng.lognormal(0, 0.2, n) / mean.sum(axis=1))[:, None]
    return rng.poisson(mean * rng.gamma(_THETA, 1 / _THETA, mean.shape)).astype(np.float32)


def _assembled(
    rng: np.random.Generator, rule: _Rule, units: list[tuple[int, ...]], counts: np.ndarray
) -> AnnData:
    from anndata import AnnData

    names = np.array([f"G{i}" for i in range(len(rule.level))])
    named = [
        _CONTROL if not u else "+".join([*names[list(u)], *([_CONTROL] if len(u) < 2 else [])])
        for u in units
    ]
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    adata = AnnData(sp.csr_matrix(np.log1p(1e4 * counts / totals).astype(np.float32)))
    adata.layers["counts"] = sp.csr_matrix(counts)
    adata.obs = pd.DataFrame(
        {"condition": named, "cell_type": "line"}, index=[f"c{i}" for i in range(len(units))]
    )
    adata.var_names = names
    hints = np.eye(len(rule.pattern))[rule.programme] + 0.3 * rng.normal(
        size=(len(names), len(rule.pattern))
    )
    adata.varm["X_gene"] = hints.astype(np.float32)
    adata.uns["programmes"] = {
        f"programme {k}": names[rule.programme == k] for k in range(len(rule.pattern))
    }
    return adata
