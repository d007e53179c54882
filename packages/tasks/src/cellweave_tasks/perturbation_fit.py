"""What a perturbation task learns: units and their changes, models, control cells by context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD

from cellweave.errors import DataError, one_of
from cellweave_tasks.features import aligned, as_dense, features_of, fingerprints
from cellweave_tasks.gene_embeddings import gene_embedding_of
from cellweave_tasks.perturbation_data import Cells, Unit, mean_of, noise_of, require_control
from cellweave_tasks.perturbation_inputs import decoder_of, graphs_of
from cellweave_tasks.perturbation_models import Query, Response, Training

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Fitted", "Representation", "fitted_on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """What the latent models work in: an ``obsm`` key, or principal axes of ``X``."""

    use_rep: str | None
    reduction: TruncatedSVD

    def __call__(self, adata: AnnData, values: np.ndarray | sp.csr_matrix) -> np.ndarray:
        """Return one row a cell; ``values`` are those of ``adata`` at the features of training."""
        if self.use_rep is None:
            return np.asarray(self.reduction.transform(values))
        return as_dense(features_of(adata, self.use_rep)).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The models, and the digests of the cells that were seen perturbed."""

    training: Training
    responses: Mapping[str, Response]
    representation: Representation
    states: Mapping[str, np.ndarray]
    cells: np.ndarray

    @property
    def controls(self) -> Mapping[str, np.ndarray | sp.csr_matrix]:
        """Give the control cells of training by context."""
        return self.training.controls

    def known(self, unit: Unit) -> Query:
        """Return the question about a unit whose context training knows."""
        context = unit.context
        return Query(unit=unit, state=self.states[context], control=self.controls[context])

    def query(self, adata: AnnData, cells: Cells, unit: Unit) -> Query:
        """Return the question about a unit; control cells of a new context come from ``adata``."""
        if unit.context in self.controls:
            return self.known(unit)
        rows = cells.controls().get(unit.context)
        if rows is None:
            msg = (
                f"No control cell of {unit.context!r} is in training or in the data given. "
                f"Contexts of training: {one_of(self.controls)}. Give control cells of every "
                "context."
            )
            raise DataError(msg)
        values = aligned(adata, self.training.names)[rows]
        latent = self.representation(adata[rows], values)
        return Query(unit=unit, state=mean_of(latent, np.arange(len(rows))), control=values)


def fitted_on(
    adata: AnnData,
    cells: Cells,
    *,
    control: str | None,
    use_rep: str | None,
    n_components: int,
    gene_sets: str | None,
    gene_rep: str | None,
    with_graphs: bool,
    make: Callable[[Training], Mapping[str, Response]],
    seed: int,
) -> Fitted:
    """Learn from control and perturbed cells; the arguments are those of the task.

    Parameters
    ----------
    adata, cells
        Cells, and the rows of each unit.
    control, use_rep, n_components, gene_sets, gene_rep, seed
        As the task's.
    with_graphs
        Whether graphs of genes are needed.
    make
        Fits the models.
    """
    require_control(cells, control)
    _require_controls(cells)
    values = features_of(adata, None)
    size = min(n_components, min(values.shape) - 1)
    reduction = TruncatedSVD(n_components=size, random_state=seed).fit(values)
    representation = Representation(use_rep=use_rep, reduction=reduction)
    latent = representation(adata, values)
    perturbed = cells.perturbed()
    names = np.asarray(adata.var_names, dtype=str)
    states = {c: mean_of(latent, r) for c, r in cells.controls().items()}
    loadings = reduction.components_.T * reduction.singular_values_
    training = Training(
        units=tuple(perturbed),
        **_changes(cells, values, latent, states),
        decoder=decoder_of(values, latent, reduction if use_rep is None else None),
        loadings=loadings,
        names=names,
        graphs=graphs_of(values, names, perturbed, gene_sets=gene_sets, seed=seed)
        if with_graphs
        else (),
        gene_embedding=gene_embedding_of(adata, gene_rep) or (names, loadings),
        controls={c: values[r] for c, r in cells.controls().items()},
    )
    kept = np.sort(np.concatenate(list(perturbed.values())))
    return Fitted(
        training=training,
        responses=make(training),
        representation=representation,
        states=states,
        cells=fingerprints(values[kept]),
    )


def _require_controls(cells: Cells) -> None:
    lost = sorted({u.context for u in cells.perturbed()} - set(cells.controls()))
    if lost:
        msg = (
            f"{len(lost)} contexts have perturbed but no control cells, e.g. {lost[0]!r}. "
            "Keep the control cells of every context in training, or set context_key to null "
            "(None in Python) to take all cells as of one."
        )
        raise DataError(msg)


def _changes(
    cells: Cells,
    values: np.ndarray | sp.csr_matrix,
    latent: np.ndarray,
    states: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Return changes of features and of the representation, a row a unit, and their noise."""
    controls, perturbed = cells.controls(), cells.perturbed()
    means = {c: mean_of(values, r) for c, r in controls.items()}
    unsure = {c: noise_of(values, r) for c, r in controls.items()}

    def rows(make: Callable[[Unit, np.ndarray], Any]) -> Sequence[Any]:
        return [make(unit, at) for unit, at in perturbed.items()]

    return {
        "deltas": np.stack(rows(lambda u, r: mean_of(values, r) - means[u.context])),
        "latent": np.stack(rows(lambda u, r: mean_of(latent, r) - states[u.context])),
        "states": np.stack(rows(lambda u, r: states[u.context])),
        "noise": np.array(rows(lambda u, r: noise_of(values, r) + unsure[u.context])),
    }
