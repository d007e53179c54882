"""Ask who knows how two modalities meet, and fall back to what needs no knowledge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.linking.correlation import link_by_correlation
from cellweave.linking.identity import link_by_identity
from cellweave.linking.table import link_by_table
from cellweave.records import LinkRequest

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = ["GENERIC_METHODS", "link", "link_pair"]

Ask = Callable[[LinkRequest], "FeatureLinks | None"]

GENERIC_METHODS: Mapping[str, Callable[[LinkRequest], FeatureLinks]] = {
    "identity": link_by_identity,
    "table": link_by_table,
    "correlation": link_by_correlation,
}
_PACKAGES = {
    "rna": "cellweave-rna",
    "atac": "cellweave-atac",
    "prot": "cellweave-protein",
    "spatial": "cellweave-spatial",
    "metab": "cellweave-metabolomics",
}


def link(
    source_data: AnnData,
    target_data: AnnData,
    *,
    source: str,
    target: str,
    hook: Ask,
    genes: str | Path | None = None,
    table: str | Path | None = None,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> FeatureLinks:
    """Link the features of two modalities.

    A method that belongs to no modality (``identity``, ``table``, ``correlation``) is done here.
    Otherwise the plugins are asked; when none answers, the user's table serves, and then names
    that both sides share.

    Parameters
    ----------
    source_data, target_data
        The data of the two modalities.
    source, target
        Their names.
    hook
        What asks the plugins, e.g. ``get_plugin_manager().link_features``.
    genes
        GTF or coordinate table.
    table
        The user's own table of links or reactions.
    method
        Name of a way to link; each modality's default when not given.
    parameters
        Settings of the method.

    Raises
    ------
    DataError
        When nobody can link the two, with what to install or give.
    """
    request = LinkRequest(
        source=source,
        target=target,
        source_data=source_data,
        target_data=target_data,
        genes=Path(genes) if genes else None,
        table=Path(table) if table else None,
        method=method,
        parameters=dict(parameters or {}),
    )
    if method is not None and method in GENERIC_METHODS:
        return GENERIC_METHODS[method](request)
    answer = hook(request)
    return answer if answer is not None else _fall_back(request)


def link_pair(
    mdata: MuData,
    source: str,
    target: str,
    *,
    ask: Ask,
    genes: str | Path | None = None,
    table: str | Path | None = None,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> FeatureLinks:
    """Link two modalities of a MuData; see :func:`link`."""
    if missing := [name for name in (source, target) if name not in mdata.mod]:
        msg = (
            f"The data have no modality {missing[0]!r}.{closest(missing[0], mdata.mod)} "
            f"They hold: {one_of(mdata.mod)}."
        )
        raise DataError(msg)
    return link(
        mdata.mod[source],
        mdata.mod[target],
        source=source,
        target=target,
        hook=ask,
        genes=genes,
        table=table,
        method=method,
        parameters=parameters,
    )


def _fall_back(request: LinkRequest) -> FeatureLinks:
    if request.method is not None:
        msg = (
            f"No installed package links {request.source!r} to {request.target!r} by "
            f"{request.method!r}. Always there: {one_of(GENERIC_METHODS)}.{_advice(request)}"
        )
        raise ConfigError(msg)
    if request.table is not None:
        return link_by_table(request)
    links = link_by_identity(request)
    if len(links) == 0:
        sides = (request.source_data, request.target_data)
        examples = " and ".join(repr(str(a.var_names[0])) if a.n_vars else "none" for a in sides)
        msg = (
            f"Nobody knows how features of {request.source!r} and {request.target!r} belong "
            f"together, and they share no name (e.g. {examples}).{_advice(request)} Or give your "
            "own table (columns source, target), or method='correlation' for paired cells."
        )
        raise DataError(msg)
    return links


def _advice(request: LinkRequest) -> str:
    names = [_PACKAGES[m] for m in (request.source, request.target) if m in _PACKAGES]
    return f" Install what knows them: pip install {' '.join(names)}." if names else ""
