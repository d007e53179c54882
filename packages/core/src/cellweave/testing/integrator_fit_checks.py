"""The checks of an integrator's construction and of ``fit``."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import replace
from typing import Any

import numpy as np

from cellweave.errors import NotFittedError
from cellweave.testing import planted as plant
from cellweave.testing.integrator_checks import (
    IntegratorChecks,
    rejoined,
    same_result,
)
from cellweave.testing.matrices import spoil
from cellweave.testing.observing import (
    observed,
    require_keyword_only,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import refusal, require, unless_tag

__all__ = ["FitChecks"]


class FitChecks(IntegratorChecks):
    """Checks of the constructor, of ``fit`` and of what it refuses."""

    def test_constructor_takes_keywords_only(self) -> None:
        """Every argument of the constructor is named at the call."""
        require_keyword_only(self.create())

    def test_constructor_has_a_seed(self) -> None:
        """``seed`` is an argument with a default, even where nothing is random."""
        parameters = inspect.signature(type(self.create())).parameters
        require("seed" in parameters, "The constructor has no `seed`. Add `seed: int = 0`.")
        default = parameters["seed"].default
        require(isinstance(default, int), f"`seed` defaults to {default!r}. Make it an int: 0.")

    def test_constructor_only_stores(self) -> None:
        """Building an integrator touches nothing outside it."""
        made = observed(lambda _: self.create(), self.data())
        require_same_state(made, "The constructor")
        require_quiet(made, "The constructor")

    def test_two_instances_share_nothing(self) -> None:
        """Fitting one instance does not fit another."""
        _ = self.reference
        with refusal("`result` of a second, unfitted instance", NotFittedError):
            self.create().result()

    def test_fit_returns_self(self) -> None:
        """``fit`` returns the integrator."""
        require(self.reference.returned_self, "`fit` does not return `self`. End it so.")

    def test_fit_leaves_input_unchanged(self) -> None:
        """The caller's MuData is the same after ``fit`` as before."""
        require_unchanged(self.reference.observation, "`fit`")

    def test_fit_leaves_links_unchanged(self) -> None:
        """The caller's links are the same after ``fit`` as before."""
        changed = self.reference.links_changed
        require(not changed, "`fit` changed the arrays of the links. Copy before scaling them.")

    def test_fit_leaves_global_state_unchanged(self) -> None:
        """Global generators, torch flags, filters and handlers are as they were."""
        require_same_state(self.reference.observation, "`fit`")

    def test_fit_prints_nothing(self) -> None:
        """A library call does not print."""
        require_quiet(self.reference.observation, "`fit`")

    def test_fit_reports_progress(self) -> None:
        """The callback hears at least once, and never of a step beyond the total."""
        reports = self.reference.progress
        require(reports, "`fit` never called `progress`. Report `Progress(stage=…)` per round.")
        wrong = [p for p in reports if not 0 <= p.step <= p.total]
        require(not wrong, f"Progress {wrong[:1]} lies outside 0…total. Count from 0 to total.")

    def test_progress_callback_may_stop_the_fit(self) -> None:
        """What the callback raises comes out of ``fit``."""

        class StopError(Exception):
            pass

        def stop(_: Any) -> None:
            raise StopError

        mdata = self.data()
        try:
            self.create().fit(plant.without_truth(mdata), self.links(mdata), progress=stop)
        except StopError:
            return
        msg = "`fit` went on after its progress callback raised. Do not catch what it raises."
        raise AssertionError(msg)

    def test_refit_forgets_the_first_fit(self) -> None:
        """Fitting again on other data gives what a new integrator gives."""
        other = self.data(seed=1)
        again = self.fitted(self.data())
        again.fit(plant.without_truth(other), self.links(other))
        require(
            same_result(again.result(), self.woven(other)),
            "A second `fit` is coloured by the first. Start `fit` from the arguments alone.",
        )

    def test_unequal_numbers_of_cells(self) -> None:
        """Modalities may have different numbers of cells."""
        mdata = self.data()
        first, second = list(mdata.mod)
        parts = {first: mdata.mod[first], second: mdata.mod[second][: self.n_cells * 2 // 3].copy()}
        fewer = plant.copy_of(rejoined(parts, mdata))
        result = self.woven(fewer)
        rows = {m: len(e) for m, e in result.embeddings.items()}
        expected = {m: a.n_obs for m, a in fewer.mod.items()}
        require(rows == expected, f"Rows {rows} for cells {expected}. Keep one row a cell.")

    def test_unprepared_data_are_refused(self) -> None:
        """Data without the prepared form are refused."""
        two = list(self.truth.mod)
        raw = plant.planted(two, n_cells=self.n_cells, prepared=False)
        integrator = self.create()
        with refusal("Data that are not prepared"):
            integrator.fit(plant.without_truth(raw), self.links(raw))
        with refusal("`result` after a refused `fit`", NotFittedError):
            integrator.result()

    def test_one_modality_is_refused(self) -> None:
        """A MuData of a single modality is refused."""
        mdata = self.data()
        first = next(iter(mdata.mod))
        alone = rejoined({first: mdata.mod[first]}, mdata)
        with refusal("A single modality"):
            self.create().fit(plant.without_truth(alone), ())

    def test_nan_values_are_refused(self) -> None:
        """NaN in the prepared values is refused."""
        mdata = self.data()
        bare = plant.without_truth(mdata)
        for adata in bare.mod.values():
            for key in adata.obsm:
                adata.obsm[key][3] = np.nan
            spoil(adata.layers["counts"])
            spoil(adata.X)
        with refusal("NaN in the data"):
            self.create().fit(bare, self.links(mdata))

    @unless_tag("linkless")
    def test_links_of_other_features_are_refused(self) -> None:
        """Links whose features are not those of the data are refused."""
        mdata = self.data()
        strange = tuple(
            replace(
                links,
                source_features=np.array([f"no_{i}" for i in range(len(links.source_features))]),
                target_features=np.array([f"not_{i}" for i in range(len(links.target_features))]),
            )
            for links in self.links(mdata)
        )
        with refusal("Links whose features are not in the data"):
            self.create().fit(plant.without_truth(mdata), strange)

    def test_estimate_comes_before_the_fit(self) -> None:
        """``estimate`` works unfitted, gives positive numbers, and changes nothing."""
        watched = observed(lambda data: self.create().estimate(data), self.data())
        estimate = watched.value
        require(
            estimate.seconds > 0 and estimate.peak_bytes > 0,
            f"`estimate` gives {estimate}. Give positive seconds and bytes.",
        )
        require_unchanged(watched, "`estimate`")

    def test_fitted_integrator_pickles(self) -> None:
        """A fitted integrator survives a pickle, as worker processes need."""
        back = pickle.loads(pickle.dumps(self.reference.integrator))
        require(
            same_result(back.result(), self.reference.result),
            "A pickled copy gives another result.",
        )
