"""Tokenizers with one bug each: a check that is named here must catch it."""
# ruff: noqa: NPY002, T201 - these bugs are planted

import random
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.records import ComponentSpec, Tokens
from cellweave.testing.runner import run_suite, suite_for

MUTANTS = {}
SPEC = ComponentSpec(name="reference", target="a:B", summary="")


def caught_by(check, *, tags=()):
    def keep(make):
        MUTANTS[make.__name__] = (make, check, tags)
        return make

    return keep


def with_fit(base, before):
    """Return a mutant that calls ``before(self, adata)``, then fits on what it gave."""

    class Mutant(base):
        def fit(self, adata):
            changed = before(self, adata)
            return super().fit(adata if changed is None else changed)

    return Mutant


def with_input(base, before):
    """Return a mutant that calls ``before(self, adata)``, then encodes what it gave."""

    class Mutant(base):
        def encode(self, adata):
            changed = before(self, adata)
            return super().encode(adata if changed is None else changed)

    return Mutant


def with_tokens(base, change):
    """Return a mutant whose tokens are ``change(self, tokens, adata)``."""

    class Mutant(base):
        def encode(self, adata):
            return change(self, super().encode(adata), adata)

    return Mutant


@caught_by("test_fit_leaves_global_state_unchanged")
def seeds_numpy_globally_in_fit(base):
    return with_fit(base, lambda *_: np.random.seed(0))


@caught_by("test_encode_leaves_global_state_unchanged")
def draws_from_python_random_in_encode(base):
    return with_input(base, lambda *_: random.random() > 2 or None)


@caught_by("test_fit_leaves_input_unchanged")
def writes_means_to_var(base):
    def write(self, adata):
        adata.var["mean"] = 0.0

    return with_fit(base, write)


@caught_by("test_encode_leaves_input_unchanged")
def normalises_in_place(base):
    def scale(self, adata):
        adata.layers["counts"].data /= 2

    return with_input(base, scale)


@caught_by("test_fit_prints_nothing")
def prints_in_fit(base):
    return with_fit(base, lambda *_: print("fit"))


@caught_by("test_encode_prints_nothing")
def prints_in_encode(base):
    return with_input(base, lambda *_: print("encode"))


@caught_by("test_tokens_belong_to_their_cells")
def reorders_rows(base):
    def turn(self, tokens, adata):
        order = np.random.default_rng(0).permutation(tokens.n_cells)
        return replace(tokens.take(order), obs_names=tokens.obs_names)

    return with_tokens(base, turn)


@caught_by("test_tokens_name_cells_in_input_order")
def sorts_cells_by_length(base):
    return with_tokens(base, lambda self, t, _: t.take(np.arange(t.n_cells)[::-1]))


@caught_by("test_tokens_cover_every_cell")
def drops_a_cell(base):
    return with_tokens(base, lambda self, t, _: t.take(np.arange(t.n_cells - 1)))


@caught_by("test_tokens_have_the_stated_dtypes")
def returns_int64_ids(base):
    return with_tokens(base, lambda self, t, _: replace(t, ids=t.ids.astype(np.int64)))


@caught_by("test_tokens_have_the_stated_dtypes")
def returns_float64_values(base):
    return with_tokens(base, lambda self, t, _: replace(t, values=t.values.astype(float)))


@caught_by("test_ids_lie_in_the_vocabulary")
def counts_ids_from_one(base):
    return with_tokens(
        base, lambda self, t, _: replace(t, ids=t.ids + np.int32(len(self.vocabulary)))
    )


@caught_by("test_values_are_finite")
def divides_by_zero(base):
    def spoil(self, tokens, _):
        tokens.values[0] = np.inf
        return tokens

    return with_tokens(base, spoil)


@caught_by("test_same_seed_same_bytes")
def draws_without_a_seed(base):
    def blur(self, tokens, _):
        noise = np.random.default_rng().normal(0, 1e-3, len(tokens.values)).astype(np.float32)
        return replace(tokens, values=tokens.values + noise)

    return with_tokens(base, blur)


@caught_by("test_encoding_twice_gives_the_same")
def keeps_a_generator_between_calls(base):
    def blur(self, tokens, _):
        self.calls = getattr(self, "calls", 0) + 1
        return replace(tokens, values=tokens.values * np.float32(self.calls))

    return with_tokens(base, blur)


