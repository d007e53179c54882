"""Apply the fixes that cannot lose or change a value, on a copy, and say what was done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.joins import without_pulling
from cellweave.records.findings import FindingReport
from cellweave.validation.names import strip_versions
from cellweave.validation.values import summarise_values

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["fix"]


def fix(mdata: MuData, report: FindingReport) -> tuple[MuData, list[str]]:
    """Return a mended copy of ``mdata`` and a line for each thing that was done.

    Only findings marked ``safe_fix`` are acted on: blanks around names and versions of gene ids go
    (where names stay unique), duplicate names get a number, empty cells and features are dropped.
    ``mdata`` itself is not changed. Where nothing is safe to mend the list is empty.

    Parameters
    ----------
    mdata
        What was validated; an AnnData is taken and given back as such.
    report
        The report of :func:`~cellweave.validation.validate` on it.
    """
    from anndata import AnnData

    if isinstance(mdata, AnnData):
        mended, done = _fix_part(mdata, "adata", report)
        return mended, done
    parts, done = {}, []
    for key, adata in mdata.mod.items():
        parts[key], said = _fix_part(adata, f"mdata[{key!r}]", report)
        done += said
    return _rebuilt(mdata, parts, changed=bool(done)), done


def _fix_part(adata: AnnData, place: str, report: FindingReport) -> tuple[AnnData, list[str]]:
    wanted = {f.code for f in report.findings if f.safe_fix and f.place.startswith(place)}
    mended, done = adata.copy(), []
    for code, action in _ACTIONS.items():
        if code in wanted:
            mended, said = action(mended)
            done += [f"{place}: {said}"] if said else []
    return mended, done


def _strip_blanks(axis: str) -> Callable[[AnnData], tuple[AnnData, str]]:
    def action(adata: AnnData) -> tuple[AnnData, str]:
        return _renamed(adata, axis, lambda n: n.astype(str).str.strip(), "blanks around")

    return action


def _drop_versions(adata: AnnData) -> tuple[AnnData, str]:
    return _renamed(adata, "var", strip_versions, "the version of")


def _renamed(
    adata: AnnData, axis: str, rename: Callable[[Any], Any], what: str
) -> tuple[AnnData, str]:
    before = getattr(adata, f"{axis}_names")
    after = rename(before)
    if not after.is_unique:
        return adata, ""
    setattr(adata, f"{axis}_names", after)
    changed = int((before.astype(str).to_numpy() != after.to_numpy()).sum())
    return adata, f"took off {what} {changed} {axis}_names"


def _number_duplicates(axis: str) -> Callable[[AnnData], tuple[AnnData, str]]:
    def action(adata: AnnData) -> tuple[AnnData, str]:
        repeated = int(getattr(adata, f"{axis}_names").duplicated().sum())
        getattr(adata, f"{axis}_names_make_unique")()
        return adata, f"numbered {repeated} duplicate {axis}_names"

    return action


def _drop_empty_cells(adata: AnnData) -> tuple[AnnData, str]:
    keep = summarise_values(_raw(adata)).row_counts > 0
    if not keep.any():
        return adata, ""
    return adata[keep].copy(), f"dropped {int((~keep).sum())} empty cells"


def _drop_empty_features(adata: AnnData) -> tuple[AnnData, str]:
    keep = summarise_values(_raw(adata)).column_counts > 0
    if not keep.any():
        return adata, ""
    return adata[:, keep].copy(), f"dropped {int(np.count_nonzero(~keep))} empty features"


def _raw(adata: AnnData) -> Any:
    return adata.layers.get("counts", adata.X)


# Names first, so that what is dropped is dropped under its final name.
_ACTIONS: dict[str, Callable[[AnnData], tuple[AnnData, str]]] = {
    "OBS_NAMES_PADDED": _strip_blanks("obs"),
    "VAR_NAMES_PADDED": _strip_blanks("var"),
    "IDS_VERSIONED": _drop_versions,
    "OBS_NAMES_DUPLICATE": _number_duplicates("obs"),
    "VAR_NAMES_DUPLICATE": _number_duplicates("var"),
    "CELLS_EMPTY": _drop_empty_cells,
    "FEATURES_EMPTY": _drop_empty_features,
}


def _rebuilt(mdata: MuData, parts: dict[str, AnnData], *, changed: bool) -> MuData:
    """Give a MuData of the mended parts; its own obs and uns are kept, by name."""
    import mudata

    with without_pulling():
        if not changed:
            return mdata.copy()
        mended = mudata.MuData(parts)
        if mdata.obs_names.is_unique:
            for column in mdata.obs.columns:
                mended.obs[column] = mdata.obs[column].reindex(mended.obs_names)
        if mended.obs_names.equals(mdata.obs_names):
            mended.obsm.update({k: v for k, v in mdata.obsm.items() if k not in parts})
    mended.uns.update(mdata.uns)
    return mended
