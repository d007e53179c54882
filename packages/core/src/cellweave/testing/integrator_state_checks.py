"""The checks of integrators tagged ``save`` or ``transform``."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellweave.errors import NotFittedError
from cellweave.testing import planted as plant
from cellweave.testing.integrator_checks import IntegratorChecks
from cellweave.testing.observing import (
    observed,
    require_quiet,
    require_same_state,
    require_unchanged,
)
from cellweave.testing.suite import needs_tag, refusal, require

__all__ = ["StateChecks", "TransformChecks"]


class _FittedChecks(IntegratorChecks):
    """What both groups need besides."""

    def _new_cells(self) -> Any:
        """Return half of the cells as if they were new, with their truth."""
        from cellweave.datasets.joining import joined

        mdata = self.data()
        return joined({m: a[::2].copy() for m, a in mdata.mod.items()}, dict(mdata.uns))

    def _reloaded(self) -> Any:
        """Return the fitted integrator after a way through the disk."""
        from cellweave.records import ComponentState

        fitted = self.reference.integrator
        with tempfile.TemporaryDirectory() as folder:
            fitted.state().save(Path(folder) / "state")
            state = ComponentState.load(Path(folder) / "state")
        return type(fitted).from_state(state)


class StateChecks(_FittedChecks):
    """Checks of ``state`` and ``from_state``."""

    @needs_tag("save")
    def test_state_survives_the_disk(self) -> None:
        """The state read back gives the same result, byte for byte."""
        back = self._reloaded().result().embeddings
        known = self.reference.result.embeddings
        require(
            all(back[m].tobytes() == known[m].tobytes() for m in known),
            "The result differs after saving and loading. Put everything it needs into `state`.",
        )

    @needs_tag("save")
    def test_state_before_fit_is_refused(self) -> None:
        """``state`` of an unfitted integrator raises ``NotFittedError``."""
        with refusal("`state` before `fit`", NotFittedError):
            self.create().state()

    @needs_tag("save")
    def test_state_of_another_component_is_refused(self) -> None:
        """A state that names another component is refused."""
        fitted = self.reference.integrator
        strange = replace(fitted.state(), component="another.component")
        with refusal("The state of 'another.component'"):
            type(fitted).from_state(strange)

    @needs_tag("save")
    def test_state_without_an_array_is_refused(self) -> None:
        """A state that lacks an array is refused, not filled with something."""
        fitted = self.reference.integrator
        state = fitted.state()
        require(state.arrays, "The state of a fitted integrator has no arrays.")
        fewer = dict(state.arrays)
        name = sorted(fewer)[0]
        del fewer[name]
        with refusal(f"A state without the array {name!r}"):
            type(fitted).from_state(replace(state, arrays=fewer)).result()

    @needs_tag("save")
    def test_state_keeps_the_parameters(self) -> None:
        """The constructor's arguments come back."""
        fitted = self.reference.integrator
        back = type(fitted).from_state(fitted.state()).state().parameters
        require(
            dict(back) == dict(fitted.state().parameters),
            "Parameters differ after `from_state`. Rebuild with `cls(**state.parameters)`.",
        )


class TransformChecks(_FittedChecks):
    """Checks of ``transform``."""

    @needs_tag("transform")
    def test_transform_before_fit_is_refused(self) -> None:
        """``transform`` of an unfitted integrator raises ``NotFittedError``."""
        with refusal("`transform` before `fit`", NotFittedError):
            self.create().transform(plant.without_truth(self._new_cells()))

    @needs_tag("transform")
    def test_transform_leaves_everything_unchanged(self) -> None:
        """``transform`` changes neither its input, nor global state, nor the fit."""
        fitted = self.reference.integrator
        watched = observed(fitted.transform, plant.without_truth(self._new_cells()))
        require_unchanged(watched, "`transform`")
        require_same_state(watched, "`transform`")
        require_quiet(watched, "`transform`")
        known = self.reference.result.embeddings
        after = fitted.result().embeddings
        require(
            all(after[m].tobytes() == known[m].tobytes() for m in known),
            "`transform` changed the fitted result. It must not refit.",
        )

    @needs_tag("transform")
    def test_transform_gives_one_finite_row_per_cell(self) -> None:
        """Rows, width and dtype are those of the fit."""
        new = self._new_cells()
        width = next(iter(self.reference.result.embeddings.values())).shape[1]
        out = self.reference.integrator.transform(plant.without_truth(new))
        for modality, adata in new.mod.items():
            values = out[modality]
            require(
                values.shape == (adata.n_obs, width) and values.dtype == np.float32,
                f"`transform` gives {values.shape} {values.dtype} for {adata.n_obs} cells of "
                f"{modality!r}. Give ({adata.n_obs}, {width}) float32.",
            )
            require(np.isfinite(values).all(), f"`transform` of {modality!r} holds NaN.")

    @needs_tag("transform")
    def test_transform_puts_cells_among_their_type(self) -> None:
        """New cells land among fitted cells of their own type."""
        new = self._new_cells()
        out = self.reference.integrator.transform(plant.without_truth(new))
        for modality in new.mod:
            known = self.reference.result.embeddings[modality]
            vote = plant.neighbour_vote(
                out[modality], known, self.labels(modality, new), self.labels(modality)
            )
            chance = plant.majority_share(self.labels(modality))
            require(
                vote > chance + 0.1,
                f"New cells of {modality!r} land among their type in {vote:.2f} of cases, "
                f"chance {chance:.2f}. Apply the fitted scaling, and keep the rows in order.",
            )

    @needs_tag("transform")
    def test_transform_of_one_modality(self) -> None:
        """New cells of one modality alone join."""
        from cellweave.datasets.joining import joined

        new = plant.without_truth(self._new_cells())
        name = next(iter(new.mod))
        out = self.reference.integrator.transform(joined({name: new.mod[name]}, {}))
        require(set(out) == {name}, f"`transform` of {name!r} alone gave {set(out)}.")
