"""Bring every modality into its prepared form, each by its own package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cellweave.errors import ConfigError, UnknownComponentError, closest, one_of
from cellweave.plugins import get_plugin_manager
from cellweave.records.component import ComponentKind
from cellweave.registry import KNOWN_DISTRIBUTIONS

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.contracts import Modality
    from cellweave.records import ProgressCallback

__all__ = ["is_prepared", "modality_of", "prepare"]


def prepare(
    mdata: MuData,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> MuData:
    """Return a new MuData whose modalities are all in the prepared form.

    A modality that is prepared already is passed on as it is, unless ``settings`` name it.

    Parameters
    ----------
    mdata
        Raw data; not changed.
    settings
        Modality name to the settings of its preparation.
    seed
        Seed of everything random (PCA start vectors).
    progress
        Called before each modality.

    Examples
    --------
    >>> import cellweave
    >>> raw = cellweave.datasets.simulate(n_cells=200, seed=0)
    >>> prepared = cellweave.prepare(raw)  # doctest: +SKIP
    """
    from mudata import MuData as MuDataClass

    settings = dict(settings or {})
    unknown = [name for name in settings if name not in mdata.mod]
    if unknown:
        msg = (
            f"Settings for {unknown[0]!r}, which is not in the data."
            f"{closest(unknown[0], mdata.mod)} Modalities: {one_of(mdata.mod)}."
        )
        raise ConfigError(msg)
    makers = {name: _maker(name, adata) for name, adata in mdata.mod.items()}  # before any work
    prepared: dict[str, AnnData] = {}
    for step, (name, adata) in enumerate(mdata.mod.items(), start=1):
        _tell(progress, name, step, len(makers))
        if is_prepared(adata) and name not in settings:
            prepared[name] = adata
        else:
            own = settings.get(name)
            prepared[name] = makers[name].prepare(adata, settings=own, seed=seed).adata
    result = MuDataClass(prepared)
    for key, value in mdata.uns.items():
        result.uns[key] = value
    return result


def is_prepared(adata: AnnData) -> bool:
    """Tell whether ``adata`` went through a modality's ``prepare``."""
    return "preparation" in adata.uns and "counts" in adata.layers


def modality_of(name: str) -> Modality:
    """Return the modality component of the key ``name``, which may have a suffix (``rna2``)."""
    manager = get_plugin_manager()
    kind = manager.modality_kind(name)
    for component in manager.registry(ComponentKind.MODALITY).components.values():
        if kind == component.spec.name or kind in component.spec.modalities:
            modality: Modality = component.load()()
            return modality
    bring = KNOWN_DISTRIBUTIONS.get(name)
    known = manager.modalities()
    how = f" Install it with: pip install {bring}." if bring else ""
    msg = (
        f"No installed package knows the modality {name!r}.{closest(name, known)} "
        f"Available: {one_of(known)}.{how}"
    )
    raise UnknownComponentError(msg)


def _maker(name: str, adata: AnnData) -> Modality:
    """Return the modality; of one by another name, say what it looks like and how to rename it."""
    try:
        return modality_of(name)
    except UnknownComponentError as error:
        likely = get_plugin_manager().guess_modality(adata)
        if not likely:
            raise
        msg = (
            f"{error} {name!r} looks like {likely!r}: read it as that with "
            f"modalities={{{likely!r}: {name!r}}}, or {likely}={name} on the command line."
        )
        raise UnknownComponentError(msg) from error


def _tell(progress: ProgressCallback | None, name: str, step: int, total: int) -> None:
    if progress:
        from cellweave.records import Progress

        progress(Progress(stage=f"prepare {name}", step=step, total=total))
