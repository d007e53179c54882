"""How cells respond to drugs: known cells and drugs in new pairs, new drugs, new cells, or both.

Rows are measured pairs (:func:`cellweave_tasks.drug_pairs`). Drugs differ far more from one another
than cells do within a drug: a correlation over all pairs is won by the mean of each drug. So that
mean stands beside every score, and correlations are given per drug, over cells, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.drug_data import drug_pairs, read_table
from cellweave_tasks.drug_models import BASELINES, DrugModel, Pairs, make_drug_model
from cellweave_tasks.features import as_dense, column_of, features_of, fingerprints
from cellweave_tasks.perturbation_scores import pearson
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import refuse_leaks

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["DrugTask"]

_BLIND = ("none", "drug", "cell", "both")
_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The models, and by what pairs, cells and drugs of training are known again."""

    models: Mapping[str, DrugModel]
    pairs: np.ndarray
    cells: np.ndarray
    drugs: np.ndarray
    cell_names: frozenset[str]
    drug_names: frozenset[str]
    widths: tuple[int, int]


class DrugTask:
    """Predict the response of a cell to a drug.

    Parameters
    ----------
    use_rep
        ``obsm`` key of the cells' embedding; ``None`` takes ``X``.
    drug_rep
        ``obsm`` key of the drugs' description, e.g. a fingerprint.
    cell_key, drug_key, response_key
        ``obs`` columns.
    responses, drugs
        Tables that :meth:`arranged` joins to cells, where the data are not pairs yet.
    blind
        What the test must not share with training: ``"drug"``, ``"cell"``, ``"both"``, or
        ``"none"`` (no pair).
    method
        ``"bilinear"``, ``"ridge"``, ``"kernel"``, ``"knn"`` or ``"mlp"``.
    seed
        Of what is random.

    Examples
    --------
    >>> task = DrugTask(use_rep="X_pca", blind="drug")
    >>> task.name
    'bilinear on X_pca'
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        drug_rep: str = "X_drug",
        cell_key: str = "cell_line",
        drug_key: str = "drug",
        response_key: str = "response",
        responses: str | None = None,
        drugs: str | None = None,
        blind: str = "none",
        method: str = "bilinear",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        make_drug_model(method, seed=seed)
        if blind not in _BLIND:
            msg = f"blind is {blind!r}.{closest(blind, _BLIND)} Expected one of: {one_of(_BLIND)}."
            raise ConfigError(msg)
        if (responses is None) != (drugs is None):
            msg = f"responses is {responses!r}, drugs {drugs!r}. Give both tables, or neither."
            raise ConfigError(msg)
        self.use_rep, self.drug_rep = use_rep, drug_rep
        self.cell_key, self.drug_key, self.response_key = cell_key, drug_key, response_key
        self.responses, self.drugs = responses, drugs
        self.blind, self.method, self.seed = blind, method, seed
        self._fitted: _Fitted | None = None

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'}"

    def arranged(self, adata: AnnData) -> AnnData:
        """Return pairs as rows: ``adata`` joined to both tables, or as it is without them."""
        if self.responses is None or self.drugs is None:
            return adata
        return drug_pairs(
            adata,
            read_table(self.responses),
            read_table(self.drugs, index=True),
            cell_key=self.cell_key,
            drug_key=self.drug_key,
            response_key=self.response_key,
            drug_rep=self.drug_rep,
        )

    def fit(self, adata: AnnData) -> Self:
        """Learn from measured pairs."""
        pairs, responses = self._pairs(adata), self._responses(adata)
        names = dict.fromkeys((self.method, *BASELINES))
        self._fitted = _Fitted(
            models={n: make_drug_model(n, seed=self.seed).fit(pairs, responses) for n in names},
            pairs=_digests(pairs.cell_features, pairs.drug_features),
            cells=fingerprints(pairs.cell_features),
            drugs=fingerprints(pairs.drug_features),
            cell_names=frozenset(pairs.cells.tolist()),
            drug_names=frozenset(pairs.drugs.tolist()),
            widths=(pairs.cell_features.shape[1], pairs.drug_features.shape[1]),
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict the response of every pair."""
        fitted = need_fit(self._fitted, "DrugTask")
        found = fitted.models[self.method].predict(self._checked(adata, fitted))
        return Prediction(
            names=np.asarray(adata.obs_names, dtype=str),
            values=found.astype(np.float32),
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score over all pairs, per drug over cells, per cell over drugs, beside the baselines."""
        fitted = need_fit(self._fitted, "DrugTask")
        pairs, truth = self._checked(adata, fitted), self._responses(adata)
        self._refuse(pairs, fitted)
        found = {
            self.name if n == self.method else n: model.predict(pairs)
            for n, model in fitted.models.items()
        }
        items: list[Score] = []
        for name, values in found.items():
            items += self._scores(name, values, truth, pairs)
        lost = {n: _by_unit((v - truth) ** 2, pairs, fitted) for n, v in found.items()}
        best = min((n for n in lost if n != self.name), key=lambda n: float(lost[n].mean()))
        gap = paired_difference(-lost[self.name], -lost[best], seed=self.seed)
        metric = "less squared error:"
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", metric)
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, "best_baseline": best, **gap.to_dict()},
        )

    def _scores(
        self, name: str, values: np.ndarray, truth: np.ndarray, pairs: Pairs
    ) -> list[Score]:
        def score(metric: str, value: float | None, **more: Any) -> Score:
            note = "" if value is not None else f"needs {_FEWEST} measurements of one"
            return Score(metric=metric, value=value, method=name, seed=self.seed, note=note, **more)

        ranked = rankdata(values), rankdata(truth)
        items = [
            score("pearson", pearson(values, truth), best=1.0, chance=0.0),
            score("spearman", pearson(*ranked), best=1.0, chance=0.0),
            score("rmse", float(np.sqrt(((values - truth) ** 2).mean())), best=0.0,
                  higher_is_better=False),
        ]  # fmt: skip
        for side, of in (("drug", pairs.drugs), ("cell", pairs.cells)):
            single = _within(values, truth, of)
            ranks = _within(values, truth, of, ranks=True)
            for metric, table in (("pearson", single), ("spearman", ranks)):
                mean = float(np.mean(list(table.values()))) if table else None
                items.append(score(f"{metric}_per_{side}", mean, best=1.0, chance=0.0))
            if side == "drug":
                items += [
                    score("pearson_per_drug", v, best=1.0, chance=0.0, group=f"drug:{d}")
                    for d, v in single.items()
                ]
        return items

    def _pairs(self, adata: AnnData) -> Pairs:
        cells, drugs = (column_of(adata, k) for k in (self.cell_key, self.drug_key))
        empty = int(((cells == "") | (drugs == "")).sum())
        if empty:
            msg = f"{empty} of {len(cells)} rows name no cell or no drug. Drop them."
            raise DataError(msg)
        return Pairs(
            cells=cells,
            drugs=drugs,
            cell_features=as_dense(features_of(adata, self.use_rep)).astype(np.float64),
            drug_features=as_dense(features_of(adata, self.drug_rep)).astype(np.float64),
        )

    def _checked(self, adata: AnnData, fitted: _Fitted) -> Pairs:
        pairs = self._pairs(adata)
        widths = pairs.cell_features.shape[1], pairs.drug_features.shape[1]
        if widths != fitted.widths:
            msg = (
                f"Cells and drugs have {widths[0]} and {widths[1]} columns, in training "
                f"{fitted.widths[0]} and {fitted.widths[1]}. Describe both in the same way."
            )
            raise DataError(msg)
        return pairs

    def _responses(self, adata: AnnData) -> np.ndarray:
        key = self.response_key
        if key not in adata.obs:
            columns = list(map(str, adata.obs))
            msg = f"`adata.obs` has no {key!r}.{closest(key, columns)} It has: {one_of(columns)}."
            raise DataError(msg)
        values = pd.to_numeric(adata.obs[key], errors="coerce").to_numpy(dtype=np.float64)
        bad = int((~np.isfinite(values)).sum())
        if bad:
            msg = f"{bad} of {len(values)} responses in obs[{key!r}] are no numbers. Drop them."
            raise DataError(msg)
        return values

    def _refuse(self, pairs: Pairs, fitted: _Fitted) -> None:
        refuse_leaks(
            train_cells=fitted.pairs,
            test_cells=_digests(pairs.cell_features, pairs.drug_features),
        )
        for side, known, kept, features, digests in (
            ("drug", fitted.drug_names, pairs.drugs, pairs.drug_features, fitted.drugs),
            ("cell", fitted.cell_names, pairs.cells, pairs.cell_features, fitted.cells),
        ):
            if self.blind not in (side, "both"):
                continue
            same = np.isin(kept, sorted(known)) | np.isin(fingerprints(features), digests)
            if same.any():
                msg = (
                    f"{len(set(kept[same].tolist()))} {side}s of the test are in training, by name "
                    f"or description, e.g. {str(kept[same][0])!r}. Split by `unseen:"
                    f"{self.drug_key if side == 'drug' else self.cell_key}=0.2`, or set blind."
                )
                raise DataError(msg)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.drug", self._parameters, self.seed)


def _digests(cells: np.ndarray, drugs: np.ndarray) -> np.ndarray:
    return fingerprints(np.hstack([cells, drugs]))


def _within(
    values: np.ndarray, truth: np.ndarray, of: np.ndarray, *, ranks: bool = False
) -> dict[str, float]:
    """Return the correlation within each drug or cell that was measured often enough."""
    found = {}
    for name in np.unique(of).tolist():
        rows = of == name
        if rows.sum() >= _FEWEST and np.ptp(truth[rows]) > 0:
            pair = values[rows], truth[rows]
            found[name] = pearson(*(map(rankdata, pair) if ranks else pair))
    return found


def _by_unit(values: np.ndarray, pairs: Pairs, fitted: _Fitted) -> np.ndarray:
    """Average over what is new in the test, drugs before cells: pairs of one are no replicates."""
    new_drugs = not set(pairs.drugs.tolist()) & fitted.drug_names
    _, codes = np.unique(pairs.drugs if new_drugs else pairs.cells, return_inverse=True)
    return np.asarray(np.bincount(codes, values) / np.bincount(codes))
