"""What a fit becomes: the result record, and the state that survives the process."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import StateMismatchError
from cellweave.records import ComponentState, IntegrationResult, Provenance
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
        parameters=settings.to_json(),
        seed=settings.seed,
        versions={n: importlib.metadata.version(n) for n in ("numpy", "scipy")},
    )


def _advice(fit: Fit, settings: Settings) -> list[str]:
    who = f"{fit.pair.anchor!r} and {fit.pair.other!r}"
    found = []
    if fit.quality["linked_features"] < 8:
        found.append(
            f"Only {len(fit.pair.columns)} linked features join {who}. Add links (aliases, "
            "complexes, pathways), or trust coarse types at most."
        )
    if fit.quality.get("link_z", 9.0) < 3:
        found.append(
            f"The links of {who} co-vary hardly more alike than shuffled links "
            f"({fit.quality['link_z']:.1f} deviations; sound links reach 3 and more). Check gene "
            "names, organism, genome build and the window of the links."
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
        "keys": {m: p.cells.key for m, p in fit.places.items()},
        "batches": {m: list(p.cells.batches) for m, p in fit.places.items()},
        "quality": dict(result.quality),
        "advice": list(result.advice),
        "arrays": sorted(arrays),
    }
    return ComponentState(
        component=_COMPONENT,
        parameters=settings.to_json(),
        arrays=arrays,
        extra=extra,
        provenance=result.provenance,
    )


def check_state(state: ComponentState) -> None:
    """Refuse a state of another component, or one whose arrays are not all there."""
    if state.component != _COMPONENT:
        msg = (
            f"This state is of component {state.component!r}. Expected {_COMPONENT!r}: load it "
            "with the integrator that made it."
        )
        raise StateMismatchError(msg)
    expected, found = set(state.extra.get("arrays", ())), set(state.arrays)
    if expected != found or not expected:
        msg = (
            f"The bindSC state lacks {sorted(expected - found)} and has unknown "
            f"{sorted(found - expected)}. Expected exactly the arrays it was saved with: save the "
            "fitted integrator again."
        )
        raise StateMismatchError(msg)


def result_from(state: ComponentState) -> IntegrationResult:
    """Rebuild the result from a checked state."""
    arrays, extra = state.arrays, state.extra
    assert state.provenance is not None
    names = sorted(extra["keys"])
    return IntegrationResult(
        embeddings={m: arrays[f"{m}/embedding"] for m in names},
        obs_names={m: np.asarray(extra["obs_names"][m], dtype=str) for m in names},
        provenance=state.provenance,
        feature_embeddings={m: arrays[f"{m}/features"] for m in names},
        feature_names={m: np.asarray(extra["feature_names"][m], dtype=str) for m in names},
        history={
            k.removeprefix("history/"): v for k, v in arrays.items() if k.startswith("history/")
        },
        quality=extra["quality"],
        advice=tuple(extra["advice"]),
    )