@caught_by("test_other_seed_other_tokens", tags=("stochastic",))
def ignores_the_seed(base):
    return base


@caught_by("test_tokens_of_a_cell_do_not_depend_on_others")
def scales_by_the_mean_of_the_batch(base):
    return with_tokens(base, lambda self, t, _: replace(t, values=t.values / t.values.mean()))


@caught_by("test_order_of_cells_does_not_matter")
def draws_by_position(base):
    def blur(self, tokens, _):
        noise = np.random.default_rng(self.seed).random(len(tokens.values)).astype(np.float32)
        return replace(tokens, values=tokens.values + noise)

    return with_tokens(base, blur)


@caught_by("test_blocks_of_cells_give_the_same")
def pads_to_the_longest_of_the_block(base):
    return with_tokens(
        base,
        lambda self, t, _: replace(t, values=t.values * np.float32(1 + t.n_cells % 2)),
    )


@caught_by("test_order_of_cells_in_fit_does_not_matter")
def orders_the_vocabulary_by_the_first_cell(base):
    def turn(self, adata):
        first = np.argsort(-adata.layers["counts"][0].toarray().ravel(), kind="stable")
        return adata[:, first].copy()

    return with_fit(base, turn)


@caught_by("test_order_of_features_does_not_matter")
def takes_features_by_position(base):
    def rename(self, adata):
        adata = adata.copy()
        adata.var_names = list(self.vocabulary.names[1 : adata.n_vars + 1])
        return adata

    return with_input(base, rename)


@caught_by("test_unknown_features_are_left_out")
def gives_unknown_features_new_ids(base):
    def add(self, tokens, adata):
        if any(str(n).startswith("strange") for n in adata.var_names):
            tokens.ids[-1] = len(self.vocabulary)
        return tokens

    return with_tokens(base, add)


@caught_by("test_missing_features_are_borne")
def needs_every_feature(base):
    def index(self, adata):
        return adata[:, list(self.vocabulary.names[1:])].copy() if adata.n_vars < 300 else None

    return with_input(base, index)


@caught_by("test_storage_of_values_does_not_matter")
def takes_csc_indices_for_columns(base):
    def confuse(self, adata):
        if getattr(adata.layers["counts"], "format", "") == "csc":
            adata = adata.copy()
            adata.layers["counts"] = sp.csr_matrix(adata.layers["counts"])[::-1]
            return adata
        return None

    return with_input(base, confuse)


@caught_by("test_stored_zeros_do_not_matter")
def makes_tokens_of_stored_zeros(base):
    def lift(self, adata):
        counts = adata.layers["counts"]
        if sp.issparse(counts) and (counts.data == 0).any():
            adata = adata.copy()
            adata.layers["counts"].data += 0.5
            return adata
        return None

    return with_input(base, lift)


@caught_by("test_empty_cell_is_encoded")
def drops_empty_cells(base):
    return with_tokens(base, lambda self, t, _: t.take(np.flatnonzero(t.lengths > 0)))


@caught_by("test_labels_do_not_matter")
def looks_at_cell_types(base):
    def peek(self, tokens, adata):
        bonus = len(str(adata.obs["cell_type"].iloc[0])) if "cell_type" in adata.obs else 0
        return replace(tokens, values=tokens.values + np.float32(bonus))

    return with_tokens(base, peek)


@caught_by("test_sparse_stays_sparse")
def makes_the_matrix_dense(base):
    return with_input(
        base, lambda self, a: a.layers["counts"].astype("f4").toarray() is None or None
    )


@caught_by("test_vocabulary_before_fit_is_refused")
def has_an_empty_vocabulary_before_fit(base):
    class Mutant(base):
        @property
        def vocabulary(self):
            return () if self._vocabulary is None else super().vocabulary

    return Mutant


@caught_by("test_encode_before_fit_is_refused")
def encodes_before_fit(base):
    class Mutant(base):
        def encode(self, adata):
            if self._vocabulary is None:
                return Tokens(
                    offsets=np.zeros(adata.n_obs + 1, dtype=np.int64),
                    ids=np.zeros(0, dtype=np.int32),
                    obs_names=adata.obs_names.to_numpy(dtype=str),
                )
            return super().encode(adata)

    return Mutant


