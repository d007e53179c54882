"""Integrators with one bug each: a check that is named here must catch it."""
# ruff: noqa: NPY002, SIM105, T201 - these bugs are planted

import logging
import os
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.contracts import Estimate
from cellweave.datasets import prepare_simulated
from cellweave.records import ComponentSpec
from cellweave.testing.planted import copy_of
from cellweave.testing.runner import run_suite, suite_for

MUTANTS = {}
SPEC = ComponentSpec(
    name="reference", target="a:B", summary="", tags=frozenset({"save", "transform"})
)


def caught_by(check):
    def keep(make):
        MUTANTS[make.__name__] = (make, check)
        return make

    return keep


def with_fit(base, before):
    """Return a mutant that calls ``before(self, mdata, links)`` and then fits."""

    class Mutant(base):
        def fit(self, mdata, links=(), *, progress=None):
            changed = before(self, mdata, links)
            mdata, links = changed if changed is not None else (mdata, links)
            return super().fit(mdata, links, progress=progress)

    return Mutant


def with_result(base, change):
    """Return a mutant whose result is ``change(self, result)``."""

    class Mutant(base):
        def result(self):
            return change(self, super().result())

    return Mutant


def embedded(result, change):
    return replace(result, embeddings={m: change(m, e) for m, e in result.embeddings.items()})


GLOBAL = "test_fit_leaves_global_state_unchanged"


@caught_by(GLOBAL)
def seeds_numpy_globally(base):
    return with_fit(base, lambda self, *_: np.random.seed(self.seed))


@caught_by(GLOBAL)
def seeds_python_globally(base):
    return with_fit(base, lambda self, *_: random.seed(self.seed))


@caught_by(GLOBAL)
def draws_from_the_global_generator(base):
    return with_fit(base, lambda *_: np.random.rand(3) is None or None)


@caught_by(GLOBAL)
def leaves_a_torch_flag_changed(base):
    torch = pytest.importorskip("torch")
    return with_fit(base, lambda *_: torch.set_default_dtype(torch.float64))


@caught_by(GLOBAL)
def leaves_torch_threads_changed(base):
    torch = pytest.importorskip("torch")
    return with_fit(base, lambda *_: torch.set_num_threads(torch.get_num_threads() + 1))


@caught_by(GLOBAL)
def silences_warnings(base):
    return with_fit(base, lambda *_: warnings.simplefilter("ignore"))


@caught_by(GLOBAL)
def adds_a_log_handler(base):
    return with_fit(base, lambda *_: logging.getLogger().addHandler(logging.NullHandler()))


@caught_by(GLOBAL)
def sets_an_environment_variable(base):
    return with_fit(base, lambda *_: os.environ.__setitem__("OMP_NUM_THREADS", "3"))


@caught_by(GLOBAL)
def changes_numpy_error_state(base):
    return with_fit(base, lambda *_: np.seterr(all="ignore") is None or None)


@caught_by("test_fit_leaves_input_unchanged")
def scales_the_input_in_place(base):
    def scale(self, mdata, links):
        mdata.mod["rna"].X.data *= 1.5

    return with_fit(base, scale)


@caught_by("test_fit_leaves_input_unchanged")
def stashes_in_uns(base):
    return with_fit(base, lambda self, mdata, links: mdata.uns.__setitem__("note", 1))


@caught_by("test_fit_leaves_input_unchanged")
def writes_a_column_to_obs(base):
    def write(self, mdata, links):
        mdata.mod["atac"].obs["n"] = 1

    return with_fit(base, write)


@caught_by("test_fit_leaves_links_unchanged")
def scales_the_links_in_place(base):
    def scale(self, mdata, links):
        links[0].weights[:] *= np.float32(0.5)

    return with_fit(base, scale)


@caught_by("test_rows_belong_to_their_cells")
def reorders_rows(base):
    def turn(self, result):
        rng = np.random.default_rng(0)
        return embedded(result, lambda m, e: e[rng.permutation(len(e))])

    return with_result(base, turn)


