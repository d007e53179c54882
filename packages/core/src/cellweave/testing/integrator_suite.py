"""The suite of the integrator contract."""

from __future__ import annotations

import inspect
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp

from cellweave.errors import NotFittedError
from cellweave.testing import planted as plant
from cellweave.testing.digests import digest_of
from cellweave.testing.integrator_state_checks import StateChecks, TransformChecks
from cellweave.testing.matrices import is_sparse, spoil
from cellweave.testing.observing import (
    Observation,
    observed,
    require_keyword_only,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import needs_tag, refusal, require, unless_tag

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult

__all__ = ["IntegratorSuite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """One watched fit that many checks look at."""

    integrator: Any
    result: Any
    observation: Observation
    progress: tuple[Any, ...]
    returned_self: bool
    links_changed: bool


class IntegratorSuite(StateChecks, TransformChecks):
    """Check an integrator.

    Besides :meth:`create`, an author may set:

    Attributes
    ----------
    modalities
        The modalities to weave in the checks.
    n_cells
        Cells of each modality; fewer are faster.
    tags
        ``save`` (``state`` and ``from_state``), ``transform`` (new cells join), ``deterministic``
        (nothing is random: the seed changes nothing and the order of cells only rounding),
        ``paired`` (cells of equal name are used as pairs), ``linkless`` (needs no links).
    """

    kind: ClassVar[str] = "integrator"
    modalities: ClassVar[tuple[str, ...]] = ("rna", "atac")
    n_cells: ClassVar[int] = 240

    # -- what the checks work with ---------------------------------------------------------

    def data(self, *, seed: int = 0, n_cells: int | None = None) -> MuData:
        """Return prepared data of three types whose modalities do not share cell names."""
        from cellweave.datasets import hide_pairing

        two = self.modalities[:2] if len(self.modalities) > 1 else ("rna", "atac")
        mdata = plant.planted(two, n_cells=n_cells or self.n_cells, seed=seed)
        return mdata if "paired" in self.tags else hide_pairing(mdata, seed=seed)

    def links(self, mdata: MuData) -> tuple[FeatureLinks, ...]:
        """Return the true links of ``mdata``."""
        return plant.links_between(mdata)

    def fitted(self, mdata: MuData, **arguments: Any) -> Any:
        """Return a new integrator fitted on ``mdata``."""
        return self.create(**arguments).fit(plant.without_truth(mdata), self.links(mdata))

    def woven(self, mdata: MuData, **arguments: Any) -> IntegrationResult:
        """Return the result of a new fit on ``mdata``."""
        result: IntegrationResult = self.fitted(mdata, **arguments).result()
        return result

    @property
    def reference(self) -> Any:
        """The watched fit, made once for the class."""
        return self.once("reference", self._make_reference)

    def _make_reference(self) -> _Reference:
        mdata = self.data()
        links = self.links(mdata)
        bare = plant.without_truth(mdata)
        before = digest_of(links)
        progress: list[Any] = []
        kept: dict[str, Any] = {}

        def fit(data: Any) -> Any:
            progress.clear()
            kept["integrator"] = self.create()
            kept["returned"] = kept["integrator"].fit(data, links, progress=progress.append)
            return kept["integrator"].result()

        observation = observed(fit, bare)
        return _Reference(
            integrator=kept["integrator"],
            result=observation.value,
            observation=observation,
            progress=tuple(progress),
            returned_self=kept["returned"] is kept["integrator"],
            links_changed=digest_of(links) != before,
        )

    @cached_property
    def truth(self) -> MuData:
        """The reference data with their truth."""
        return self.data()

    def labels(self, modality: str, mdata: MuData | None = None) -> np.ndarray:
        """Return the true types of one modality."""
        mdata = self.truth if mdata is None else mdata
        return mdata.mod[modality].obs["cell_type"].to_numpy(dtype=str)

    def transfer(self, embeddings: Mapping[str, np.ndarray], mdata: MuData) -> float:
        """Return the share of right types among the neighbours in the other modality."""
        first, second = list(mdata.mod)[:2]
        return plant.neighbour_vote(
            embeddings[second],
            embeddings[first],
            self.labels(second, mdata),
            self.labels(first, mdata),
        )

    # -- construction ----------------------------------------------------------------------

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

    # -- fit ------------------------------------------------------------------------------

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
            _same(again.result(), self.woven(other)),
            "A second `fit` is coloured by the first. Start `fit` from the arguments alone.",
        )

    def test_unequal_numbers_of_cells(self) -> None:
        """Modalities may have different numbers of cells."""
        mdata = self.data()
        first, second = list(mdata.mod)
        parts = {first: mdata.mod[first], second: mdata.mod[second][: self.n_cells * 2 // 3].copy()}
        fewer = plant.copy_of(_joined(parts, mdata))
        result = self.woven(fewer)
        rows = {m: len(e) for m, e in result.embeddings.items()}
        expected = {m: a.n_obs for m, a in fewer.mod.items()}
        require(rows == expected, f"Rows {rows} for cells {expected}. Keep one row a cell.")

    # -- result ---------------------------------------------------------------------------

    def test_result_before_fit_is_refused(self) -> None:
        """``result`` of an unfitted integrator raises ``NotFittedError``."""
        with refusal("`result` before `fit`", NotFittedError):
            self.create().result()

    def test_result_has_every_modality(self) -> None:
        """Each modality of the data has an embedding."""
        found, expected = set(self.reference.result.embeddings), set(self.truth.mod)
        require(found == expected, f"Embeddings for {found}, data have {expected}. Embed all.")

    def test_result_has_one_row_per_cell(self) -> None:
        """No cell is dropped or doubled."""
        for modality, values in self.reference.result.embeddings.items():
            n = self.truth.mod[modality].n_obs
            require(
                len(values) == n,
                f"{modality!r} has {len(values)} rows for {n} cells. Keep every cell, in order.",
            )

    def test_result_names_cells_in_input_order(self) -> None:
        """``obs_names`` are those of the input, in its order."""
        for modality, names in self.reference.result.obs_names.items():
            expected = self.truth.mod[modality].obs_names.to_numpy(dtype=str)
            require(
                np.array_equal(np.asarray(names, dtype=str), expected),
                f"Names of {modality!r} are not those of the input in its order. Undo any sort.",
            )

    def test_rows_belong_to_their_cells(self) -> None:
        """Neighbours in an embedding are of one type more often than by chance."""
        for modality, values in self.reference.result.embeddings.items():
            labels = self.labels(modality)
            vote = plant.neighbour_vote(values, values, labels, labels, skip_self=True)
            chance = plant.majority_share(labels)
            require(
                vote > chance + 0.1,
                f"Neighbours in {modality!r} share a type in {vote:.2f} of cases, chance is "
                f"{chance:.2f}. Are the rows in input order? Is the signal kept?",
            )

    def test_embeddings_are_finite(self) -> None:
        """There is no NaN or infinity."""
        for modality, values in self.reference.result.embeddings.items():
            require(
                np.isfinite(values).all(),
                f"The embedding of {modality!r} holds NaN or infinity. Raise NumericalError "
                "where it arises.",
            )

    def test_embeddings_are_float32(self) -> None:
        """Embeddings are float32 arrays."""
        for modality, values in self.reference.result.embeddings.items():
            require(
                isinstance(values, np.ndarray) and values.dtype == np.float32,
                f"The embedding of {modality!r} is {getattr(values, 'dtype', type(values))}. "
                "Return `.astype(np.float32)`.",
            )

    def test_embeddings_have_one_width(self) -> None:
        """All modalities share the axes, and there are at least two."""
        widths = {m: e.shape[1] for m, e in self.reference.result.embeddings.items()}
        require(
            len(set(widths.values())) == 1 and min(widths.values()) >= 2,
            f"Widths {widths}. Give all modalities the same axes, at least two.",
        )

    def test_embeddings_tell_cells_apart(self) -> None:
        """The embedding has not collapsed to a point."""
        for modality, values in self.reference.result.embeddings.items():
            spread = float(np.asarray(values, dtype=float).std(axis=0).max())
            require(
                spread > 1e-6,
                f"All cells of {modality!r} lie on one point. Check scaling and loss.",
            )

    def test_result_can_be_asked_twice(self) -> None:
        """``result`` gives the same each time."""
        again = self.reference.integrator.result()
        require(
            _same(again, self.reference.result),
            "`result` differs when asked twice. Compute it in `fit`, or without randomness.",
        )

    def test_result_writes_into_the_data(self) -> None:
        """``result.write`` puts every embedding into ``obsm``."""
        mdata = self.data()
        self.reference.result.write(mdata, key_added="X_checked")
        missing = [m for m, a in mdata.mod.items() if "X_checked" not in a.obsm]
        require(not missing, f"`write` left out {missing}. Return an IntegrationResult record.")

    def test_result_survives_the_disk(self) -> None:
        """A saved result is read back the same."""
        from cellweave.records import IntegrationResult

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "result.npz"
            self.reference.result.save(path)
            back = IntegrationResult.load(path)
        require(_same(back, self.reference.result), "The result changes on disk. Use plain arrays.")

    def test_result_tells_its_provenance(self) -> None:
        """Provenance names the component and the seed, with parameters that fit JSON."""
        provenance = self.woven(self.data(), seed=5).provenance
        require(provenance.component, "Provenance has no component name. Set it.")
        require(
            provenance.seed == 5,
            f"Provenance says seed {provenance.seed!r}, created with 5. Record the seed.",
        )

    def test_matches_point_at_cells(self) -> None:
        """Matches, where given, lie within the data, with scores from 0 to 1."""
        for match in self.reference.result.matches:
            n = (self.truth.mod[match.source].n_obs, self.truth.mod[match.target].n_obs)
            inside = match.rows.max(initial=0) < n[0] and match.cols.max(initial=0) < n[1]
            require(inside, f"Matches {match.source!r} to {match.target!r} point beyond {n} cells.")
            low, high = match.scores.min(initial=0), match.scores.max(initial=1)
            require(low >= 0 and high <= 1, f"Match scores reach {low}…{high}. Scale to [0, 1].")

    # -- reproducibility and independence ---------------------------------------------------

    def test_same_seed_same_bytes(self) -> None:
        """Two runs with one seed give the same bytes."""
        require(
            _same(self.woven(self.data()), self.reference.result),
            "Two runs with the same seed differ. Draw everything from a generator made of `seed` "
            "in `fit`.",
        )

    @unless_tag("deterministic")
    def test_other_seed_other_result(self) -> None:
        """The seed is used."""
        other = self.woven(self.data(), seed=123)
        require(
            not _same(other, self.reference.result),
            "Another seed gives the same bytes: `seed` is ignored. Use it, or add the tag "
            "'deterministic' when nothing is random.",
        )

    @needs_tag("deterministic")
    def test_seed_changes_nothing(self) -> None:
        """A component tagged ``deterministic`` gives one result for all seeds."""
        other = self.woven(self.data(), seed=123)
        require(
            _same(other, self.reference.result),
            "Tagged 'deterministic', but the seed changes the result. Take the tag away.",
        )

    def test_order_of_modalities_does_not_matter(self) -> None:
        """Modalities in another order give an embedding as good."""
        mdata = self.data()
        turned = _joined(dict(reversed(list(mdata.mod.items()))), mdata)
        fit = self.create().fit(plant.without_truth(turned), self.links(mdata))
        self._require_as_good(fit.result(), mdata, "modalities in another order")

    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order give the same embedding in that order, or one as good."""
        mdata = self.data()
        rng = np.random.default_rng(7)
        orders = {m: rng.permutation(a.n_obs) for m, a in mdata.mod.items()}
        if "paired" in self.tags:
            orders = dict.fromkeys(orders, next(iter(orders.values())))
        shuffled = _joined({m: a[orders[m]].copy() for m, a in mdata.mod.items()}, mdata)
        result = self.woven(shuffled)
        if "deterministic" in self.tags:
            self._require_same_geometry(result, orders)
        self._require_as_good(result, shuffled, "cells in another order")

    def test_labels_do_not_matter(self) -> None:
        """Cell types, pairing and other truth in the data are not looked at."""
        mdata = self.data()
        result = self.create().fit(_mislabelled(mdata), self.links(mdata)).result()
        require(
            _same(result, self.reference.result),
            "The result changes with `obs['cell_type']`, `obs['pairing']` or `obsm`: the fit "
            "looks at labels. Use only the prepared slots and what the arguments name.",
        )

    @unless_tag("paired")
    def test_equal_names_do_not_pair_cells(self) -> None:
        """Cells of equal name in two modalities are not taken for one cell unasked."""
        mdata = self.data()
        bare = plant.without_truth(mdata)
        for adata in bare.mod.values():
            adata.obs_names = [f"cell{i}" for i in range(adata.n_obs)]
        bare = _joined(dict(bare.mod), bare)
        result = self.create().fit(bare, self.links(mdata)).result()
        require(
            _same(result, self.reference.result),
            "The result depends on cell names: cells of equal name are used as pairs. Do that "
            "only when an argument asks for it, and add the tag 'paired'.",
        )

    def test_storage_of_sparse_values_does_not_matter(self) -> None:
        """CSC values give what CSR values give."""
        mdata = self.data()
        bare = plant.without_truth(mdata)
        for adata in bare.mod.values():
            adata.layers["counts"] = sp.csc_matrix(adata.layers["counts"])
            adata.X = sp.csc_matrix(adata.X) if is_sparse(adata.X) else adata.X
        result = self.create().fit(bare, self.links(mdata)).result()
        self._require_as_good(result, mdata, "CSC instead of CSR")

    # -- what it finds ----------------------------------------------------------------------

    def test_finds_planted_types(self) -> None:
        """Neighbours in the other modality are of the same planted type, far above chance."""
        vote = self.transfer(self.reference.result.embeddings, self.truth)
        chance = plant.majority_share(self.labels(next(iter(self.truth.mod))))
        require(
            vote > chance + 0.15,
            f"Neighbours across modalities share a type in {vote:.2f} of cases; chance is "
            f"{chance:.2f}. Three clear types with true links should be found.",
        )

    def test_finds_planted_pairs(self) -> None:
        """True partners are closer than at random (FOSCTTM, by brute force)."""
        first, second = (self.truth.mod[m] for m in list(self.truth.mod)[:2])
        at = {name: i for i, name in enumerate(second.obs["pairing"])}
        partner = np.array([at[name] for name in first.obs["pairing"]])
        left, right = (self.reference.result.embeddings[m] for m in list(self.truth.mod)[:2])
        value = plant.foscttm(left, right[partner])
        require(
            value < 0.42,
            f"FOSCTTM is {value:.2f}; 0.5 is chance. Are the rows in input order and the "
            "modalities in one space?",
        )

    # -- refusals ---------------------------------------------------------------------------

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
        alone = _joined({first: mdata.mod[first]}, mdata)
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
        require(_same(back.result(), self.reference.result), "A pickled copy gives another result.")

    # -- shared judgements ------------------------------------------------------------------

    def _require_as_good(self, result: Any, mdata: MuData, what: str) -> None:
        known = self.transfer(self.reference.result.embeddings, self.truth)
        found = self.transfer(result.embeddings, mdata)
        require(
            found > known - 0.2,
            f"With {what}, neighbours across modalities share a type in {found:.2f} of cases "
            f"instead of {known:.2f}. Look up modalities by name and cells by position.",
        )

    def _require_same_geometry(self, result: Any, orders: Mapping[str, np.ndarray]) -> None:
        for modality, order in orders.items():
            expected = self.reference.result.embeddings[modality][order]
            before = plant.distances(expected, expected)
            after = plant.distances(result.embeddings[modality], result.embeddings[modality])
            gap = float(np.abs(np.sqrt(before) - np.sqrt(after)).max())
            require(
                gap < 0.02 * np.sqrt(before.max()) + 1e-3,
                f"Distances in {modality!r} change by {gap:.3g} with the order of cells.",
            )


def _joined(parts: Mapping[str, Any], like: MuData) -> MuData:
    from cellweave.datasets.joining import joined

    return joined(dict(parts), dict(like.uns))


def _same(left: Any, right: Any) -> bool:
    return left.embeddings.keys() == right.embeddings.keys() and all(
        left.embeddings[m].tobytes() == right.embeddings[m].tobytes() for m in left.embeddings
    )


def _mislabelled(mdata: MuData) -> MuData:
    """Return a copy whose labels and other truth are there, but false."""
    false = plant.copy_of(mdata)
    rng = np.random.default_rng(11)
    for adata in false.mod.values():
        order = rng.permutation(adata.n_obs)
        for column in set(adata.obs.columns) - {"batch"}:
            adata.obs[column] = adata.obs[column].to_numpy()[order]
        adata.obsm["true_state"] = adata.obsm["true_state"][order]
    return false