@caught_by("test_refit_forgets_the_first_fit")
def averages_over_fits(base):
    class Mutant(base):
        def fit(self, adata):
            known = self._means
            super().fit(adata)
            if len(known) == len(self._means):
                self._means = (self._means + known) / 2
            return self

    return Mutant


@caught_by("test_fit_returns_self")
def returns_none_from_fit(base):
    class Mutant(base):
        def fit(self, adata):
            super().fit(adata)

    return Mutant


@caught_by("test_negative_or_nan_counts_are_refused")
def takes_nan_for_zero(base):
    def mend(self, adata):
        adata = adata.copy()
        data = adata.layers["counts"].data
        data[~np.isfinite(data)] = 0
        return adata

    return with_input(with_fit(base, mend), mend)


@caught_by("test_state_survives_the_disk")
def leaves_the_means_out_of_the_state(base):
    class Mutant(base):
        @classmethod
        def from_state(cls, state):
            new = super().from_state(state)
            new._means = np.ones_like(new._means)
            return new

    return Mutant


@caught_by("test_state_is_complete_for_new_data")
def remembers_the_tokens_instead_of_the_rule(base):
    class Mutant(base):
        def encode(self, adata):
            tokens = super().encode(adata)
            if getattr(self, "loaded", False) and tuple(adata.obs_names) != self.seen:
                return replace(tokens, values=tokens.values * 0)
            return tokens

        @classmethod
        def from_state(cls, state):
            new = super().from_state(state)
            new.loaded, new.seen = True, None
            return new

    return Mutant


@caught_by("test_state_of_another_component_is_refused")
def takes_any_state(base):
    class Mutant(base):
        @classmethod
        def from_state(cls, state):
            return super().from_state(replace(state, component="reference"))

    return Mutant


@caught_by("test_vocabulary_survives_the_disk")
def forgets_special_roles(base):
    class Mutant(base):
        @classmethod
        def from_state(cls, state):
            new = super().from_state(state)
            new._vocabulary = replace(new._vocabulary, special={})
            return new

    return Mutant


@caught_by("test_constructor_takes_keywords_only")
def takes_positional_arguments(base):
    class Mutant(base):
        def __init__(self, length=256, layer="counts", seed=0):
            super().__init__(length=length, layer=layer, seed=seed)

    return Mutant


@caught_by("test_fitted_tokenizer_pickles")
def holds_a_lambda(base):
    def hold(self, adata):
        self.rule = lambda x: x

    return with_fit(base, hold)


@caught_by("test_tokens_tell_their_provenance")
def records_nothing(base):
    return with_tokens(base, lambda self, t, _: replace(t, provenance=None))


def with_decode(base, change=lambda matrix: matrix):
    class Decoding(base):
        def decode(self, tokens):
            rows = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
            shape = (tokens.n_cells, len(self.vocabulary))
            return change(sp.csr_matrix((tokens.values, (rows, tokens.ids)), shape=shape))

    return Decoding


@caught_by("test_decode_gives_one_row_per_cell", tags=("decode",))
def decodes_to_dense(base):
    return with_decode(base, lambda matrix: matrix.toarray())


@caught_by("test_decoded_rows_belong_to_their_cells", tags=("decode",))
def decodes_to_other_cells(base):
    order = np.random.default_rng(0).permutation(90)
    return with_decode(base, lambda matrix: matrix[order])


def test_good_decoder_passes(reference_component):
    suite = suite_of(with_decode(reference_component("tokenizer")), tags=("decode",))
    checks = [name for name in suite.checks() if "decode" in name]
    assert [r.outcome for r in run_suite(suite, only=checks)] == ["passed"] * 2


def suite_of(component, *, tags=()):
    suite = suite_for(component, "tokenizer", spec=replace(SPEC, tags=frozenset(tags)))
    suite.n_cells = 90
    return suite


def test_reference_passes_every_check(reference_component):
    results = run_suite(suite_of(reference_component("tokenizer")))
    assert [f"{r.name}: {r.message}" for r in results if r.outcome == "failed"] == []
    assert sum(r.outcome == "passed" for r in results) >= 40


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_mutant_is_caught(name, reference_component):
    make, check, tags = MUTANTS[name]
    suite = suite_of(make(reference_component("tokenizer")), tags=tags)
    (result,) = run_suite(suite, only=[check])
    assert result.outcome == "failed"
    assert len(result.message) > 20
