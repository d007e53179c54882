"""Check what an integrator is given, all of it, before any work: one message for all findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = ["InputRules", "aligned_link", "check_inputs", "parse_use_rep", "representation_key"]

_KNOWN = ("X_pca", "X_lsi")
_FIRST = {"atac": ("X_lsi", "X_pca")}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRules:
    """Say what a method needs and where to look.

    Parameters
    ----------
    method
        How errors call it.
    use_rep
        Modality to ``obsm`` key.
    batch_key
        Column of ``obs``; a modality without it has one batch.
    min_cells
        Fewest cells of a modality.
    max_modalities
        Most modalities, ``None`` for no limit.
    """

    method: str
    use_rep: Mapping[str, str] = field(default_factory=dict)
    batch_key: str | None = None
    min_cells: int = 10
    max_modalities: int | None = None


def representation_key(name: str, adata: AnnData, use_rep: Mapping[str, str]) -> str | None:
    """Return the ``obsm`` key of a modality's coordinates, ``None`` when it has none."""
    if name in use_rep:
        return use_rep[name]
    return next((k for k in _FIRST.get(name, _KNOWN) if k in adata.obsm), None)


def parse_use_rep(use_rep: str | Mapping[str, str] | None, mdata: MuData) -> dict[str, str]:
    """Return modality to ``obsm`` key.

    Parameters
    ----------
    use_rep
        A mapping; or ``"rna=X_scgpt,prot=X_pca"``; or one key for every modality that has it.
    mdata
        The data; only the keys are read.
    """
    if use_rep is None:
        return {}
    if not isinstance(use_rep, str):
        return dict(use_rep)
    if "=" in use_rep:
        pairs = [part.partition("=") for part in use_rep.split(",")]
        return {name.strip(): key.strip() for name, _, key in pairs}
    having = {name: use_rep for name, adata in mdata.mod.items() if use_rep in adata.obsm}
    if having:
        return having
    known = {key for adata in mdata.mod.values() for key in adata.obsm}
    msg = (
        f"`use_rep` is {use_rep!r}, which no modality has in `obsm`.{closest(use_rep, known)} "
        f"There are: {one_of(known)}. Name one of these, or say 'rna=X_pca,atac=X_lsi'."
    )
    raise DataError(msg)


def check_inputs(
    mdata: MuData, links: Sequence[FeatureLinks], rules: InputRules
) -> tuple[FeatureLinks, ...]:
    """Return the links in the order of the data; refuse with every problem at once."""
    problems = _structure(mdata, links, rules)
    for name in sorted(mdata.mod):
        problems += _modality(name, mdata.mod[name], rules)
    if problems:
        raise DataError(_joined(problems, rules.method))
    return tuple(aligned_link(link, mdata) for link in links)


def _joined(problems: Sequence[str], method: str) -> str:
    if len(problems) == 1:
        return problems[0]
    listed = "\n".join(f"{i}. {problem}" for i, problem in enumerate(problems, 1))
    return f"{method} cannot use these data, for {len(problems)} reasons:\n{listed}"


def _structure(mdata: MuData, links: Sequence[FeatureLinks], rules: InputRules) -> list[str]:
    names = sorted(mdata.mod)
    problems = []
    if len(names) < 2 or (rules.max_modalities and len(names) > rules.max_modalities):
        wanted = "two" if rules.max_modalities == 2 else "two or more"
        problems.append(
            f"{rules.method} weaves {wanted} modalities; `mdata` has {one_of(names)}. "
            "Choose them: mudata.MuData({'rna': rna, 'atac': atac})."
        )
    problems += [
        f"`use_rep` names {key!r}, which is no modality of the data.{closest(key, names)} "
        f"There are: {one_of(names)}."
        for key in rules.use_rep
        if key not in names
    ]
    key = rules.batch_key
    if key is not None and not any(key in a.obs for a in mdata.mod.values()):
        problems.append(
            f"`batch_key` is {key!r}, which no modality has in `obs`. "
            "Name a column of `obs`, or leave `batch_key` out."
        )
    return problems + _link_structure(mdata, links, names, rules)


def _link_structure(
    mdata: MuData, links: Sequence[FeatureLinks], names: list[str], rules: InputRules
) -> list[str]:
    if not links:
        return [
            (
                f"No feature links were given for {one_of(names)}. {rules.method} needs to know "
                "which features belong together: pass `links=`, or on the command line --links or "
                "--gtf."
            )
        ]
    problems = [p for link in links if (p := _link_problem(link, mdata, names))]
    parts = _connected(names, links)
    if len(parts) > 1 and not problems:
        listed = " and ".join(repr(sorted(part)) for part in parts)
        problems.append(
            f"The links leave the modalities in separate parts: {listed}. "
            "Add links between the parts, or drop a modality."
        )
    return problems


