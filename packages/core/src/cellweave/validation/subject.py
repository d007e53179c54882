"""What validation looks at: each modality with its summaries, made once for all checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cellweave.errors import DataError
from cellweave.validation.modalities import canonical_modality, speaks_for
from cellweave.validation.names import NameSummary, describe_names
from cellweave.validation.values import ValueSummary, summarise_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["Part", "Subject", "look_at"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One modality, its raw values and its names, summarised.

    Parameters
    ----------
    key, place
        Key in the MuData, and how to write it in code: ``mdata['rna']``.
    modality
        What the key stands for; for a lone AnnData, what its features speak for.
    speaks_for
        What names and values speak for.
    raw_place, raw
        Where raw values are expected (``layers['counts']`` where there is one, else ``X``), and
        the summary of what is there; ``None`` when nothing is.
    x
        Summary of ``X``, where it is not the raw place.
    """

    key: str
    place: str
    adata: AnnData
    modality: str | None
    speaks_for: str | None
    names: NameSummary
    raw_place: str
    raw: ValueSummary | None
    x: ValueSummary | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """All modalities, and the MuData that holds them where there is one."""

    parts: tuple[Part, ...]
    mdata: MuData | None
    batch_key: str
    label_key: str


def look_at(data: MuData | AnnData, *, batch_key: str, label_key: str) -> Subject:
    """Summarise every modality of ``data``; one pass over its values."""
    from anndata import AnnData

    if isinstance(data, AnnData):
        parts = [_part("", data)]
        mdata = None
    else:
        mods = getattr(data, "mod", None)
        if not isinstance(mods, Mapping):
            msg = (
                f"Cannot validate {type(data).__name__}. Give a MuData or an AnnData, such as "
                "`cellweave.read(path)` returns."
            )
            raise DataError(msg)
        parts = [_part(key, adata) for key, adata in mods.items()]
        mdata = data
    return Subject(parts=tuple(parts), mdata=mdata, batch_key=batch_key, label_key=label_key)


def _part(key: str, adata: AnnData) -> Part:
    from anndata import AnnData

    place = f"mdata[{key!r}]" if key else "adata"
    if not isinstance(adata, AnnData):
        msg = f"{place} is a {type(adata).__name__}. Every modality must be an AnnData."
        raise DataError(msg)
    has_layer = "counts" in adata.layers
    raw_matrix: Any = adata.layers["counts"] if has_layer else adata.X
    raw = None if raw_matrix is None else summarise_values(raw_matrix)
    x = summarise_values(adata.X) if has_layer and adata.X is not None else None
    names = describe_names(adata.var_names)
    evidence = None if raw is None else speaks_for(adata, names, raw)
    return Part(
        key=key,
        place=place,
        adata=adata,
        modality=canonical_modality(key) if key else evidence,
        speaks_for=evidence,
        names=names,
        raw_place=f"{place}.layers['counts']" if has_layer else f"{place}.X",
        raw=raw,
        x=x,
    )
