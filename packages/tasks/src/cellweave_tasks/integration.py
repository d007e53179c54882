"""Integration of batches: any representation, or a correction of it, beside HVG, PCA and Harmony.

``fit`` chooses the variable genes and what the principal axes are, from cells whose labels it does
not read; ``evaluate`` takes batch effects out by the method asked for and scores the result against
labels (see :mod:`cellweave_tasks.embedding_scores`). No label is seen before it is scored, so the
cells of ``fit`` may be those of ``evaluate``. An embedding that was itself trained on labels must
be judged on other cells: that is the caller's to know.

Baselines stand in every table: the variable genes, their principal axes, and Harmony on these; one
whose package is missing stands there too, with what to install. More by ``baselines``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, MissingDependencyError
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.batches.methods import (
    METHODS,
    BatchCells,
    Corrected,
    correct,
    method_of,
)
from cellweave_tasks.embedding_scores import Geometry, embedding_scores
from cellweave_tasks.features import (
    aligned,
    as_dense,
    column_of,
    counts_of,
    features_of,
    labels_of,
    most_variable,
)
from cellweave_tasks.ontology import Ontology
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.scgraph import TypeDistances, batch_consensus, ontology_distances

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ALWAYS", "GIVEN", "IntegrationTask", "Representation"]

GIVEN = "given"
ALWAYS = ("HVG", "PCA", "harmony")
_MOST_GENES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Representation:
    """One embedding of the cells scored, or why there is none."""

    name: str
    values: np.ndarray | None
    note: str = ""


class IntegrationTask:
    """Score how well batches mix and types stay apart.

    Parameters
    ----------
    use_rep
        ``obsm`` key of the representation; ``None`` takes principal axes of the variable genes.
    method
        ``"given"`` scores the representation as it is; ``"harmony"``, ``"bbknn"`` and
        ``"scanorama"`` correct it; ``"combat"``, ``"scvi"`` and ``"sysvi"`` start from the
        variable genes; ``"HVG"`` and ``"PCA"`` are the plain ones.
    label_key, batch_key
        ``obs`` columns of types and of batches.
    baselines
        Methods to stand beside HVG, PCA and Harmony, which always do.
    layer
        Layer of raw counts, for scVI.
    ontology
        OBO file of the Cell Ontology, for scGraph-OntoRWR.
    label_ids
        Label to its ontology id, where labels are not names of the ontology.
    scib
        Add the numbers of the package scib-metrics.
    max_cells
        With more cells, this many are drawn for scoring; every method sees the same.
    seed
        Of what is random.

    Examples
    --------
    >>> import cellweave
    >>> cells = cellweave.datasets.simulate(
    ...     n_cells=300, modalities=("rna",), batches=2, prepared=True
    ... )["rna"]
    >>> task = IntegrationTask(use_rep="X_pca").fit(cells)
    >>> scores = task.evaluate(cells)
    >>> scores.value("avg_bio", method="X_pca") > 0.5
    True
    """

    default_split = "all"

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        method: str = GIVEN,
        label_key: str = "cell_type",
        batch_key: str = "batch",
        baselines: list[str] | None = None,
        layer: str = "counts",
        ontology: str | None = None,
        label_ids: dict[str, str] | None = None,
        scib: bool = False,
        max_cells: int = 7500,
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        for name in [*(baselines or []), *([] if method == GIVEN else [method])]:
            method_of(name)
        if max_cells < 20:
            msg = f"max_cells is {max_cells!r}. Expected 20 or more."
            raise ConfigError(msg)
        self.use_rep, self.method, self.layer = use_rep, method, layer
        self.label_key, self.batch_key = label_key, batch_key
        self.baselines = tuple(dict.fromkeys([*ALWAYS, *(baselines or [])]))
        self.ontology, self.label_ids = ontology, dict(label_ids or {})
        self.scib, self.max_cells, self.seed = scib, max_cells, seed
        self._genes: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        shown = self.use_rep or "PCA"
        if self.method == GIVEN:
            return shown
        return self.method if METHODS[self.method].from_genes else f"{self.method} on {shown}"

    def fit(self, adata: AnnData) -> Self:
        """Choose the variable genes; labels are not read."""
        column_of(adata, self.batch_key)
        if self.use_rep is not None:
            features_of(adata, self.use_rep)
        values = features_of(adata, None)
        if "highly_variable" in adata.var and adata.var["highly_variable"].any():
            chosen = np.flatnonzero(adata.var["highly_variable"].to_numpy(dtype=bool))
        else:
            chosen = most_variable(values, _MOST_GENES)
        self._genes = np.asarray(adata.var_names, dtype=str)[chosen]
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Return the corrected representation, one row a cell."""
        cells = self._cells(adata)
        found = self._own(cells)
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=found.values,
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score the representation beside the baselines, all on the same cells."""
        need_fit(self._genes, "IntegrationTask")
        labels_of(adata, self.label_key)
        drawn = self.drawn(adata)
        return self.score(drawn, self.representations(drawn))

    def drawn(self, adata: AnnData) -> AnnData:
        """Return the cells to be scored: all, or ``max_cells`` drawn from the seed."""
        if adata.n_obs <= self.max_cells:
            return adata
        rng = np.random.default_rng(self.seed)
        return adata[np.sort(rng.choice(adata.n_obs, self.max_cells, replace=False))].copy()

    def representations(
        self, adata: AnnData, *, baselines: Sequence[str] | None = None
    ) -> list[Representation]:
        """Return the task's own representation, then the baselines' (or those named)."""
        cells = self._cells(adata)
        own = self._own(cells)
        found = [Representation(name=self.name, values=own.values, note=own.note)]
        axes = correct("PCA", cells).values
        plain = BatchCells(
            batches=cells.batches, logs=cells.logs, axes=axes, counts=cells.counts, seed=cells.seed
        )
        known = {self.name}
        for baseline in self.baselines if baselines is None else baselines:
            name = baseline if METHODS[baseline].from_genes else f"{baseline} on PCA"
            if name not in known:
                known.add(name)
                found.append(_attempted(baseline, name, plain))
        return found

    def score(
        self, adata: AnnData, representations: list[Representation], *, label_key: str | None = None
    ) -> Scores:
        """Score given representations of these cells; ``label_key`` instead of the task's."""
        key = label_key or self.label_key
        labels = labels_of(adata, key)
        batches = _batches(adata, self.batch_key)
        geometry = self._geometry(adata, labels, batches)
        tables = {
            r.name: embedding_scores(
                r.values, labels, batches, method=r.name, geometry=geometry,
                scib=self.scib, seed=self.seed, note=r.note,
            )
            for r in representations
            if r.values is not None
        }  # fmt: skip
        metrics = list(dict.fromkeys(s.metric for t in tables.values() for s in t))
        items = [s for table in tables.values() for s in table]
        for r in representations:
            if r.values is None:
                items += [
                    Score(metric=m, value=None, method=r.name, seed=self.seed, note=r.note)
                    for m in metrics
                ]
        summary = _summary(items, representations[0].name)
        return Scores(items=tuple(items), provenance=self._provenance(), summary=summary)

    def _own(self, cells: BatchCells) -> Corrected:
        if self.method == GIVEN:
            return Corrected(values=np.asarray(cells.axes, dtype=np.float32))
        return correct(self.method, cells)

    def _cells(self, adata: AnnData) -> BatchCells:
        genes = need_fit(self._genes, "IntegrationTask")
        logs = as_dense(aligned(adata[:, adata.var_names.isin(genes)], genes)).astype(np.float32)
        cells = BatchCells(
            batches=column_of(adata, self.batch_key),
            logs=logs,
            axes=logs[:, :0],
            counts=_counts(adata, self.layer, genes),
            seed=self.seed,
        )
        if self.use_rep is None:
            axes = correct("PCA", cells).values
        else:
            axes = as_dense(features_of(adata, self.use_rep))
        return BatchCells(
            batches=cells.batches, logs=logs, axes=axes, counts=cells.counts, seed=self.seed
        )

    def _geometry(self, adata: AnnData, labels: np.ndarray, batches: np.ndarray | None) -> Geometry:
        within, why_not = None, ""
        one = batches if batches is not None else np.zeros(len(labels), dtype=int)
        try:
            within = batch_consensus(features_of(adata, None), labels, one, seed=self.seed)
        except DataError as error:
            why_not = str(error)
        distances, missing = self._by_ontology(labels)
        return Geometry(
            within_batches=within, no_batches=why_not, ontology=distances, no_ontology=missing
        )

    def _by_ontology(self, labels: np.ndarray) -> tuple[TypeDistances | None, str]:
        if self.ontology is None:
            return None, "no Cell Ontology is given: set `ontology` to its OBO file"
        known = Ontology.from_obo(self.ontology)
        names = sorted(set(labels.tolist()))
        terms = {name: known.id_of(self.label_ids.get(name, name)) for name in names}
        return ontology_distances(known, terms), ""

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.integration", self._parameters, self.seed)