def _link_problem(link: FeatureLinks, mdata: MuData, names: list[str]) -> str | None:
    pair = f"Links {link.source!r} to {link.target!r}"
    missing = [m for m in (link.source, link.target) if m not in names]
    if missing:
        return (
            f"{pair} name {missing[0]!r}, which is no modality of the data."
            f"{closest(missing[0], names)} There are: {one_of(names)}."
        )
    if len(aligned_link(link, mdata)):
        return None
    return (
        f"{pair}: none of the {len(link)} links joins features of the data. The links say e.g. "
        f"{_example(link.source_features)} and {_example(link.target_features)}; the data have "
        f"{_example(mdata.mod[link.source].var_names)} and "
        f"{_example(mdata.mod[link.target].var_names)}. Make links for these names."
    )


def _example(names: Any) -> str:
    return repr(str(names[0])) if len(names) else "nothing"


def aligned_link(link: FeatureLinks, mdata: MuData) -> FeatureLinks:
    """Return the links of two modalities restricted to the features of the data."""
    return link.restricted(
        source_features=mdata.mod[link.source].var_names,
        target_features=mdata.mod[link.target].var_names,
    )


def _connected(names: Sequence[str], links: Sequence[FeatureLinks]) -> list[set[str]]:
    parts = [{name} for name in names]
    for link in links:
        touched = [p for p in parts if link.source in p or link.target in p]
        parts = [p for p in parts if p not in touched] + [set().union(*touched)]
    return parts


def _modality(name: str, adata: AnnData, rules: InputRules) -> list[str]:
    here = f"mdata[{name!r}]"
    problems = []
    if adata.n_obs < rules.min_cells:
        problems.append(
            f"{here} has {adata.n_obs} cells. {rules.method} needs at least {rules.min_cells} "
            "a modality: check the filters before it."
        )
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        problems.append(
            f"{here}.obs_names holds {twice!r} more than once. Cells need names of their own: "
            "adata.obs_names_make_unique()."
        )
    key = rules.batch_key
    if key is not None and key in adata.obs and adata.obs[key].isna().any():
        problems.append(
            f"{here}.obs[{key!r}] is missing for {int(adata.obs[key].isna().sum())} cells. "
            "Fill it in or drop these cells."
        )
    return problems + _representation(here, name, adata, rules) + _values(here, adata)


def _representation(here: str, name: str, adata: AnnData, rules: InputRules) -> list[str]:
    key = representation_key(name, adata, rules.use_rep)
    if key is None or key not in adata.obsm:
        sought = repr(key) if key else f"any of {one_of(_KNOWN)}"
        return [
            (
                f"{here}.obsm has not {sought}; it has: {one_of(adata.obsm)}. Prepare the data "
                "(cellweave.prepare) or name another representation with `use_rep`."
            )
        ]
    values = np.asarray(adata.obsm[key])
    if values.ndim != 2 or values.shape[1] < 2:
        return [
            (
                f"{here}.obsm[{key!r}] has shape {values.shape}. Expected at least two columns: "
                "name another representation with `use_rep`."
            )
        ]
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        return [
            (
                f"{here}.obsm[{key!r}] holds NaN or infinity for {int((~finite).sum())} cells, "
                f"first {str(adata.obs_names[int(np.argmin(finite))])!r}. Compute it again or drop "
                "them."
            )
        ]
    if not np.ptp(values, axis=0).max() > 0:
        return [f"{here}.obsm[{key!r}] is the same for all cells. Compute it from data that vary."]
    return []


def _values(here: str, adata: AnnData) -> list[str]:
    problems = []
    if "counts" not in adata.layers:
        problems.append(
            f"{here}.layers has no 'counts'; it has: {one_of(adata.layers)}. "
            "Prepare the data: cellweave.prepare(mdata)."
        )
    slots = {"X": adata.X} | {
        f"layers[{k!r}]": adata.layers[k] for k in ("counts",) if k in adata.layers
    }
    for slot, matrix in slots.items():
        if matrix is None:
            problems.append(f"{here}.{slot} is empty. Prepare the data: cellweave.prepare(mdata).")
            continue
        data: Any = cast("Any", matrix).data if sp.issparse(matrix) else np.asarray(matrix)
        bad = int(np.size(data) - np.isfinite(data).sum())
        if bad:
            problems.append(
                f"{here}.{slot} holds {bad} values that are NaN or infinity. "
                "Find where they arise, and prepare the data again."
            )
    return problems
