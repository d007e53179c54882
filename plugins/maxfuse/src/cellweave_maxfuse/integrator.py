"""MaxFuse: cells of two or more modalities matched over few, weakly linked features.

Chen, Zhu, Huang et al., "Integration of spatial and single-cell data across modalities with weakly
linked features", Nature Biotechnology 2023; built from the published method alone.

Round 0:  P₀ = match(S A, S B)               linked features A, B, smoothed over each own graph S
Round t:  max_{u,v} u'X'P Y v, whitened;  P ← match(S X u, S Y v)      all features X, Y
Result:   [ρᵖ-weighted canonical variates | linked coordinates], a score for every match

We depart from it: matches are soft and may leave mass unmatched (unbalanced transport), every round
is anchored in the linked space, the canonical step is a closed form on all cells, assignment comes
once at the end (sparse, proved optimal), and nothing is random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.contracts import Estimate
from cellweave.errors import NotFittedError
from cellweave_maxfuse.settings import Settings

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import (
        ComponentState,
        FeatureLinks,
        IntegrationResult,
        ProgressCallback,
    )

__all__ = ["MaxFuse"]


class MaxFuse:
    """Match cells over weak links.

    Parameters
    ----------
    n_components
        Canonical axes.
    linked_components, linked_weight
        Axes of the linked space, and its length beside the canonical coordinates in the result.
    n_neighbors
        Cells in a neighbourhood, the cell itself included.
    smoothing, smoothing_steps
        Weight of the cell itself (1: no smoothing), and passes over the linked values.
    rounds
        Rounds of matching and canonical correlation.
    anchor
        Share of the linked distance in every round after the first.
    epsilon, rho
        Softness of matches, and how firmly every cell must take part; both in deviations of the
        distances. Lower ``rho`` where a cell type may be missing on one side.
    ridge
        Share of the mean variance added when whitening.
    power
        Power of the canonical correlations that weighs the axes.
    screen
        Share of assigned pairs, the least similar, that are not used as pivots.
    batch_size
        Most cells of a side that are matched at once; bounds memory.
    metacell_size
        Cells averaged before matching; 0: one, or as many as leave 20 000 metacells a side.
    use_rep
        ``obsm`` keys: ``"X_scgpt"``, ``"rna=X_scgpt,prot=X_pca"`` or a mapping.
    batch_key
        Column of ``obs``: representation and linked values are centred within each batch.
    spatial_neighbors, spatial_key
        Where above 0, the cell-type composition of as many surrounding cells joins the features of
        each modality that has ``obsm[spatial_key]``.
    seed
        Recorded; nothing is drawn from it.
    """

    def __init__(
        self,
        *,
        n_components: int = 20,
        linked_components: int = 20,
        linked_weight: float = 0.7,
        n_neighbors: int = 30,
        smoothing: float = 0.3,
        smoothing_steps: int = 1,
        rounds: int = 3,
        anchor: float = 0.5,
        epsilon: float = 0.1,
        rho: float = 1.0,
        ridge: float = 0.1,
        power: float = 0.75,
        screen: float = 0.3,
        batch_size: int = 4096,
        metacell_size: int = 0,
        use_rep: str | Mapping[str, str] | None = None,
        batch_key: str | None = None,
        spatial_neighbors: int = 0,
        spatial_key: str = "spatial",
        seed: int = 0,
    ) -> None:
        self.settings = Settings(
            n_components=n_components,
            linked_components=linked_components,
            linked_weight=linked_weight,
            n_neighbors=n_neighbors,
            smoothing=smoothing,
            smoothing_steps=smoothing_steps,
            rounds=rounds,
            anchor=anchor,
            epsilon=epsilon,
            rho=rho,
            ridge=ridge,
            power=power,
            screen=screen,
            batch_size=batch_size,
            metacell_size=metacell_size,
            use_rep=use_rep,
            batch_key=batch_key,
            spatial_neighbors=spatial_neighbors,
            spatial_key=spatial_key,
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
        from cellweave.weaving import InputRules, cells_of, check_inputs, parse_use_rep
        from cellweave_maxfuse.fitting import fit_all
        from cellweave_maxfuse.outcome import result_of, state_of

        self._state = self._result = None
        use_rep = parse_use_rep(self.settings.use_rep, mdata)
        rules = InputRules(
            method="MaxFuse", use_rep=use_rep, batch_key=self.settings.batch_key, min_cells=10
        )
        aligned = check_inputs(mdata, links, rules)
        cells = {
            m: cells_of(m, mdata.mod[m], use_rep=use_rep, batch_key=self.settings.batch_key)
            for m in sorted(mdata.mod)
        }
        fit = fit_all(mdata, cells, aligned, self.settings, progress)
        self._result = result_of(fit, self.settings)
        self._state = state_of(fit, self._result, self.settings)
        return self

    def result(self) -> IntegrationResult:
        """Return embeddings, matches and quality; cells in input order."""
        if self._result is None:
            msg = "This MaxFuse has no result yet. Expected a fit before: call fit(mdata, links)."
            raise NotFittedError(msg)
        return self._result

    def estimate(self, mdata: MuData) -> Estimate:
        """Tell beforehand what ``fit`` will need."""
        from cellweave_maxfuse.cost import estimate_cost

        return estimate_cost([a.n_obs for a in mdata.mod.values()], self.settings)

    def state(self) -> ComponentState:
        """Return everything ``result`` and ``transform`` need."""
        if self._state is None:
            msg = "This MaxFuse has no state yet. Expected a fit before: call fit(mdata, links)."
            raise NotFittedError(msg)
        return self._state

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild the fitted integrator; a state of another component is refused."""
        from cellweave_maxfuse.outcome import check_state, result_from

        check_state(state)
        parameters: dict[str, Any] = dict(state.parameters)
        made = cls(**parameters)
        made._state, made._result = state, result_from(state)
        return made

    def transform(self, mdata: MuData) -> Mapping[str, np.ndarray]:
        """Place new cells; their representation must be in the axes of the fitted one.

        Canonical coordinates are linear in the representation; linked ones are the average over
        the nearest fitted cells.
        """
        from cellweave_maxfuse.newcells import place_new

        return place_new(mdata, self.state(), self.settings)
