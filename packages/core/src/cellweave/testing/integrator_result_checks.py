"""The checks of what an integrator gives back, and of what it finds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from cellweave.errors import NotFittedError
from cellweave.testing import planted as plant
from cellweave.testing.integrator_checks import (
    IntegratorChecks,
    same_result,
)
from cellweave.testing.suite import refusal, require

__all__ = ["ResultChecks"]


class ResultChecks(IntegratorChecks):
    """Checks of ``result``."""

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
            same_result(again, self.reference.result),
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
        require(
            same_result(back, self.reference.result),
            "The result changes on disk. Use plain arrays.",
        )

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
