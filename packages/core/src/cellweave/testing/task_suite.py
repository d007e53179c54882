"""The suite of the task contract."""

from __future__ import annotations

import inspect
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cellweave.errors import NotFittedError
from cellweave.testing import planted as plant
from cellweave.testing.digests import digest_of
from cellweave.testing.observing import (
    observed,
    require_keyword_only,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import Suite, needs_tag, refusal, require, unless_tag

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["TaskSuite"]


class TaskSuite(Suite):
    """Check a task.

    Besides :meth:`create`, an author may override :meth:`train_data` and :meth:`held_out_data`
    for a task that asks for more than ``obs["cell_type"]`` of prepared RNA.

    Attributes
    ----------
    tags
        ``labels`` (predicts ``obs["cell_type"]``; must beat the commonest label), ``unseeded``
        (nothing is random), ``features`` (predicts for genes or conditions, not cells),
        ``needs_truth`` (``predict`` needs the columns that ``fit`` needs), ``transductive``
        (reads no label before it scores, and may be scored on the cells of ``fit``).
    truth_columns
        Columns of ``obs`` that hold the answer.
    """

    kind: ClassVar[str] = "task"
    n_cells: ClassVar[int] = 240
    truth_columns: ClassVar[tuple[str, ...]] = ("cell_type",)

    def train_data(self) -> AnnData:
        """Return the cells to learn from."""
        adata: AnnData = self._cells()[::2].copy()
        return adata

    def held_out_data(self) -> AnnData:
        """Return the cells to predict for; none of them is in :meth:`train_data`."""
        adata: AnnData = self._cells()[1::2].copy()
        return adata

    def _cells(self) -> AnnData:
        adata: AnnData = plant.planted(("rna",), n_cells=self.n_cells, batches=2).mod["rna"]
        return adata

    @property
    def reference(self) -> Any:
        """The watched fit and prediction, made once for the class."""
        return self.once("reference", self._make_reference)

    def _make_reference(self) -> dict[str, Any]:
        task = self.create()
        fitting = observed(task.fit, self.train_data())
        predicting = observed(task.predict, self.unlabelled())
        return {"task": task, "fitting": fitting, "predicting": predicting}

    def unlabelled(self) -> AnnData:
        """Return the test cells without the answer."""
        adata = self.held_out_data()
        if "needs_truth" not in self.tags:
            columns = [*self.truth_columns, "pairing"]
            adata.obs = adata.obs.drop(columns=columns, errors="ignore")
            adata.obsm.pop("true_state", None)
        return adata

    @property
    def prediction(self) -> Any:
        """The reference prediction."""
        return self.reference["predicting"].value

    # -- fit ---------------------------------------------------------------------------------

    def test_constructor_takes_keywords_only(self) -> None:
        """Every argument of the constructor is named at the call."""
        require_keyword_only(self.create())

    def test_constructor_has_a_seed(self) -> None:
        """``seed`` is an argument."""
        names = inspect.signature(type(self.create())).parameters
        require("seed" in names, "The constructor has no `seed`. Add `seed: int = 0`.")

    def test_fit_returns_self(self) -> None:
        """``fit`` returns the task."""
        task = self.create()
        require(task.fit(self.train_data()) is task, "`fit` does not return `self`. End it so.")

    def test_fit_leaves_everything_unchanged(self) -> None:
        """``fit`` changes neither its input nor global state, and prints nothing."""
        require_unchanged(self.reference["fitting"], "`fit`")
        require_same_state(self.reference["fitting"], "`fit`")
        require_quiet(self.reference["fitting"], "`fit`")

    def test_predict_before_fit_is_refused(self) -> None:
        """``predict`` of an unfitted task raises ``NotFittedError``."""
        with refusal("`predict` before `fit`", NotFittedError):
            self.create().predict(self.unlabelled())

    def test_evaluate_before_fit_is_refused(self) -> None:
        """``evaluate`` of an unfitted task raises ``NotFittedError``."""
        with refusal("`evaluate` before `fit`", NotFittedError):
            self.create().evaluate(self.held_out_data())

    def test_same_seed_same_prediction(self) -> None:
        """Two runs with one seed predict the same bytes."""
        again = self.create().fit(self.train_data()).predict(self.unlabelled())
        same = digest_of(again.values) == digest_of(self.prediction.values)
        require(same, "Two runs with the same seed differ. Make generators from `seed` in `fit`.")

    def test_refit_forgets_the_first_fit(self) -> None:
        """Fitting again on other cells gives what a new task gives."""
        train = self.train_data()
        task = self.create().fit(train[: train.n_obs // 2].copy()).fit(train)
        same = digest_of(task.predict(self.unlabelled()).values)
        require(
            same == digest_of(self.prediction.values),
            "A second `fit` is coloured by the first. Start from the arguments alone.",
        )

    # -- predict -----------------------------------------------------------------------------

    def test_predict_leaves_everything_unchanged(self) -> None:
        """``predict`` changes neither its input nor global state, and prints nothing."""
        require_unchanged(self.reference["predicting"], "`predict`")
        require_same_state(self.reference["predicting"], "`predict`")
        require_quiet(self.reference["predicting"], "`predict`")

    @unless_tag("features")
    def test_predicts_every_cell_in_order(self) -> None:
        """There is one prediction for each cell, in input order."""
        names = np.asarray(self.prediction.names, dtype=str)
        expected = self.held_out_data().obs_names.to_numpy(dtype=str)
        require(np.array_equal(names, expected), "Names are not `obs_names` in input order.")

    def test_confidence_is_a_share(self) -> None:
        """Confidence lies between 0 and 1."""
        confidence = self.prediction.confidence
        if confidence is not None:
            low, high = float(confidence.min()), float(confidence.max())
            require(low >= 0 and high <= 1, f"Confidence reaches {low}…{high}. Scale to [0, 1].")

    def test_probabilities_sum_to_one(self) -> None:
        """Class probabilities of a cell sum to one and have named columns."""
        table = self.prediction.probabilities
        if table is not None:
            require(np.allclose(table.sum(axis=1), 1, atol=1e-4), "Probabilities do not sum to 1.")
            named = self.prediction.columns is not None
            require(named and len(self.prediction.columns) == table.shape[1], "Name each column.")

    def test_numbers_are_finite(self) -> None:
        """Numeric predictions hold no NaN."""
        values = np.asarray(self.prediction.values)
        if values.dtype.kind == "f":
            require(np.isfinite(values).all(), "Predictions hold NaN or infinity.")

    @unless_tag("features")
    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order have the same predictions, in that order."""
        cells = self.unlabelled()
        order = np.random.default_rng(1).permutation(cells.n_obs)
        turned = self.reference["task"].predict(cells[order].copy())
        known = np.asarray(self.prediction.values)[order]
        same = _agreement(np.asarray(turned.values), known)
        require(same > 0.98, "Predictions change with the order of cells. Keep rows in order.")

    @unless_tag("needs_truth")
    def test_answers_in_the_data_do_not_matter(self) -> None:
        """False labels in the cells to predict for change nothing."""
        cells = self.held_out_data()
        order = np.random.default_rng(2).permutation(cells.n_obs)
        for column in self.truth_columns:
            if column in cells.obs:
                cells.obs[column] = cells.obs[column].to_numpy()[order]
        found = self.reference["task"].predict(cells)
        require(
            digest_of(found.values) == digest_of(self.prediction.values),
            f"Predictions change with {self.truth_columns} of the cells to predict for: the "
            "answer leaks.",
        )

    def test_prediction_survives_the_disk(self) -> None:
        """A saved prediction is read back the same."""
        from cellweave.records import Prediction

        with tempfile.TemporaryDirectory() as folder:
            self.prediction.save(Path(folder) / "prediction.npz")
            back = Prediction.load(Path(folder) / "prediction.npz")
        same = np.asarray(back.values).astype(str) == np.asarray(self.prediction.values).astype(str)
        require(np.all(same), "The prediction changes on disk.")

    def test_prediction_tells_its_provenance(self) -> None:
        """Provenance names the component."""
        require(self.prediction.provenance.component, "Provenance has no component name.")

    @needs_tag("labels")
    def test_beats_the_commonest_label(self) -> None:
        """Predicted types are right far more often than the commonest label would be."""
        truth = self.held_out_data().obs["cell_type"].to_numpy(dtype=str)
        right = float((np.asarray(self.prediction.values, dtype=str) == truth).mean())
        chance = plant.majority_share(truth)
        require(
            right > chance + 0.1,
            f"{right:.2f} right; the commonest label alone gives {chance:.2f}.",
        )

    # -- evaluate ----------------------------------------------------------------------------

    @property
    def scores(self) -> Any:
        """The scores of the reference task, made once."""
        return self.once("scores", self._make_scores)

    def _make_scores(self) -> Any:
        return self.reference["task"].evaluate(self.held_out_data())

    def test_scores_stand_beside_baselines(self) -> None:
        """Every metric is given for the task and for at least one baseline."""
        methods: dict[tuple[str, str], set[str]] = defaultdict(set)
        for score in self.scores.items:
            methods[score.metric, score.group].add(score.method)
        alone = sorted(k for k, v in methods.items() if len(v) < 2 and not k[1])
        require(methods, "`evaluate` gives no score.")
        require(not alone, f"{alone} stand alone. Give the same score of every baseline.")

    def test_scores_are_finite_or_explained(self) -> None:
        """Every score is finite, or ``None`` with a note."""
        for score in self.scores.items:
            fine = np.isfinite(score.value) if score.value is not None else bool(score.note)
            require(fine, f"{score.metric!r} of {score.method!r} is {score.value}: say why.")

    def test_evaluate_leaves_input_unchanged(self) -> None:
        """``evaluate`` does not change the caller's data."""
        watched = observed(self.reference["task"].evaluate, self.held_out_data())
        require_unchanged(watched, "`evaluate`")

    @needs_tag("transductive")
    def test_labels_of_fit_do_not_matter(self) -> None:
        """False labels in the cells of ``fit`` change nothing."""
        cells = self.train_data()
        order = np.random.default_rng(3).permutation(cells.n_obs)
        for column in self.truth_columns:
            cells.obs[column] = cells.obs[column].to_numpy()[order]
        found = self.create().fit(cells).predict(self.unlabelled())
        require(
            digest_of(found.values) == digest_of(self.prediction.values),
            f"Predictions change with {self.truth_columns} of the cells of `fit`: a task that is "
            "scored on those cells must not read them.",
        )

    @unless_tag("transductive")
    def test_training_cells_are_refused(self) -> None:
        """Evaluating on the cells of ``fit`` is refused: it would flatter."""
        with refusal("Evaluation on the cells of `fit`"):
            self.reference["task"].evaluate(self.train_data())


def _agreement(left: np.ndarray, right: np.ndarray) -> float:
    if left.shape != right.shape:
        return 0.0
    if left.dtype.kind == "f":
        return float(np.isclose(left, right, rtol=1e-3, atol=1e-4).mean())
    return float((left.astype(str) == right.astype(str)).mean())