@caught_by("test_finds_planted_pairs")
def reorders_rows_of_one_modality(base):
    def turn(self, result):
        rng = np.random.default_rng(0)
        return embedded(result, lambda m, e: e[rng.permutation(len(e))] if m == "atac" else e)

    return with_result(base, turn)


@caught_by("test_result_names_cells_in_input_order")
def reorders_rows_and_names(base):
    def turn(self, result):
        names = {m: n[::-1] for m, n in result.obs_names.items()}
        return replace(embedded(result, lambda m, e: e[::-1].copy()), obs_names=names)

    return with_result(base, turn)


@caught_by("test_other_seed_other_result")
def ignores_the_seed(base):
    class Mutant(base):
        def _iterate(self, views, progress):
            seed, self.seed = self.seed, 0
            try:
                return super()._iterate(views, progress)
            finally:
                self.seed = seed

    return Mutant


@caught_by("test_same_seed_same_bytes")
def draws_without_a_seed(base):
    class Mutant(base):
        def _iterate(self, views, progress):
            seed, self.seed = self.seed, None
            try:
                return super()._iterate(views, progress)
            finally:
                self.seed = seed

    return Mutant


@caught_by("test_embeddings_are_float32")
def returns_float64(base):
    return with_result(base, lambda self, r: embedded(r, lambda m, e: e.astype(float)))


@caught_by("test_embeddings_are_finite")
def returns_nan(base):
    def spoil(self, result):
        for values in result.embeddings.values():
            values[0, 0] = np.nan
        return result

    return with_result(base, spoil)


@caught_by("test_fit_prints_nothing")
def prints(base):
    return with_fit(base, lambda *_: print("fitting"))


@caught_by("test_labels_do_not_matter")
def looks_at_cell_types(base):
    def peek(self, mdata, links):
        if all("cell_type" in a.obs for a in mdata.mod.values()):
            mdata = copy_of(mdata)
            adata = mdata.mod["rna"]
            codes = np.unique(adata.obs["cell_type"], return_inverse=True)[1]
            adata.X = sp.csr_matrix(sp.diags(1.0 + codes) @ adata.X)
        return mdata, links

    return with_fit(base, peek)


@caught_by("test_labels_do_not_matter")
def looks_at_the_true_state(base):
    def change(self, result):
        return embedded(result, lambda m, e: e + np.float32(self.bonus))

    def peek(self, mdata, links):
        self.bonus = float(sum(a.obsm["true_state"][0, 0] for a in mdata.mod.values()
                               if "true_state" in a.obsm))  # fmt: skip

    return with_result(with_fit(base, peek), change)


@caught_by("test_equal_names_do_not_pair_cells")
def pairs_cells_by_name(base):
    def change(self, result):
        first, second = result.obs_names.values()
        if set(first) == set(second):
            mean = sum(result.embeddings.values()) / 2
            return embedded(result, lambda m, e: mean)
        return result

    return with_result(base, change)


@caught_by("test_order_of_modalities_does_not_matter")
def trusts_the_order_of_modalities(base):
    def note(self, mdata, links):
        self.first = next(iter(mdata.mod))

    def change(self, result):
        return embedded(result, lambda m, e: -e if self.first == m == "atac" else e)

    return with_result(with_fit(base, note), change)


@caught_by("test_order_of_cells_does_not_matter")
def sorts_cells_by_name_in_one_place(base):
    def note(self, mdata, links):
        self.orders = {m: np.argsort(a.obs_names) for m, a in mdata.mod.items()}

    def change(self, result):
        return embedded(result, lambda m, e: e[self.orders[m]] if m == "rna" else e)

    return with_result(with_fit(base, note), change)


@caught_by("test_result_has_one_row_per_cell")
def drops_a_cell(base):
    def drop(self, result):
        names = {m: n[:-1] for m, n in result.obs_names.items()}
        return replace(
            result, obs_names=names, embeddings={m: e[:-1] for m, e in result.embeddings.items()}
        )

    return with_result(base, drop)


@caught_by("test_result_has_every_modality")
def forgets_a_modality(base):
    def drop(self, result):
        return replace(
            result,
            obs_names={"rna": result.obs_names["rna"]},
            embeddings={"rna": result.embeddings["rna"]},
        )

    return with_result(base, drop)


