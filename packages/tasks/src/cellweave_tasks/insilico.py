r"""In-silico perturbation: which genes, lost or switched on, move cells from one state to another.

Theodoris et al. 2023: a gene's tokens are edited, the cell is embedded again, and the embedding's
way is compared with the way to the goal. With :math:`e` the mean embedding of a state's cells,

.. math:: s = [\cos(x', e_{goal}) - \cos(x, e_{goal})] - [\cos(x', e_{start}) - \cos(x, e_{start})]

Without states the shift is :math:`1 - \cos(x', x)`. With ``score="probe"`` it is the change in the
log-odds of goal over start by a classifier of the embedding. A gene's shifts over cells are
compared with those of other genes, pooled (rank-sum, or draws from the pool), Benjamini-Hochberg
over genes.

**Closed loop** (Pershad et al. 2025): cells of measured perturbations go into ``fit`` too, labelled
by the state they reached; centres and classifier then stand on them as well.

Departures: towards the goal counts against towards the start; the pool is at most 5 000 shifts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, mannwhitneyu

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import column_of, features_of, fingerprints
from cellweave_tasks.insilico_goal import Goal, fit_goal
from cellweave_tasks.ranking import binary_scores, win_shares
from cellweave_tasks.records import arguments_of, need_fit, provenance_of
from cellweave_tasks.splits import refuse_leaks
from cellweave_tasks.token_edits import EDITS, edit_tokens, has_any
from cellweave_tasks.token_models import EncodedCells, model_name, token_model

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["InSilicoTask"]

_POOL = 5000
_DRAWS = 2000
_STATISTICS = ("wilcoxon", "permutation")
_SCORES = ("cosine", "probe")
_COLUMNS = ("shift", "p", "q", "n_cells")
_BASELINES = ("expression difference", "expression level", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """The goal, what is known of each gene without a model, and the cells of training."""

    goal: Goal
    levels: pd.Series[float]
    differences: pd.Series[float]
    cells: np.ndarray


class InSilicoTask:
    """Rank genes by what editing them does to the model's view of cells.

    Parameters
    ----------
    model
        Folder of a model, or a loaded one.
    how
        ``"delete"`` or ``"overexpress"``.
    genes
        Which to edit, one after the other; all that enough cells express when not given.
    together
        Edit ``genes`` as one.
    anchor
        Genes that are edited along with each.
    state_key, start, goal
        ``obs`` column of states, where cells come from and should go; both ``None`` for impact
        alone.
    score
        ``"cosine"`` or ``"probe"``.
    statistic
        ``"wilcoxon"`` or ``"permutation"``.
    truth_key
        ``var`` column, true for genes known to do it: what ``evaluate`` scores against.
    min_cells, max_cells
        Genes in fewer cells are left out; at most so many cells of a state are embedded.
    n_random
        With ``genes`` given: random others that make the pool.
    batch_size, device
        Of the model.
    seed
        Of what is random.

    Examples
    --------
    >>> task = InSilicoTask(model="folder", start="resting", goal="activated")
    >>> task.name
    'delete in folder'
    """

    def __init__(
        self,
        *,
        model: Any = "",
        how: str = "delete",
        genes: list[str] | None = None,
        together: bool = False,
        anchor: list[str] | None = None,
        state_key: str = "cell_type",
        start: str | None = None,
        goal: str | None = None,
        score: str = "cosine",
        statistic: str = "wilcoxon",
        truth_key: str = "driver",
        min_cells: int = 10,
        max_cells: int = 200,
        n_random: int = 50,
        batch_size: int = 32,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals()) | {"model": model_name(model)}
        _require_one("how", how, EDITS)
        _require_one("score", score, _SCORES)
        _require_one("statistic", statistic, _STATISTICS)
        _require_states(start, goal, score)
        if together and not genes:
            msg = "together is true, but no genes are named. Give `genes`."
            raise ConfigError(msg)
        self.model, self.how, self.genes, self.together = model, how, genes, together
        self.anchor = list(anchor or [])
        self.state_key, self.start, self.goal = state_key, start, goal
        self.score, self.statistic, self.truth_key = score, statistic, truth_key
        self.min_cells, self.max_cells, self.n_random = min_cells, max_cells, n_random
        self.batch_size, self.device, self.seed = batch_size, device, seed
        self._fitted: _Fitted | None = None
        # Asking a model is dear, and scores, page and predictions want the same answer.
        self._answered: tuple[str, pd.DataFrame] | None = None

    @property
    def name(self) -> str:
        """Name the edit and the model, as in tables."""
        return f"{self.how} in {model_name(self.model)}"

    def fit(self, adata: AnnData) -> Self:
        """Learn where the states lie; measured perturbed cells count by the state they reached."""
        goal = Goal()
        self._answered = None
        values = features_of(adata, None)
        names = pd.Index(np.asarray(adata.var_names, dtype=str))
        mean = np.asarray(values.mean(axis=0)).ravel().astype(np.float64)
        apart = np.zeros(len(names))
        if self.start is not None and self.goal is not None:
            labels = column_of(adata, self.state_key)
            rows = {s: self._drawn(labels, s) for s in (self.start, self.goal)}
            used = np.sort(np.concatenate(list(rows.values())))
            cells = self._encoded(adata[used])
            at = {s: np.searchsorted(used, r) for s, r in rows.items()}
            goal = fit_goal(cells.embed(at[self.start]), cells.embed(at[self.goal]), how=self.score)
            means = [np.asarray(values[r].mean(axis=0)).ravel() for r in rows.values()]
            apart = (means[1] - means[0]).astype(np.float64)
        self._fitted = _Fitted(
            goal=goal,
            levels=pd.Series(mean, index=names),
            differences=pd.Series(apart, index=names),
            cells=fingerprints(values),
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Edit each gene in the start cells of ``adata``; one row a gene, best first.

        Columns: shift, p, q, n_cells.
        """
        table = self.table(adata)
        return Prediction(
            names=table.index.to_numpy(dtype=str),
            values=table[list(_COLUMNS)].to_numpy(dtype=np.float64),
            confidence=(1 - table["q"]).to_numpy(dtype=np.float32),
            columns=np.array(_COLUMNS),
            provenance=self._provenance(),
        )

    def table(self, adata: AnnData) -> pd.DataFrame:
        """Return the same as a table: by gene (or genes joined by ``+``), largest shift first."""
        fitted = need_fit(self._fitted, "InSilicoTask")
        rows = self._start_rows(adata)
        key = _digest_of(adata, rows)
        if self._answered is None or self._answered[0] != key:
            self._answered = key, self._asked_model(adata, rows, fitted)
        return self._answered[1].copy()

    def _asked_model(self, adata: AnnData, rows: np.ndarray, fitted: _Fitted) -> pd.DataFrame:
        cells = self._encoded(adata[rows])
        shifts = self._shifts(cells, fitted.goal)
        asked = {g: s for g, s in shifts.items() if g in self._asked(shifts)}
        rng = np.random.default_rng(self.seed)
        p = {g: self._p_value(g, s, shifts, rng) for g, s in asked.items()}
        table = pd.DataFrame(
            {
                "shift": {g: float(s.mean()) for g, s in asked.items()},
                "spread": {g: float(s.std()) for g, s in asked.items()},
                "p": p,
                "n_cells": {g: len(s) for g, s in asked.items()},
            }
        )
        table["q"] = false_discovery_control(table["p"].to_numpy(), method="bh")
        return table.sort_values("shift", ascending=False, kind="stable")

    def evaluate(self, adata: AnnData) -> Scores:
        """Score the ranking against ``var[truth_key]``, beside what expression alone tells."""
        fitted = need_fit(self._fitted, "InSilicoTask")
        rows = self._start_rows(adata)
        refuse_leaks(
            train_cells=fitted.cells, test_cells=fingerprints(features_of(adata[rows], None))
        )
        table = self.table(adata)
        truth = self._truth(adata, table.index)
        sign = 1.0 if self.how == "overexpress" else -1.0
        rng = np.random.default_rng(self.seed)
        levels, apart = (
            s.reindex(table.index).fillna(0.0) for s in (fitted.levels, fitted.differences)
        )
        found = {
            self.name: table["shift"].to_numpy(),
            "expression difference": sign * apart.to_numpy(),
            "expression level": levels.to_numpy(),
            "random": rng.random(len(table)),
        }
        items: list[Score] = []
        for name, values in found.items():
            items += binary_scores(truth, values, method=name, seed=self.seed)
        wins = {name: win_shares(truth, values) for name, values in found.items()}
        best = max(_BASELINES, key=lambda n: float(wins[n].mean()))
        gap = paired_difference(wins[self.name], wins[best], seed=self.seed)
        text = difference_sentence(gap, self.name, f"the best baseline, {best}", "auroc")
        summary = {"headline": text, "best_baseline": best, **gap.to_dict()}
        return Scores(items=tuple(items), provenance=self._provenance(), summary=summary)

    def _shifts(self, cells: EncodedCells, goal: Goal) -> dict[str, np.ndarray]:
        """Return the shift of each cell that an edit concerns, by gene."""
        before = cells.embed(np.arange(cells.adata.n_obs))
        found = {}
        for name, ids in self._edits(cells).items():
            rows = np.arange(cells.adata.n_obs)
            if self.how == "delete":
                rows = np.flatnonzero(has_any(cells.tokens, ids) & self._leaves_some(cells, ids))
            if len(rows) < self.min_cells:
                continue
            edit = partial(edit_tokens, ids=ids, how=self.how, features=cells.features)
            found[name] = goal.shift(before[rows], cells.embed(rows, edit))
        if not self._asked(found):
            msg = (
                f"No gene asked for is in {self.min_cells} of {cells.adata.n_obs} start cells. "
                "Lower min_cells, or give more cells."
            )
            raise DataError(msg)
        return found

    def _edits(self, cells: EncodedCells) -> dict[str, list[int]]:
        anchor = cells.known(self.anchor)
        counts = cells.counts()
        usual = [g for g in sorted(counts) if counts[g] >= self.min_cells and g not in self.anchor]
        if self.genes is None:
            return {g: [*anchor, cells.ids[g]] for g in usual}
        cells.known(self.genes)
        others = [g for g in usual if g not in self.genes]
        rng = np.random.default_rng(self.seed)
        drawn = rng.permutation(len(others))[: self.n_random]
        alone = {others[i]: [*anchor, cells.ids[others[i]]] for i in np.sort(drawn)}
        if self.together:
            return {"+".join(self.genes): [*anchor, *cells.known(self.genes)], **alone}
        return {g: [*anchor, cells.ids[g]] for g in self.genes} | alone

    def _asked(self, shifts: Mapping[str, Any]) -> set[str]:
        if self.genes is None:
            return set(shifts)
        return ({"+".join(self.genes)} if self.together else set(self.genes)) & set(shifts)

    def _leaves_some(self, cells: EncodedCells, ids: list[int]) -> np.ndarray:
        at = np.repeat(np.arange(cells.tokens.n_cells), cells.tokens.lengths)
        rest = np.isin(cells.tokens.ids, cells.features) & ~np.isin(cells.tokens.ids, ids)
        return np.bincount(at[rest], minlength=cells.tokens.n_cells) > 0

    def _p_value(
        self, gene: str, own: np.ndarray, shifts: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> float:
        others = [s for g, s in shifts.items() if g != gene]
        if not others:
            return 1.0
        pool = np.concatenate(others)
        if len(pool) > _POOL:
            pool = rng.choice(pool, _POOL, replace=False)
        if self.statistic == "wilcoxon":
            return float(mannwhitneyu(own, pool).pvalue)
        middle = pool.mean()
        drawn = rng.choice(pool, (_DRAWS, len(own))).mean(axis=1)
        beyond = (np.abs(drawn - middle) >= abs(own.mean() - middle) - 1e-15).sum()
        return float((1 + beyond) / (1 + _DRAWS))

    def _start_rows(self, adata: AnnData) -> np.ndarray:
        if self.start is None:
            rng = np.random.default_rng(self.seed)
            return np.sort(rng.permutation(adata.n_obs)[: self.max_cells])
        return self._drawn(column_of(adata, self.state_key), self.start)

    def _drawn(self, labels: np.ndarray, state: str) -> np.ndarray:
        rows = np.flatnonzero(labels == state)
        if not len(rows):
            known = set(labels.tolist())
            msg = (
                f"`adata.obs[{self.state_key!r}]` has no {state!r}.{closest(state, known)} "
                f"It has: {one_of(known)}."
            )
            raise DataError(msg)
        rng = np.random.default_rng(self.seed)
        return np.sort(rng.permutation(rows)[: self.max_cells])

    def _truth(self, adata: AnnData, genes: pd.Index) -> np.ndarray:
        if self.truth_key not in adata.var:
            columns = list(map(str, adata.var))
            msg = (
                f"`adata.var` has no {self.truth_key!r}.{closest(self.truth_key, columns)} It has: "
                f"{one_of(columns)}. Scores need the genes known to do it; `predict` does not."
            )
            raise DataError(msg)
        column = adata.var[self.truth_key].astype(bool)
        truth = column.reindex(genes).fillna(value=False).to_numpy(dtype=bool)
        if not 0 < truth.sum() < len(truth):
            msg = (
                f"{int(truth.sum())} of {len(truth)} edited genes are true. Some must be, not all."
            )
            raise DataError(msg)
        return truth

    def _encoded(self, adata: AnnData) -> EncodedCells:
        model = token_model(self.model)
        return EncodedCells(model, adata.copy(), batch_size=self.batch_size, device=self.device)

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.insilico", self._parameters, self.seed)


def _digest_of(adata: AnnData, rows: np.ndarray) -> str:
    """Know the same cells again, by names, values and genes."""
    digest = sha256(fingerprints(features_of(adata[rows], None)).tobytes())
    for names in (adata.obs_names[rows], adata.var_names):
        digest.update("\n".join(map(str, names)).encode())
    return digest.hexdigest()


def _require_one(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"{name} is {value!r}.{closest(value, known)} Expected one of: {one_of(known)}."
        raise ConfigError(msg)


def _require_states(start: str | None, goal: str | None, score: str) -> None:
    if (start is None) != (goal is None) or (score == "probe" and start is None):
        msg = (
            f"start is {start!r}, goal {goal!r}, score {score!r}. Give both states, or neither and "
            "score='cosine'."
        )
        raise ConfigError(msg)
