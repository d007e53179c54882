"""The suite of the modality contract."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cellweave.errors import DataError
from cellweave.testing import planted as plant
from cellweave.testing.digests import digest_of
from cellweave.testing.matrices import dense, is_sparse, spoil, stored
from cellweave.testing.observing import (
    observed,
    require_keyword_only,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import Suite, refusal, require

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ModalitySuite"]

_OURS = ("rna", "atac", "prot", "spatial", "metab")


class ModalitySuite(Suite):
    """Check a modality.

    Besides :meth:`create`, the author of a modality that :func:`cellweave.datasets.simulate` does
    not know overrides :meth:`data`.

    Attributes
    ----------
    n_cells
        Cells in the checks.
    settings
        Settings of ``prepare`` that suit small data.
    """

    kind: ClassVar[str] = "modality"
    n_cells: ClassVar[int] = 200
    settings: ClassVar[dict[str, Any]] = {}

    def data(self, *, seed: int = 0) -> AnnData:
        """Return raw cells of three types, with ``obs["cell_type"]``."""
        name = self.create().name
        mdata = plant.planted((name,), n_cells=self.n_cells, prepared=False, seed=seed)
        adata: AnnData = mdata.mod[name]
        return adata

    def prepared(self, adata: AnnData, *, seed: int = 0) -> Any:
        """Return ``prepare`` of ``adata`` by a new modality."""
        return self.create().prepare(adata, settings=dict(self.settings), seed=seed)

    @property
    def reference(self) -> Any:
        """The watched preparation, made once for the class."""
        return self.once("reference", lambda: observed(self.prepared, self.data()))

    @property
    def ready(self) -> AnnData:
        """The data that the reference preparation gave."""
        adata: AnnData = self.reference.value.adata
        return adata

    def kept(self, values: Any) -> np.ndarray:
        """Return ``values`` of the raw cells that preparation kept, in their order."""
        at = self.data().obs_names.get_indexer(self.ready.obs_names)
        return np.asarray(values)[at]

    # -- identity ----------------------------------------------------------------------------

    def test_constructor_takes_keywords_only(self) -> None:
        """Every argument of the constructor is named at the call."""
        require_keyword_only(self.create())

    def test_names_itself(self) -> None:
        """``name``, ``representation`` and ``formats`` are what the contract says."""
        modality = self.create()
        require(modality.name.isidentifier(), f"`name` is {modality.name!r}. Use lower case.")
        right = modality.representation.startswith("X_")
        require(right, f"`representation` is {modality.representation!r}. Start it with 'X_'.")
        plain = isinstance(modality.formats, tuple)
        require(plain, f"`formats` is {modality.formats!r}. Give a tuple of suffixes.")

    def test_guess_knows_its_own_data(self) -> None:
        """``guess`` is between 0 and 1, and sure of data of this modality."""
        sure = self.create().guess(self.data())
        require(
            0.5 < sure <= 1, f"`guess` of its own data is {sure!r}. Expected over 0.5, up to 1."
        )

    def test_guess_is_lower_for_other_data(self) -> None:
        """``guess`` of other modalities' data is lower than of its own."""
        modality = self.create()
        own = modality.guess(self.data())
        others = [
            m for m in _OURS if m != modality.name and {m, modality.name} != {"rna", "spatial"}
        ]
        for name in others:
            adata = plant.planted((name,), n_cells=self.n_cells, prepared=False).mod[name]
            other = modality.guess(adata)
            require(other < own, f"`guess` of {name!r} data is {other}, of its own {own}.")

    def test_guess_leaves_everything_unchanged(self) -> None:
        """``guess`` looks and does not touch."""
        watched = observed(self.create().guess, self.data())
        require_unchanged(watched, "`guess`")
        require_same_state(watched, "`guess`")
        require_quiet(watched, "`guess`")

    # -- preparation -------------------------------------------------------------------------

    def test_prepare_leaves_input_unchanged(self) -> None:
        """``prepare`` returns a new object and leaves the caller's alone."""
        require_unchanged(self.reference, "`prepare`")

    def test_prepare_leaves_global_state_unchanged(self) -> None:
        """``prepare`` leaves global generators and switches as they were."""
        require_same_state(self.reference, "`prepare`")

    def test_prepare_prints_nothing(self) -> None:
        """``prepare`` does not print."""
        require_quiet(self.reference, "`prepare`")

    def test_cells_keep_their_order(self) -> None:
        """Cells stay in input order; those that go are told."""
        at = self.data().obs_names.get_indexer(self.ready.obs_names)
        require((at >= 0).all(), "Cells have names that the input lacks. Keep `obs_names`.")
        require((np.diff(at) > 0).all(), "Cells are not in input order. Undo any sort.")
        if len(at) < self.data().n_obs:
            told = any(step.outcome for step in self.reference.value.preparation.steps)
            require(told, "Cells were dropped, but no step says so in its outcome.")

    def test_counts_are_the_raw_values(self) -> None:
        """``layers["counts"]`` holds the raw values of the cells and features that stay."""
        require("counts" in self.ready.layers, "`layers['counts']` is missing. Copy raw `X` there.")
        raw = self.data()[self.ready.obs_names, self.ready.var_names]
        gap = np.abs(dense(raw.X) - dense(self.ready.layers["counts"])).max()
        require(gap == 0, f"`layers['counts']` differs from the raw values by {gap}.")

    def test_sparse_counts_stay_sparse(self) -> None:
        """Sparse raw values give sparse counts."""
        if is_sparse(self.data().X):
            counts = self.ready.layers["counts"]
            right = is_sparse(counts) and getattr(counts, "format", "") == "csr"
            require(right, f"`layers['counts']` is {type(counts).__name__}. Keep CSR.")

    def test_x_is_float32_and_finite(self) -> None:
        """``X`` is normalised, float32, without NaN."""
        values = stored(self.ready.X)
        require(values.dtype == np.float32, f"`X` is {values.dtype}. Return float32.")
        require(np.isfinite(values).all(), "`X` holds NaN or infinity. Guard empty cells.")

    def test_representation_is_there(self) -> None:
        """``obsm[representation]`` has a row a cell, float32, finite, more than one column."""
        key = self.create().representation
        require(key in self.ready.obsm, f"`obsm[{key!r}]` is missing. Put the coordinates there.")
        values = np.asarray(self.ready.obsm[key])
        right = values.ndim == 2 and values.dtype == np.float32 and values.shape[1] > 1
        require(right, f"`obsm[{key!r}]` is {values.shape} {values.dtype}. Expected float32 2-D.")
        require(np.isfinite(values).all(), f"`obsm[{key!r}]` holds NaN or infinity.")

    def test_features_to_model_are_marked(self) -> None:
        """``var["highly_variable"]`` is boolean and marks at least one feature."""
        marked = self.ready.var.get("highly_variable")
        require(marked is not None, "`var['highly_variable']` is missing. Mark all when unsure.")
        require(marked.dtype == bool and marked.any(), f"`highly_variable` is {marked.dtype}.")

    def test_preparation_is_recorded(self) -> None:
        """``uns["preparation"]`` is the JSON of the record."""
        from cellweave.records import Preparation

        text = self.ready.uns.get("preparation")
        require(isinstance(text, str), "`uns['preparation']` is missing. Store `to_json()` there.")
        record = Preparation.from_json(str(text))
        require(record.modality == self.create().name, f"The record is of {record.modality!r}.")
        require(record.steps, "The record names no step. Add a PreparationStep for each.")

    def test_same_seed_same_bytes(self) -> None:
        """Two preparations with one seed give the same bytes."""
        again = self.prepared(self.data()).adata
        key = self.create().representation
        same = digest_of(again.obsm[key]) == digest_of(self.ready.obsm[key])
        same &= digest_of(again.X) == digest_of(self.ready.X)
        require(same, "Two preparations with the same seed differ. Pass `seed` on to every step.")

    def test_labels_do_not_matter(self) -> None:
        """Cell types in ``obs`` are not looked at."""
        adata = self.data()
        adata.obs["cell_type"] = [f"not {t}" for t in adata.obs["cell_type"].to_numpy()[::-1]]
        key = self.create().representation
        again = self.prepared(adata).adata
        same = digest_of(again.obsm[key]) == digest_of(self.ready.obsm[key])
        require(same, "The representation changes with `obs['cell_type']`. Do not look at labels.")

    def test_finds_planted_types(self) -> None:
        """Neighbours in the representation are of one planted type, above chance."""
        labels = self.kept(self.data().obs["cell_type"].to_numpy(dtype=str))
        values = self.ready.obsm[self.create().representation]
        vote = plant.neighbour_vote(values, values, labels, labels, skip_self=True)
        chance = plant.majority_share(labels)
        require(
            vote > chance + 0.1,
            f"Neighbours share a type in {vote:.2f} of cases; chance is {chance:.2f}. Are rows in "
            "input order?",
        )

    def test_prepared_data_are_refused(self) -> None:
        """Preparing twice is refused, or gives the same: normalised values are not raw."""
        try:
            again = self.prepared(self.ready).adata
        except DataError:
            return
        alike = again.shape == self.ready.shape
        gap = np.abs(dense(again.X) - dense(self.ready.X)).max() if alike else 1.0
        require(
            gap < 1e-4,
            "Prepared data were taken for raw ones. Refuse values that are not raw, or start "
            "from `layers['counts']`.",
        )

    # -- refusals and the rest ---------------------------------------------------------------

    def test_unknown_settings_are_refused(self) -> None:
        """A setting that does not exist is refused by name."""
        with refusal("The setting 'no_such_setting'") as text:
            self.create().prepare(self.data(), settings={"no_such_setting": 1})
        require("no_such_setting" in text[0], "The error does not name the unknown setting.")

    def test_nan_values_are_refused(self) -> None:
        """NaN among the raw values is refused."""
        adata = self.data()
        spoil(adata.X)
        with refusal("NaN among the values"):
            self.prepared(adata)

    def test_quality_has_one_row_per_cell(self) -> None:
        """``quality`` gives numbers, one row a cell in input order, and changes nothing."""
        watched = observed(self.create().quality, self.data())
        require_unchanged(watched, "`quality`")
        table = watched.value
        same = list(table.index) == list(self.data().obs_names)
        require(same, "`quality` is not indexed by `obs_names` in input order.")
        require(table.shape[1] > 0, "`quality` has no column. Give at least the total of a cell.")

    def test_read_refuses_what_it_does_not_know(self) -> None:
        """``read`` of something else raises ``DataError``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "letters.doc"
            path.write_text("not data")
            with refusal("`read` of a text file", DataError):
                self.create().read(path)

    def test_memory_stays_bounded(self) -> None:
        """Preparing takes less than a dozen dense copies of the data."""
        adata = self.data()
        tracemalloc.start()
        try:
            self.prepared(adata)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        dense = adata.n_obs * adata.n_vars * 8
        limit = 12 * dense + 50_000_000
        require(peak < limit, f"`prepare` took {peak:,} bytes for {dense:,} bytes of data.")