@caught_by("test_embeddings_tell_cells_apart")
def collapses(base):
    return with_result(base, lambda self, r: embedded(r, lambda m, e: np.ones_like(e)))


@caught_by("test_result_before_fit_is_refused")
def gives_a_result_before_fit(base):
    class Mutant(base):
        def result(self):
            return super().result() if self._sides else None

    return Mutant


@caught_by("test_fit_returns_self")
def returns_none_from_fit(base):
    class Mutant(base):
        def fit(self, mdata, links=(), *, progress=None):
            super().fit(mdata, links, progress=progress)

    return Mutant


@caught_by("test_two_instances_share_nothing")
def keeps_the_fit_on_the_class(base):
    shared = {}

    class Mutant(base):
        def __init__(self, *, n_components=20, seed=0):
            super().__init__(n_components=n_components, seed=seed)
            self._sides = shared

        def fit(self, mdata, links=(), *, progress=None):
            super().fit(mdata, links, progress=progress)
            shared.update(self._sides)
            return self

    return Mutant


@caught_by("test_refit_forgets_the_first_fit")
def averages_over_fits(base):
    class Mutant(base):
        rounds = 0

        def fit(self, mdata, links=(), *, progress=None):
            self.rounds += 1
            return super().fit(mdata, links, progress=progress)

        def result(self):
            return embedded(super().result(), lambda m, e: e / np.float32(self.rounds or 1))

    return Mutant


@caught_by("test_result_can_be_asked_twice")
def adds_noise_to_every_result(base):
    class Mutant(base):
        asked = 0

        def result(self):
            self.asked += 1
            return embedded(super().result(), lambda m, e: e + np.float32(1e-3 * self.asked))

    return Mutant


@caught_by("test_constructor_takes_keywords_only")
def takes_positional_arguments(base):
    class Mutant(base):
        def __init__(self, n_components=20, seed=0):
            super().__init__(n_components=n_components, seed=seed)

    return Mutant


@caught_by("test_constructor_has_a_seed")
def has_no_seed(base):
    class Mutant(base):
        def __init__(self, *, n_components=20):
            super().__init__(n_components=n_components)

    return Mutant


@caught_by("test_constructor_only_stores")
def seeds_in_the_constructor(base):
    class Mutant(base):
        def __init__(self, *, n_components=20, seed=0):
            super().__init__(n_components=n_components, seed=seed)
            np.random.seed(seed)

    return Mutant


@caught_by("test_progress_callback_may_stop_the_fit")
def swallows_what_the_callback_raises(base):
    class Mutant(base):
        def fit(self, mdata, links=(), *, progress=None):
            def quiet(report):
                try:
                    progress(report)
                except Exception:  # noqa: BLE001
                    pass

            return super().fit(mdata, links, progress=quiet if progress else None)

    return Mutant


@caught_by("test_fit_reports_progress")
def reports_no_progress(base):
    class Mutant(base):
        def fit(self, mdata, links=(), *, progress=None):
            return super().fit(mdata, links)

    return Mutant


@caught_by("test_finds_planted_types")
def leaves_modalities_in_their_own_spaces(base):
    def keep(self, result):
        return embedded(result, lambda m, e: -e[:, ::-1].copy() if m == "atac" else e)

    return with_result(base, keep)


@caught_by("test_unprepared_data_are_refused")
def prepares_silently(base):
    def prepare(self, mdata, links):
        if any("counts" not in a.layers for a in mdata.mod.values()):
            return prepare_simulated(mdata), links
        return None

    return with_fit(base, prepare)


@caught_by("test_nan_values_are_refused")
def takes_nan_for_zero(base):
    def mend(self, mdata, links):
        mdata = copy_of(mdata)
        for adata in mdata.mod.values():
            adata.X.data[~np.isfinite(adata.X.data)] = 0
        return mdata, links

    return with_fit(base, mend)


@caught_by("test_links_of_other_features_are_refused")
def drops_links_it_does_not_know(base):
    class Mutant(base):
        def fit(self, mdata, links=(), *, progress=None):
            if not np.isin(links[0].source_features, mdata.mod[links[0].source].var_names).all():
                return self
            return super().fit(mdata, links, progress=progress)

    return Mutant


