"""Weave the modalities of a MuData together with an integrator chosen by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cellweave.errors import DataError
from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind
from cellweave.verbs.components import create
from cellweave.verbs.prepare import is_prepared, prepare

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult, ProgressCallback

__all__ = ["integrate"]


def integrate(
    mdata: MuData,
    method: str,
    *,
    links: Sequence[FeatureLinks] | None = None,
    seed: int = 0,
    parameters: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> IntegrationResult:
    """Put the cells of all modalities into one space.

    Raw modalities are prepared first by their own packages; features are linked by the installed
    packages unless ``links`` are given. ``mdata`` is not changed: ``result.write(mdata)`` is one
    explicit step.

    Parameters
    ----------
    mdata
        Two or more modalities, raw or prepared.
    method
        Name of an integrator, e.g. ``"glue"``.
    links
        Links between features; asked from the packages when not given.
    seed
        Same seed, same machine, same bytes.
    parameters
        Arguments of the integrator's constructor.
    progress
        Called with what is done and what is optimised.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.datasets.simulate(n_cells=200, seed=0)
    >>> result = cellweave.integrate(mdata, "maxfuse", seed=0)  # doctest: +SKIP
    >>> result.write(mdata)  # doctest: +SKIP
    """
    component = get_plugin_manager().registry(ComponentKind.INTEGRATOR)[method]
    if len(mdata.mod) < 2:
        msg = (
            f"The data hold {len(mdata.mod)} modality ({', '.join(mdata.mod)}). "
            "Integration needs two or more: read the other file too."
        )
        raise DataError(msg)
    integrator = create("integrator", method, **{"seed": seed, **dict(parameters or {})})
    raw = [name for name, adata in mdata.mod.items() if not is_prepared(adata)]
    ready = prepare(mdata, seed=seed, progress=progress) if raw else mdata
    if links is None:
        from cellweave.verbs.link import link

        links = link(ready)
    result: IntegrationResult = integrator.fit(ready, links, progress=progress).result()
    provenance = replace(result.provenance, version=component.version)
    return _checked_against(replace(result, provenance=provenance), ready, links)


def _checked_against(
    result: IntegrationResult, mdata: MuData, links: Sequence[FeatureLinks]
) -> IntegrationResult:
    """Add what the linked features say about the weave, whichever method made it."""
    from cellweave.weaving import advice_on_agreement, agreements, quality_of_agreement

    batch_key = result.provenance.parameters.get("batch_key")
    found = agreements(mdata, links, result.embeddings, batch_key=batch_key)
    return replace(
        result,
        agreement=found,
        quality={**result.quality, **quality_of_agreement(found)},
        advice=(*result.advice, *advice_on_agreement(found)),
    )
