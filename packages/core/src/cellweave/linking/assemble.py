"""Close triplets into a :class:`~cellweave.records.FeatureLinks`, with every miss explained."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import ConfigError, closest
from cellweave.records import FeatureLinks, Provenance

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.records import LinkRequest

__all__ = ["build_links", "flipped", "take_parameters"]


def build_links(
    request: LinkRequest,
    *,
    rows: np.ndarray,
    cols: np.ndarray,
    weights: np.ndarray,
    evidence: str | np.ndarray,
    component: str,
    signs: np.ndarray | int = 1,
    missing_source: str = "nothing to link to",
    missing_target: str = "nothing to link to",
    reasons_source: Mapping[int, str] | None = None,
    reasons_target: Mapping[int, str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> FeatureLinks:
    """Build links in the request's order; of pairs given twice the heavier one counts.

    Parameters
    ----------
    request
        What was asked.
    rows, cols, weights, signs, evidence
        The triplets; one sign or kind of evidence may stand for all.
    component
        Name of what made them, for the provenance.
    missing_source, missing_target
        Why a feature has no link, where nothing better is known.
    reasons_source, reasons_target
        Position of a feature to a better reason.
    details
        Settings, kept in the provenance.
    """
    n_target = request.target_data.n_vars
    keep = _heaviest(rows, cols, weights, n_target)
    rows, cols = np.asarray(rows)[keep], np.asarray(cols)[keep]
    all_signs = np.broadcast_to(np.asarray(signs, dtype=np.int8), np.shape(weights))
    kinds = np.asarray(evidence)
    kinds = np.full(len(rows), evidence) if kinds.ndim == 0 else kinds[keep]
    source_names, target_names = _names(request.source_data.var), _names(request.target_data.var)
    return FeatureLinks(
        source=request.source,
        target=request.target,
        source_features=source_names,
        target_features=target_names,
        rows=rows.astype(np.int32),
        cols=cols.astype(np.int32),
        weights=np.asarray(weights)[keep].astype(np.float32),
        signs=all_signs[keep],
        evidence=kinds,
        unmatched_source=_unmatched(source_names, rows, reasons_source, missing_source),
        unmatched_target=_unmatched(target_names, cols, reasons_target, missing_target),
        provenance=_provenance(component, request, details),
    )


def flipped(request: LinkRequest) -> LinkRequest:
    """Return the request with source and target exchanged."""
    from dataclasses import replace

    return replace(
        request,
        source=request.target,
        target=request.source,
        source_data=request.target_data,
        target_data=request.source_data,
    )


def take_parameters(request: LinkRequest, known: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """Return ``known`` with the request's parameters in place; refuse what does not fit."""
    problems = []
    values = dict(known)
    for key, value in request.parameters.items():
        if key not in known:
            names = ", ".join(sorted(known)) or "none"
            problems.append(f"Unknown parameter {key!r}.{closest(key, known)} Known: {names}.")
        elif isinstance(known[key], int | float) and not isinstance(value, int | float):
            problems.append(f"Parameter {key!r} is {value!r}; expected a number.")
        else:
            values[key] = value
    if problems:
        msg = f"Links by {what} cannot be made. " + " ".join(problems)
        raise ConfigError(msg)
    return values


def _heaviest(rows: np.ndarray, cols: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    """Return positions of the triplets to keep, sorted by pair."""
    pair = np.asarray(rows, dtype=np.int64) * max(n, 1) + np.asarray(cols, dtype=np.int64)
    if np.all(np.diff(pair) > 0):
        return np.arange(len(pair))
    order = np.lexsort((-np.asarray(weights), pair))
    first = np.concatenate([[True], np.diff(pair[order]) > 0]) if len(pair) else np.empty(0, bool)
    return order[first]


def _names(var: pd.DataFrame) -> np.ndarray:
    return var.index.to_numpy().astype(str)


def _unmatched(
    names: np.ndarray, linked: np.ndarray, reasons: Mapping[int, str] | None, default: str
) -> dict[str, str]:
    is_linked = np.zeros(len(names), dtype=bool)
    is_linked[linked] = True
    known = reasons or {}
    return {str(names[i]): known.get(int(i), default) for i in np.flatnonzero(~is_linked)}


def _provenance(
    component: str, request: LinkRequest, details: Mapping[str, Any] | None
) -> Provenance:
    parameters = {"method": request.method, **dict(details or {})}
    for key in ("genes", "table"):
        path = getattr(request, key)
        if path is not None:
            parameters[key] = path.name
    return Provenance(component=component, version=_version(), parameters=parameters)


def _version() -> str:
    try:
        return importlib.metadata.version("cellweave-core")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
