"""bindSC: bi-order canonical correlation of cells and of features.

Dou, Liang, Mohanty et al., "Bi-order multimodal integration of single-cell data", Genome Biology
2022; built from its mathematics alone.

max_{Z,U,V,S,R}  λ tr(U'XᵀZ V) + (1 − λ) tr(S'Z YᵀR) − α |Z − Z0|²,  orthonormal U, V, S, R

We depart from it: the SVD of the cells × cells product is taken exactly through two QRs, so memory
is linear in cells; axes are weighted by the root of their singular value; alpha, lambda and the
rank follow from the data by a rule (see ``rules``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.contracts import Estimate
from cellweave.errors import NotFittedError
from cellweave_bindsc.settings import Settings

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import (
        ComponentState,
        FeatureLinks,
        IntegrationResult,
        ProgressCallback,
    )

__all__ = ["BindSC"]


class BindSC:
    """Co-embed the cells, and the features, of two modalities.

    Parameters
    ----------
    alpha
        Pull of the transition matrix to what the links say; ``None``: by rule.
    lam
        Weight of the cell side against the feature side; ``None``: by rule.
    n_components
        Rank of the common space; 0: by rule.
    n_reduced
        Above 100 linked features, they are first reduced to this many.
    max_iterations, tolerance
        The turns end when the transition matrix changes by less than this share.
    use_rep
        ``obsm`` keys: ``"X_scgpt"``, ``"rna=X_scgpt,prot=X_pca"`` or a mapping.
    batch_key
        Column of ``obs``: representation and linked values are centred within each batch.
    seed
        Recorded; nothing is drawn from it.
    """

    def __init__(
        self,
        *,
        alpha: float | None = None,
        lam: float | None = None,
        n_components: int = 0,
        n_reduced: int = 50,
        max_iterations: int = 50,
        tolerance: float = 0.01,
        use_rep: str | Mapping[str, str] | None = None,
        batch_key: str | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = Settings(
            alpha=alpha,
            lam=lam,
            n_components=n_components,
            n_reduced=n_reduced,
            max_iterations=max_iterations,
            tolerance=tolerance,
            use_rep=use_rep,
            batch_key=batch_key,
            seed=seed,
        )
        self._state: ComponentState | None = None
        self._result: IntegrationResult | None = None

    def fit(
        self,
        mdata: MuData,
        links: Sequence[FeatureLinks] = (),
        *,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Fit on prepared data and return ``self``; ``mdata`` is not changed."""
        from cellweave.weaving import (
            InputRules,
            cells_of,
            check_inputs,
            one_per_pair,
            parse_use_rep,
        )
        from cellweave_bindsc.fitting import fit_all
        from cellweave_bindsc.outcome import result_of, state_of

        self._state = self._result = None
        use_rep = parse_use_rep(self.settings.use_rep, mdata)
        rules = InputRules(
            method="bindSC",
            use_rep=use_rep,
            batch_key=self.settings.batch_key,
            max_modalities=2,
        )
        aligned = check_inputs(mdata, links, rules)
        cells = {
            m: cells_of(m, mdata.mod[m], use_rep=use_rep, batch_key=self.settings.batch_key)
            for m in sorted(mdata.mod)
        }
        (link,) = one_per_pair(aligned).values()
        fit = fit_all(mdata, cells, link, self.settings, progress)
        self._result = result_of(fit, self.settings)
        self._state = state_of(fit, self._result, self.settings)
        return self

    def result(self) -> IntegrationResult:
        """Return embeddings of cells and features, cells in input order."""
        if self._result is None:
            msg = "This BindSC has no result yet. Expected a fit before: call fit(mdata, links)."
            raise NotFittedError(msg)
        return self._result

    def estimate(self, mdata: MuData) -> Estimate:
        """Tell beforehand what ``fit`` will need; both are linear in cells."""
        n = sum(a.n_obs for a in mdata.mod.values())
        return Estimate(seconds=0.5 + 5e-4 * n, peak_bytes=int(3e8 + 25_000 * n))

    def impute(
        self, mdata: MuData, *, source: str, target: str, features: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return features of ``target`` in the cells of ``source``, in the units of its ``X``.

        Parameters
        ----------
        mdata
            The data of the fit; not changed.
        source, target
            The modality whose cells are asked for, and the one whose features are.
        features
            Names of features; all when not given.

        Returns
        -------
        ``(n_source_cells, n_features)`` float32, cells in input order.
        """
        from cellweave_bindsc.imputation import impute_features

        return impute_features(mdata, self.state(), source, target, features)

    def state(self) -> ComponentState:
        """Return everything ``result``, ``impute`` and ``transform`` need."""
        if self._state is None:
            msg = "This BindSC has no state yet. Expected a fit before: call fit(mdata, links)."
            raise NotFittedError(msg)
        return self._state

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild the fitted integrator; a state of another component is refused."""
        from cellweave_bindsc.outcome import check_state, result_from

        check_state(state)
        parameters: dict[str, Any] = dict(state.parameters)
        made = cls(**parameters)
        made._state, made._result = state, result_from(state)
        return made

    def transform(self, mdata: MuData) -> Mapping[str, np.ndarray]:
        """Place new cells by the fitted linear maps.

        Of the anchor modality linked features suffice; the other's representation must be in the
        axes of the fitted one.
        """
        from cellweave_bindsc.newcells import place_new

        return place_new(mdata, self.state(), self.settings)
