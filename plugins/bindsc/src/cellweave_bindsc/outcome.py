"""What a fit becomes: the result record, and the state that survives the process."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import numpy as np

from cellweave.records import ComponentState, IntegrationResult, Provenance
from cellweave.weaving import advice_on_links, histories_of, json_settings, require_state
from cellweave_bindsc.fitting import coordinates

if TYPE_CHECKING:
    from cellweave_bindsc.fitting import Fit
    from cellweave_bindsc.settings import Settings

__all__ = ["check_state", "result_from", "result_of", "state_of"]

_COMPONENT = "bindsc"


def result_of(fit: Fit, settings: Settings) -> IntegrationResult:
    """Return the public result, cells in the order of the input."""
    return IntegrationResult(
        embeddings={
            m: p.cells.in_input_order(coordinates(p.scores, fit.weights))
            for m, p in fit.places.items()
        },
        obs_names={m: p.cells.obs_names for m, p in fit.places.items()},
        provenance=_provenance(settings),
        feature_embeddings={m: p.features for m, p in fit.places.items()},
        feature_names={m: p.feature_names for m, p in fit.places.items()},
        history=fit.history,
        quality=fit.quality,
        advice=tuple(_advice(fit, settings)),
    )


def _provenance(settings: Settings) -> Provenance:
    return Provenance(
        component=_COMPONENT,
        version=importlib.metadata.version("cellweave-bindsc"),
        parameters=json_settings(settings),
        seed=settings.seed,
        versions={n: importlib.metadata.version(n) for n in ("numpy", "scipy")},
    )


def _advice(fit: Fit, settings: Settings) -> list[str]:
    found = advice_on_links(
        fit.pair.anchor,
        fit.pair.other,
        columns=len(fit.pair.columns),
        link_z=fit.quality.get("link_z", np.inf),
    )
    if fit.quality["last_change"] >= settings.tolerance:
        found.append(
            f"The transition matrix still changes by {fit.quality['last_change']:.1%} after "
            f"{settings.max_iterations} turns. Raise `max_iterations` or `alpha`."
        )
    return found


def state_of(fit: Fit, result: IntegrationResult, settings: Settings) -> ComponentState:
    """Return the state: what ``result`` shows, and what placing new cells needs."""
    weights = fit.pair.weights
    arrays: dict[str, np.ndarray] = {
        "weights": fit.weights,
        "columns": fit.pair.columns,
        "links/data": weights.data,
        "links/indices": weights.indices,
        "links/indptr": weights.indptr,
    }
    for name, place in fit.places.items():
        arrays |= {
            f"{name}/embedding": result.embeddings[name],
            f"{name}/scores": place.cells.in_input_order(place.scores),
            f"{name}/features": place.features,
            f"{name}/reduction": place.reduction,
            f"{name}/loadings": place.loadings,
            f"{name}/linked_means": place.scaling.means,
            f"{name}/linked_spread": place.scaling.spread,
            f"{name}/means": place.cells.means,
        }
    arrays |= {f"history/{k}": v for k, v in fit.history.items()}
    extra = {
        "anchor": fit.pair.anchor,
        "other": fit.pair.other,
        "column_names": [str(n) for n in fit.pair.names],
        "obs_names": {m: [str(n) for n in p.cells.obs_names] for m, p in fit.places.items()},
        "feature_names": {m: [str(n) for n in p.feature_names] for m, p in fit.places.items()},
        "bases": {m: p.cells.basis.to_json() for m, p in fit.places.items()},
        "batches": {m: list(p.cells.batches) for m, p in fit.places.items()},
        "quality": dict(result.quality),
        "advice": list(result.advice),
        "arrays": sorted(arrays),
    }
    return ComponentState(
        component=_COMPONENT,
        parameters=json_settings(settings),
        arrays=arrays,
        extra=extra,
        provenance=result.provenance,
    )


def check_state(state: ComponentState) -> None:
    """Refuse a state of another component, or one whose arrays are not all there."""
    require_state(state, _COMPONENT, method="bindSC")


def result_from(state: ComponentState) -> IntegrationResult:
    """Rebuild the result from a checked state."""
    arrays, extra = state.arrays, state.extra
    assert state.provenance is not None
    names = sorted(extra["bases"])
    return IntegrationResult(
        embeddings={m: arrays[f"{m}/embedding"] for m in names},
        obs_names={m: np.asarray(extra["obs_names"][m], dtype=str) for m in names},
        provenance=state.provenance,
        feature_embeddings={m: arrays[f"{m}/features"] for m in names},
        feature_names={m: np.asarray(extra["feature_names"][m], dtype=str) for m in names},
        history=histories_of(arrays),
        quality=extra["quality"],
        advice=tuple(extra["advice"]),
    )
