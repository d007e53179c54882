"""What a fit becomes: the result record, and the state that survives the process."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.records import ComponentState, IntegrationResult, Matches, Provenance
from cellweave.weaving import histories_of, json_settings, require_state
from cellweave_maxfuse.quality import advice_on

if TYPE_CHECKING:
    from cellweave_maxfuse.fitting import Fit, Place
    from cellweave_maxfuse.settings import Settings

__all__ = ["check_state", "result_from", "result_of", "state_of"]

_COMPONENT = "maxfuse"
_ARRAYS = ("embedding", "representation", "linked", "loadings", "shift", "means")


def result_of(fit: Fit, settings: Settings) -> IntegrationResult:
    """Return the public result, cells in the order of the input."""
    return IntegrationResult(
        embeddings={m: p.cells.in_input_order(p.embedding) for m, p in fit.places.items()},
        obs_names={m: p.cells.obs_names for m, p in fit.places.items()},
        provenance=_provenance(settings),
        matches=tuple(_matches(fit, pair) for pair in fit.matches),
        history=fit.history,
        quality={k: v for q in fit.qualities for k, v in q.measures().items()},
        advice=tuple(line for q in fit.qualities for line in advice_on(q)),
    )


def _matches(fit: Fit, pair: tuple[str, str]) -> Matches:
    found = fit.matches[pair]
    left, right = fit.places[pair[0]].cells, fit.places[pair[1]].cells
    rows, cols = left.order[found.rows], right.order[found.cols]
    by = np.lexsort((cols, rows))
    return Matches(
        source=pair[0],
        target=pair[1],
        rows=rows[by].astype(np.int64),
        cols=cols[by].astype(np.int64),
        scores=found.scores[by],
    )


def _provenance(settings: Settings) -> Provenance:
    libraries = ("numpy", "scipy", "numba")
    return Provenance(
        component=_COMPONENT,
        version=importlib.metadata.version("cellweave-maxfuse"),
        parameters=json_settings(settings),
        seed=settings.seed,
        versions={name: importlib.metadata.version(name) for name in libraries},
    )


def state_of(fit: Fit, result: IntegrationResult, settings: Settings) -> ComponentState:
    """Return the state: what ``result`` shows, and what placing new cells needs."""
    arrays: dict[str, np.ndarray] = {}
    for name, place in fit.places.items():
        arrays |= {f"{name}/{k}": v for k, v in _place_arrays(place, result, name).items()}
    for i, match in enumerate(result.matches):
        arrays |= {f"matches/{i}/{n}": getattr(match, n) for n in ("rows", "cols", "scores")}
    arrays |= {f"history/{k}": np.asarray(v) for k, v in result.history.items()}
    extra = {
        "modalities": sorted(fit.places),
        "obs_names": {m: [str(n) for n in result.obs_names[m]] for m in fit.places},
        "bases": {m: p.cells.basis.to_json() for m, p in fit.places.items()},
        "batches": {m: list(p.cells.batches) for m, p in fit.places.items()},
        "matches": [[m.source, m.target] for m in result.matches],
        "surroundings": {
            m: p.surroundings.scale for m, p in fit.places.items() if p.surroundings is not None
        },
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


def _place_arrays(place: Place, result: IntegrationResult, name: str) -> dict[str, np.ndarray]:
    arrays = {
        "embedding": result.embeddings[name],
        "representation": place.representation,
        "linked": place.linked,
        "loadings": place.loadings,
        "shift": place.shift,
        "means": place.cells.means,
    }
    if place.surroundings is not None:
        arrays |= {"kinds": place.surroundings.kinds, "shares": place.surroundings.mean}
    return arrays


def check_state(state: ComponentState) -> None:
    """Refuse a state of another component, or one whose arrays are not all there."""
    require_state(state, _COMPONENT, method="MaxFuse")


def result_from(state: ComponentState) -> IntegrationResult:
    """Rebuild the result from a checked state."""
    arrays, extra = state.arrays, state.extra
    assert state.provenance is not None
    matches = tuple(_match_from(arrays, i, pair) for i, pair in enumerate(extra["matches"]))
    return IntegrationResult(
        embeddings={m: arrays[f"{m}/embedding"] for m in extra["modalities"]},
        obs_names={m: np.asarray(n, dtype=str) for m, n in extra["obs_names"].items()},
        provenance=state.provenance,
        matches=matches,
        history=histories_of(arrays),
        quality=extra["quality"],
        advice=tuple(extra["advice"]),
    )


def _match_from(arrays: Any, i: int, pair: list[str]) -> Matches:
    values = {n: arrays[f"matches/{i}/{n}"] for n in ("rows", "cols", "scores")}
    return Matches(source=pair[0], target=pair[1], **values)