@caught_by("test_one_modality_is_refused")
def accepts_a_single_modality(base):
    class Mutant(base):
        def fit(self, mdata, links=(), *, progress=None):
            return self if len(mdata.mod) < 2 else super().fit(mdata, links, progress=progress)

    return Mutant


@caught_by("test_storage_of_sparse_values_does_not_matter")
def takes_every_matrix_for_csr(base):
    def confuse(self, mdata, links):
        adata = mdata.mod["rna"]
        if adata.X.format == "csc":
            mdata = copy_of(mdata)
            rng = np.random.default_rng(0)
            mdata.mod["rna"].X = sp.csr_matrix(adata.X)[rng.permutation(adata.n_obs)]
            return mdata, links
        return None

    return with_fit(base, confuse)


@caught_by("test_state_survives_the_disk")
def leaves_half_of_its_state_out(base):
    class Mutant(base):
        @classmethod
        def from_state(cls, state):
            new = super().from_state(state)
            sides = new._sides
            new._sides = {
                m: replace(s, embedding=np.zeros_like(s.embedding)) for m, s in sides.items()
            }
            return new

    return Mutant


@caught_by("test_state_of_another_component_is_refused")
def takes_any_state(base):
    class Mutant(base):
        @classmethod
        def from_state(cls, state):
            return super().from_state(replace(state, component="reference"))

    return Mutant


@caught_by("test_state_without_an_array_is_refused")
def fills_missing_arrays(base):
    class Mutant(base):
        @classmethod
        def from_state(cls, state):
            try:
                return super().from_state(state)
            except ValueError:
                new = cls(**state.parameters)
                new._sides = dict(Mutant.last)
                return new

        def result(self):
            Mutant.last = self._sides
            return super().result()

    return Mutant


@caught_by("test_transform_leaves_everything_unchanged")
def refits_in_transform(base):
    class Mutant(base):
        def transform(self, mdata):
            out = super().transform(mdata)
            for m, side in list(self._sides.items()):
                self._sides[m] = replace(side, embedding=side.embedding * np.float32(0.5))
            return out

    return Mutant


@caught_by("test_transform_puts_cells_among_their_type")
def reorders_new_cells(base):
    class Mutant(base):
        def transform(self, mdata):
            rng = np.random.default_rng(0)
            return {m: e[rng.permutation(len(e))] for m, e in super().transform(mdata).items()}

    return Mutant


@caught_by("test_estimate_comes_before_the_fit")
def estimates_nothing(base):
    class Mutant(base):
        def estimate(self, mdata):
            return Estimate(seconds=0.0, peak_bytes=0)

    return Mutant


@caught_by("test_fitted_integrator_pickles")
def holds_a_lambda(base):
    def hold(self, mdata, links):
        self.kernel = lambda x: x

    return with_fit(base, hold)


@caught_by("test_result_tells_its_provenance")
def records_no_seed(base):
    return with_result(
        base, lambda self, r: replace(r, provenance=replace(r.provenance, seed=None))
    )


@caught_by("test_seed_changes_nothing")
def claims_to_be_deterministic(base):
    return base


def suite_of(component, *, tags=SPEC.tags):
    spec = replace(SPEC, tags=frozenset(tags))
    suite = suite_for(component, "integrator", spec=spec)
    suite.n_cells = 120
    return suite


def test_reference_passes_every_check(reference_component):
    results = run_suite(suite_of(reference_component("integrator")))
    failed = [f"{r.name}: {r.message}" for r in results if r.outcome == "failed"]
    assert failed == []
    assert sum(r.outcome == "passed" for r in results) >= 50


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_mutant_is_caught(name, reference_component):
    make, check = MUTANTS[name]
    tags = SPEC.tags | {"deterministic"} if name == "claims_to_be_deterministic" else SPEC.tags
    suite = suite_of(make(reference_component("integrator")), tags=tags)
    (result,) = run_suite(suite, only=[check])
    assert result.outcome == "failed"
    assert len(result.message) > 30
