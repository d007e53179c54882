"""What a perturbation task makes of its arguments and cells before models are fitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from cellweave.data.gmt import read_gmt
from cellweave.errors import ConfigError, closest, one_of
from cellweave_tasks.features import as_dense
from cellweave_tasks.gene_sets import gene_sets_on
from cellweave_tasks.perturbation_data import Unit
from cellweave_tasks.perturbation_graph import GeneGraph, coexpression_graph, gene_set_graph
from cellweave_tasks.perturbation_models import BASELINES, MODELS

__all__ = ["decoder_of", "graphs_of", "kind_of", "require_method", "some_rows"]

_DECODER_PENALTY = 1.0
_MOST_CELLS = 500
# Setting → the methods that read it.
_READ_BY = {
    "gene_sets": ("graph", "auto"),
    "gene_rep": ("probe", "linear", "generator"),
    "model": ("generator",),
    "steps": ("generator",),
    "device": ("generator",),
}


def graphs_of(
    values: np.ndarray | sp.csr_matrix,
    names: np.ndarray,
    perturbed: Iterable[Unit],
    *,
    gene_sets: str | None,
    seed: int,
) -> tuple[GeneGraph, ...]:
    """Return the graphs of genes: co-expression, and shared sets where a GMT file is named."""
    known = np.array(sorted({p for unit in perturbed for p in unit.perturbations}))
    found = [coexpression_graph(values, names, keep=known, seed=seed)]
    if gene_sets is not None:
        # A perturbed gene need not be measured: its sets alone say what it is like.
        genes = np.array(sorted({g for s in read_gmt(gene_sets).values() for g in s}))
        found.append(gene_set_graph(gene_sets_on(gene_sets, genes)))
    return tuple(found)


def decoder_of(
    values: np.ndarray | sp.csr_matrix, latent: np.ndarray, reduction: TruncatedSVD | None
) -> np.ndarray:
    """Return the linear map from the representation to features: principal axes, or ridge."""
    if reduction is not None:
        return np.asarray(reduction.components_)
    centred = latent - latent.mean(axis=0)
    scale = float((centred**2).sum()) / centred.shape[1] / len(centred)
    gram = centred.T @ centred + _DECODER_PENALTY * scale * np.eye(centred.shape[1])
    return np.linalg.solve(gram, np.asarray((values.T @ centred).T))


def require_method(method: str, **settings: Any) -> None:
    """Refuse methods there are not, and settings that a method does not use."""
    known = (*MODELS, *BASELINES)
    if method not in known:
        msg = f"Unknown method {method!r}.{closest(method, known)} Available: {one_of(known)}."
        raise ConfigError(msg)
    for name, value in settings.items():
        by = _READ_BY[name]
        if value is not None and method not in by:
            msg = f"{name} is {value!r}, which {method!r} does not use. Set method={by[0]!r}."
            raise ConfigError(msg)


def some_rows(values: np.ndarray | sp.csr_matrix, rng: np.random.Generator) -> np.ndarray:
    """Return at most 500 rows, dense."""
    n = values.shape[0]
    rows = np.sort(rng.choice(n, _MOST_CELLS, replace=False)) if n > _MOST_CELLS else slice(None)
    return as_dense(values[rows])


def kind_of(unit: Unit, training: tuple[Unit, ...]) -> str:
    """Say what is new about a unit: context, perturbation, or how many of a pair were seen."""
    if any(u.perturbations == unit.perturbations for u in training):
        return "unseen context"
    if len(unit.perturbations) == 1:
        return "unseen single"
    seen = {p for u in training for p in u.perturbations}
    return f"combo seen {sum(p in seen for p in unit.perturbations)}"
