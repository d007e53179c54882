"""The checks of what an integrator's result may depend on, and what not."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from cellweave.testing import planted as plant
from cellweave.testing.integrator_checks import (
    IntegratorChecks,
    mislabelled,
    rejoined,
    same_result,
)
from cellweave.testing.matrices import is_sparse
from cellweave.testing.suite import needs_tag, require, unless_tag

__all__ = ["IndependenceChecks"]


class IndependenceChecks(IntegratorChecks):
    """Checks of seeds, orders, labels, names and storage."""

    def test_same_seed_same_bytes(self) -> None:
        """Two runs with one seed give the same bytes."""
        require(
            same_result(self.woven(self.data()), self.reference.result),
            "Two runs with the same seed differ. Draw everything from a generator made of `seed` "
            "in `fit`.",
        )

    @unless_tag("deterministic")
    def test_other_seed_other_result(self) -> None:
        """The seed is used."""
        other = self.woven(self.data(), seed=123)
        require(
            not same_result(other, self.reference.result),
            "Another seed gives the same bytes: `seed` is ignored. Use it, or add the tag "
            "'deterministic' when nothing is random.",
        )

    @needs_tag("deterministic")
    def test_seed_changes_nothing(self) -> None:
        """A component tagged ``deterministic`` gives one result for all seeds."""
        other = self.woven(self.data(), seed=123)
        require(
            same_result(other, self.reference.result),
            "Tagged 'deterministic', but the seed changes the result. Take the tag away.",
        )

    def test_order_of_modalities_does_not_matter(self) -> None:
        """Modalities in another order give an embedding as good."""
        mdata = self.data()
        turned = rejoined(dict(reversed(list(mdata.mod.items()))), mdata)
        fit = self.create().fit(plant.without_truth(turned), self.links(mdata))
        self.require_as_good(fit.result(), mdata, "modalities in another order")

    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order give the same embedding in that order, or one as good."""
        mdata = self.data()
        rng = np.random.default_rng(7)
        orders = {m: rng.permutation(a.n_obs) for m, a in mdata.mod.items()}
        if "paired" in self.tags:
            orders = dict.fromkeys(orders, next(iter(orders.values())))
        shuffled = rejoined({m: a[orders[m]].copy() for m, a in mdata.mod.items()}, mdata)
        result = self.woven(shuffled)
        if "deterministic" in self.tags:
            self.require_same_geometry(result, orders)
        self.require_as_good(result, shuffled, "cells in another order")

    def test_labels_do_not_matter(self) -> None:
        """Cell types, pairing and other truth in the data are not looked at."""
        mdata = self.data()
        result = self.create().fit(mislabelled(mdata), self.links(mdata)).result()
        require(
            same_result(result, self.reference.result),
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
        bare = rejoined(dict(bare.mod), bare)
        result = self.create().fit(bare, self.links(mdata)).result()
        # Row i of one modality and row i of the other are no pair: sharing a name, they must not
        # come closer than they were.
        before, after = (
            plant.foscttm(*(r.embeddings[m] for m in bare.mod))
            for r in (self.reference.result, result)
        )
        require(
            after > before - 0.05,
            f"Cells of equal name came closer (FOSCTTM {before:.2f} to {after:.2f}): names are "
            "used as pairs. Do that only when an argument asks for it, and add the tag 'paired'.",
        )

    def test_storage_of_sparse_values_does_not_matter(self) -> None:
        """CSC values give what CSR values give."""
        mdata = self.data()
        bare = plant.without_truth(mdata)
        for adata in bare.mod.values():
            adata.layers["counts"] = sp.csc_matrix(adata.layers["counts"])
            adata.X = sp.csc_matrix(adata.X) if is_sparse(adata.X) else adata.X
        result = self.create().fit(bare, self.links(mdata)).result()
        self.require_as_good(result, mdata, "CSC instead of CSR")
