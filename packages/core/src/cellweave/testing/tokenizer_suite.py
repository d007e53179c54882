"""The suite of the tokenizer contract."""

from __future__ import annotations

import pickle
import tempfile
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import scipy.sparse as sp

from cellweave.errors import NotFittedError
from cellweave.testing import planted as plant
from cellweave.testing.altered_data import (
    converted,
    widened,
    with_empty_row,
    with_nan,
    with_stored_zeros,
    with_strange_features,
)
from cellweave.testing.digests import digest_of
from cellweave.testing.matrices import dense
from cellweave.testing.observing import (
    Observation,
    observed,
    require_keyword_only,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import Suite, needs_tag, refusal, require, unless_tag

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens

__all__ = ["TokenizerSuite"]

_ARRAYS = ("offsets", "ids", "values", "modality", "positions")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    tokenizer: Any
    tokens: Any
    fitting: Observation
    encoding: Observation
    returned_self: bool


class TokenizerSuite(Suite):
    """Check a tokenizer.

    Besides :meth:`create`, an author may override :meth:`data`, and set:

    Attributes
    ----------
    n_cells
        Cells in the checks.
    tags
        ``stochastic`` (the seed changes tokens), ``pretrained`` (has a vocabulary without
        ``fit``), ``decode`` (``decode(tokens)`` gives the values back as CSR), ``multicell`` (a
        token looks at other cells too, e.g. at neighbours in space), ``context_only`` (tokens do
        not tell types apart).
    """

    kind: ClassVar[str] = "tokenizer"
    n_cells: ClassVar[int] = 150

    # -- what the checks work with ---------------------------------------------------------

    def data(self, *, seed: int = 0) -> AnnData:
        """Return prepared cells of three types, of the tokenizer's modality."""
        modality = self.create().modality
        modality = "rna" if modality == "*" else modality
        adata: AnnData = plant.planted((modality,), n_cells=self.n_cells, seed=seed).mod[modality]
        return adata

    @property
    def reference(self) -> Any:
        """The watched fit and encoding, made once for the class."""
        return self.once("reference", self._make_reference)

    def _make_reference(self) -> _Reference:
        kept: dict[str, Any] = {}

        def fit(adata: Any) -> None:
            kept["tokenizer"] = self.create()
            kept["returned"] = kept["tokenizer"].fit(adata)

        fitting = observed(fit, _bare(self.data()))
        encoding = observed(kept["tokenizer"].encode, _bare(self.data()))
        return _Reference(
            tokenizer=kept["tokenizer"],
            tokens=encoding.value,
            fitting=fitting,
            encoding=encoding,
            returned_self=kept["returned"] is kept["tokenizer"],
        )

    def encoded(self, adata: AnnData) -> Tokens:
        """Return what the reference tokenizer makes of ``adata``."""
        tokens: Tokens = self.reference.tokenizer.encode(adata)
        return tokens

    # -- construction and fit ----------------------------------------------------------------

    def test_constructor_takes_keywords_only(self) -> None:
        """Every argument of the constructor is named at the call."""
        require_keyword_only(self.create())

    def test_names_its_modality(self) -> None:
        """``modality`` is a name, or ``"*"``."""
        modality = self.create().modality
        require(isinstance(modality, str) and modality, f"`modality` is {modality!r}. Name one.")

    def test_fit_returns_self(self) -> None:
        """``fit`` returns the tokenizer."""
        require(self.reference.returned_self, "`fit` does not return `self`. End it so.")

    def test_fit_leaves_input_unchanged(self) -> None:
        """``fit`` does not change the caller's data."""
        require_unchanged(self.reference.fitting, "`fit`")

    def test_fit_leaves_global_state_unchanged(self) -> None:
        """``fit`` leaves global generators and switches as they were."""
        require_same_state(self.reference.fitting, "`fit`")

    def test_fit_prints_nothing(self) -> None:
        """``fit`` does not print."""
        require_quiet(self.reference.fitting, "`fit`")

    def test_refit_forgets_the_first_fit(self) -> None:
        """Fitting again on other data gives what a new tokenizer gives."""
        other = _bare(self.data(seed=1))
        again = self.create().fit(_bare(self.data())).fit(other)
        require(
            _same(again.encode(other), self.create().fit(other).encode(other)),
            "A second `fit` is coloured by the first. Start `fit` from the arguments alone.",
        )

    @unless_tag("pretrained")
    def test_vocabulary_before_fit_is_refused(self) -> None:
        """``vocabulary`` of an unfitted tokenizer raises ``NotFittedError``."""
        with refusal("`vocabulary` before `fit`", NotFittedError):
            _ = self.create().vocabulary

    @unless_tag("pretrained")
    def test_encode_before_fit_is_refused(self) -> None:
        """``encode`` of an unfitted tokenizer raises ``NotFittedError``."""
        with refusal("`encode` before `fit`", NotFittedError):
            self.create().encode(_bare(self.data()))

    @unless_tag("pretrained")
    def test_state_before_fit_is_refused(self) -> None:
        """``state`` of an unfitted tokenizer raises ``NotFittedError``."""
        with refusal("`state` before `fit`", NotFittedError):
            self.create().state()

    # -- tokens ------------------------------------------------------------------------------

    def test_encode_leaves_input_unchanged(self) -> None:
        """``encode`` does not change the caller's data."""
        require_unchanged(self.reference.encoding, "`encode`")

    def test_encode_leaves_global_state_unchanged(self) -> None:
        """``encode`` leaves global generators and switches as they were."""
        require_same_state(self.reference.encoding, "`encode`")

    def test_encode_prints_nothing(self) -> None:
        """``encode`` does not print."""
        require_quiet(self.reference.encoding, "`encode`")

    def test_tokens_cover_every_cell(self) -> None:
        """There is one stretch of tokens for each cell, empty or not."""
        n, expected = self.reference.tokens.n_cells, self.data().n_obs
        require(n == expected, f"Tokens of {n} cells for {expected}. Keep every cell, in order.")

    def test_tokens_name_cells_in_input_order(self) -> None:
        """``obs_names`` are those of the input, in its order."""
        names = np.asarray(self.reference.tokens.obs_names, dtype=str)
        expected = self.data().obs_names.to_numpy(dtype=str)
        require(np.array_equal(names, expected), "`obs_names` differ from the input. Undo sorts.")

    def test_tokens_have_the_stated_dtypes(self) -> None:
        """Offsets are int64, ids and positions int32, values float32, modality uint8."""
        expected = dict(zip(_ARRAYS, ("int64", "int32", "float32", "uint8", "int32"), strict=True))
        for name, dtype in expected.items():
            array = getattr(self.reference.tokens, name)
            require(
                array is None or str(array.dtype) == dtype,
                f"`{name}` is {getattr(array, 'dtype', None)}. Return `.astype({dtype!r})`.",
            )

    def test_ids_lie_in_the_vocabulary(self) -> None:
        """Every id has a name."""
        ids, size = self.reference.tokens.ids, len(self.reference.tokenizer.vocabulary)
        require(len(ids) > 0, "No cell has any token. Check which features are known.")
        require(
            ids.min() >= 0 and ids.max() < size,
            f"Ids reach from {ids.min()} to {ids.max()} in a vocabulary of {size}.",
        )

    def test_values_are_finite(self) -> None:
        """There is no NaN or infinity among the values."""
        values = self.reference.tokens.values
        require(values is None or np.isfinite(values).all(), "`values` hold NaN or infinity.")

    def test_tokens_survive_the_disk(self) -> None:
        """Saved tokens are read back the same."""
        from cellweave.records import Tokens

        with tempfile.TemporaryDirectory() as folder:
            self.reference.tokens.save(Path(folder) / "tokens.npz")
            back = Tokens.load(Path(folder) / "tokens.npz")
        require(_same(back, self.reference.tokens), "Tokens change on disk. Use plain arrays.")

    def test_tokens_tell_their_provenance(self) -> None:
        """Provenance names the component."""
        provenance = self.reference.tokens.provenance
        require(provenance and provenance.component, "Tokens have no provenance. Set it.")

    def test_context_has_one_row_per_cell(self) -> None:
        """Per-cell context is numeric, finite, and long as the data."""
        for name, array in self.reference.tokens.context.items():
            right = len(array) == self.data().n_obs and array.dtype.kind in "biufU"
            require(right, f"Context {name!r} is {array.shape} {array.dtype}. One row a cell.")

    # -- reproducibility and independence ----------------------------------------------------

    def test_same_seed_same_bytes(self) -> None:
        """A new tokenizer with the same arguments gives the same bytes."""
        adata = _bare(self.data())
        require(
            _same(self.create().fit(adata).encode(adata), self.reference.tokens),
            "Two runs with the same seed differ. Draw from (seed, cell name, purpose).",
        )

    def test_encoding_twice_gives_the_same(self) -> None:
        """``encode`` does not use anything up."""
        require(
            _same(self.encoded(_bare(self.data())), self.reference.tokens),
            "A second `encode` differs. Keep no generator between calls.",
        )

    @needs_tag("stochastic")
    def test_other_seed_other_tokens(self) -> None:
        """The seed of a component tagged ``stochastic`` is used."""
        adata = _bare(self.data())
        other = self.create(seed=123).fit(adata).encode(adata)
        require(not _same(other, self.reference.tokens), "Another seed gives the same tokens.")

    @unless_tag("multicell")
    def test_tokens_of_a_cell_do_not_depend_on_others(self) -> None:
        """Cells encoded alone have the tokens that they have among others."""
        rows = np.array([0, 3, 17, 4])
        few = self.encoded(_bare(self.data())[rows].copy())
        require(
            _same(few, self.reference.tokens.take(rows)),
            "Tokens of a cell change with the cells around it. Learn what is shared in `fit`; "
            "draw randomness per cell from (seed, cell name, purpose).",
        )

    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order have the same tokens, in that order."""
        order = np.random.default_rng(3).permutation(self.data().n_obs)
        turned = self.encoded(_bare(self.data())[order].copy())
        require(
            _same(turned, self.reference.tokens.take(order)),
            "Tokens change with the order of cells. Draw per cell, and keep rows in input order.",
        )

    @unless_tag("multicell")
    def test_blocks_of_cells_give_the_same(self) -> None:
        """Encoding in blocks gives what encoding at once gives."""
        adata = _bare(self.data())
        half = adata.n_obs // 2
        first, second = self.encoded(adata[:half].copy()), self.encoded(adata[half:].copy())
        known = self.reference.tokens
        same = _same(first, known.take(np.arange(half)))
        same &= _same(second, known.take(np.arange(half, adata.n_obs)))
        require(same, "Tokens change with the block a cell comes in. Use nothing of the block.")

    def test_order_of_cells_in_fit_does_not_matter(self) -> None:
        """Fitting on cells in another order gives the same vocabulary."""
        order = np.random.default_rng(5).permutation(self.data().n_obs)
        fitted = self.create().fit(_bare(self.data())[order].copy())
        require(
            fitted.vocabulary.names == self.reference.tokenizer.vocabulary.names,
            "The vocabulary changes with the order of cells in `fit`. Sort by something stable.",
        )

    def test_order_of_features_does_not_matter(self) -> None:
        """Features in another order give the same tokens, by name, for each cell."""
        adata = _bare(self.data())
        order = np.random.default_rng(4).permutation(adata.n_vars)
        turned = self.encoded(adata[:, order].copy())
        require(
            _bags(turned) == _bags(self.reference.tokens),
            "Tokens change with the order of features. Look features up by name.",
        )

    def test_unknown_features_are_left_out(self) -> None:
        """Features that were not there in ``fit`` change nothing but their own absence."""
        adata = _bare(self.data())
        more = with_strange_features(adata)
        tokens = self.encoded(more)
        size = len(self.reference.tokenizer.vocabulary)
        require(tokens.ids.max(initial=0) < size, "Unknown features got ids beyond the vocabulary.")
        require(tokens.n_cells == adata.n_obs, "Unknown features changed the number of cells.")

    def test_missing_features_are_borne(self) -> None:
        """Data that lack some features are encoded with the others."""
        adata = _bare(self.data())
        fewer = adata[:, : adata.n_vars * 3 // 4].copy()
        tokens = self.encoded(fewer)
        require(tokens.n_cells == adata.n_obs, "Missing features changed the number of cells.")

    def test_storage_of_values_does_not_matter(self) -> None:
        """CSR, CSC and dense values give the same tokens."""
        for name, convert in (("CSC", sp.csc_matrix), ("dense", dense)):
            tokens = self.encoded(converted(_bare(self.data()), convert))
            require(
                _same(tokens, self.reference.tokens),
                f"{name} values give other tokens than CSR. Convert with `scipy.sparse.csr_matrix`"
                " and sort indices.",
            )

    def test_stored_zeros_do_not_matter(self) -> None:
        """Zeros that are stored in sparse values make no token."""
        tokens = self.encoded(converted(_bare(self.data()), with_stored_zeros))
        require(
            _same(tokens, self.reference.tokens),
            "Stored zeros change the tokens. Call `eliminate_zeros` on a copy.",
        )

    def test_empty_cell_is_encoded(self) -> None:
        """A cell without any count keeps its place."""
        tokens = self.encoded(converted(_bare(self.data()), with_empty_row))
        require(tokens.n_cells == self.n_cells_of_data, "A cell without counts was dropped.")
        fine = tokens.values is None or np.isfinite(tokens.values).all()
        require(fine, "A cell without counts gives NaN values. Guard the division by its total.")

    @property
    def n_cells_of_data(self) -> int:
        """Cells of :meth:`data`."""
        return int(self.data().n_obs)

    def test_labels_do_not_matter(self) -> None:
        """Cell types and other truth in the data are not looked at."""
        adata = self.data()
        adata.obs["cell_type"] = [f"not {t}" for t in adata.obs["cell_type"].to_numpy()[::-1]]
        require(
            _same(self.create().fit(adata).encode(adata), self.reference.tokens),
            "Tokens change with `obs['cell_type']`. Use only what the arguments name.",
        )

    def test_sparse_stays_sparse(self) -> None:
        """Encoding needs far less memory than the dense matrix."""
        wide = widened(_bare(self.data()))
        tracemalloc.start()
        try:
            self.encoded(wide)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        dense = wide.n_obs * wide.n_vars * 4
        require(
            peak < dense / 2,
            f"`encode` took {peak:,} bytes for values that are {dense:,} bytes when dense. "
            "Work on `data`, `indices` and `indptr`; never call `toarray` on all cells.",
        )

    # -- content -----------------------------------------------------------------------------

    @unless_tag("context_only")
    def test_tokens_belong_to_their_cells(self) -> None:
        """Cells of one planted type have more alike tokens than cells of two."""
        labels = self.data().obs["cell_type"].to_numpy(dtype=str)
        bags = _profiles(self.reference.tokens, len(self.reference.tokenizer.vocabulary))
        vote = plant.neighbour_vote(bags, bags, labels, labels, skip_self=True)
        chance = plant.majority_share(labels)
        require(
            vote > chance + 0.1,
            f"Cells with like tokens share a type in {vote:.2f} of cases; chance is "
            f"{chance:.2f}. Are the tokens in input order and do they carry the signal?",
        )

    def test_vocabulary_names_are_unique(self) -> None:
        """Every name occurs once, and special ids lie in the table."""
        vocabulary = self.reference.tokenizer.vocabulary
        require(len(set(vocabulary.names)) == len(vocabulary), "The vocabulary repeats a name.")

    @needs_tag("decode")
    def test_decode_gives_one_row_per_cell(self) -> None:
        """``decode`` gives a finite CSR matrix, one row a cell."""
        matrix = self.reference.tokenizer.decode(self.reference.tokens)
        right = getattr(matrix, "format", "") == "csr" and matrix.shape[0] == self.n_cells_of_data
        require(right, f"`decode` gives {type(matrix).__name__}. Give CSR, one row a cell.")
        require(np.isfinite(matrix.data).all(), "`decode` gives NaN or infinity.")

    @needs_tag("decode")
    def test_decoded_rows_belong_to_their_cells(self) -> None:
        """Decoded cells of one planted type are more alike than cells of two."""
        labels = self.data().obs["cell_type"].to_numpy(dtype=str)
        rows = np.log1p(dense(self.reference.tokenizer.decode(self.reference.tokens)).clip(0))
        rows -= rows.mean(axis=0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        vote = plant.neighbour_vote(rows, rows, labels, labels, skip_self=True)
        chance = plant.majority_share(labels)
        require(
            vote > chance + 0.1,
            f"Decoded cells that are alike share a type in {vote:.2f} of cases; chance is "
            f"{chance:.2f}. Put each value back at its own cell and feature.",
        )

    # -- refusals ----------------------------------------------------------------------------

    def test_negative_or_nan_counts_are_refused(self) -> None:
        """NaN among the values is refused by ``fit`` or ``encode``."""
        broken = converted(_bare(self.data()), with_nan)
        with refusal("NaN among the values"):
            self.create().fit(broken).encode(broken)

    # -- state -------------------------------------------------------------------------------

    def test_state_survives_the_disk(self) -> None:
        """A tokenizer rebuilt from its saved state gives the same tokens."""
        require(
            _same(self._reloaded().encode(_bare(self.data())), self.reference.tokens),
            "Tokens differ after saving and loading. Put everything `encode` needs into `state`.",
        )

    def test_state_is_complete_for_new_data(self) -> None:
        """The rebuilt tokenizer gives the same tokens on data it never saw."""
        other = _bare(self.data(seed=2))
        require(
            _same(self._reloaded().encode(other), self.encoded(other)),
            "On new data, tokens differ after saving and loading. Store what `fit` learned.",
        )

    def test_state_of_another_component_is_refused(self) -> None:
        """A state that names another component is refused."""
        tokenizer = self.reference.tokenizer
        strange = replace(tokenizer.state(), component="another.component")
        with refusal("The state of 'another.component'"):
            type(tokenizer).from_state(strange)

    def test_vocabulary_survives_the_disk(self) -> None:
        """Names and special roles come back."""
        before, after = self.reference.tokenizer.vocabulary, self._reloaded().vocabulary
        same = before.names == after.names and dict(before.special) == dict(after.special)
        require(same, "The vocabulary differs after saving and loading. Store names and roles.")

    def test_fitted_tokenizer_pickles(self) -> None:
        """A fitted tokenizer survives a pickle, as data loaders need."""
        back = pickle.loads(pickle.dumps(self.reference.tokenizer))
        same = _same(back.encode(_bare(self.data())), self.reference.tokens)
        require(same, "A pickled copy gives other tokens.")

    def _reloaded(self) -> Any:
        from cellweave.records import ComponentState

        tokenizer = self.reference.tokenizer
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.state().save(Path(folder) / "state")
            state = ComponentState.load(Path(folder) / "state")
        return type(tokenizer).from_state(state)


def _same(left: Any, right: Any) -> bool:
    return all(digest_of(getattr(left, n)) == digest_of(getattr(right, n)) for n in _ARRAYS) and (
        np.array_equal(np.asarray(left.obs_names, str), np.asarray(right.obs_names, str))
    )


def _bare(adata: AnnData) -> AnnData:
    bare = adata.copy()
    bare.obs = bare.obs.drop(columns=["cell_type", "pairing", "niche"], errors="ignore")
    bare.obsm.pop("true_state", None)
    return bare


def _bags(tokens: Any) -> list[list[int]]:
    """Return the sorted ids of each cell."""
    pairs = zip(tokens.offsets[:-1], tokens.offsets[1:])
    return [sorted(tokens.ids[a:b].tolist()) for a, b in pairs]


def _profiles(tokens: Any, size: int) -> np.ndarray:
    """Return one row a cell: how early, and with which values, each token of the vocabulary is."""
    rows = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    place = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], tokens.lengths)
    early = 1.0 / np.log2(2.0 + place)
    columns = [early]
    if tokens.values is not None:
        values = tokens.values.reshape(len(tokens.ids), -1).astype(float)
        columns = [early + np.log1p(np.abs(column)) for column in values.T]
    shape = (tokens.n_cells, size)
    tables = [sp.csr_matrix((column, (rows, tokens.ids)), shape=shape) for column in columns]
    table = sp.csr_matrix(sp.hstack(tables))
    used = np.flatnonzero(table.getnnz(axis=0))
    profile = table[:, used].toarray()
    profile -= profile.mean(axis=0)
    return profile / np.maximum(np.linalg.norm(profile, axis=1, keepdims=True), 1e-12)