def _attempted(baseline: str, name: str, cells: BatchCells) -> Representation:
    if METHODS[baseline].needs_batches and len(set(cells.batches.tolist())) < 2:
        return Representation(name=name, values=None, note="there is one batch")
    try:
        found = correct(baseline, cells)
    except MissingDependencyError as error:  # it stands in the table, with what to install
        return Representation(name=name, values=None, note=str(error))
    return Representation(name=name, values=found.values, note=found.note)


def _counts(adata: AnnData, layer: str, genes: np.ndarray) -> sp.csr_matrix | None:
    if layer not in adata.layers or not adata.var_names.isin(genes).any():
        return None
    known = adata.var_names[adata.var_names.isin(genes)]
    return counts_of(adata[:, known], layer)


def _batches(adata: AnnData, key: str) -> np.ndarray | None:
    batches = column_of(adata, key)
    return batches if len(set(batches.tolist())) > 1 else None


def _summary(items: list[Score], own: str) -> dict[str, Any]:
    """Say whether the best baseline is beaten, in the overall score or in avg_bio."""
    metric = "overall"
    found = _values(items, metric)
    if own not in found:
        metric = "avg_bio"
        found = _values(items, metric)
    best = max((n for n in found if n != own), key=lambda n: found[n])
    gap = found[own] - found[best]
    verb = "beats" if gap > 0 else "does NOT beat"
    text = (
        f"{own} {verb} the best baseline, {best}, in {metric} ({found[own]:.3f} to "
        f"{found[best]:.3f}; one data set, no interval)."
    )
    return {"headline": text, "best_baseline": best, "difference_value": gap}


def _values(items: list[Score], metric: str) -> Mapping[str, float]:
    return {s.method: s.value for s in items if s.metric == metric and s.value is not None}
