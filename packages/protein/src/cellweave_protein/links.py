"""Which genes make a protein, and which open regions lie at those genes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.linking import (
    build_links,
    distance_rule,
    flipped,
    gene_keys,
    link_by_distance,
    read_gene_table,
    regions_of,
    require_regions,
    take_parameters,
)
from cellweave_protein.markers import MarkerTable, match_markers

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.linking import Regions
    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["link_features"]

_GENES = ("rna", "spatial")
_ELSEWHERE = ("identity", "table", "correlation")
_MARKER = "marker"


def link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link proteins to genes or to regions; ``None`` when the pair is not ours."""
    other = request.target if request.source == "prot" else request.source
    if "prot" not in (request.source, request.target) or other not in (*_GENES, "atac"):
        return None
    if request.method in _ELSEWHERE or (request.method is None and request.table is not None):
        return None
    if request.target == "prot":
        return _from_proteins(flipped(request), other).reversed()
    return _from_proteins(request, other)


def _from_proteins(request: LinkRequest, other: str) -> FeatureLinks:
    report = match_markers(request.source_data.var_names, table=_table_of(request))
    if other == "atac":
        return _to_regions(request, report)
    return _to_genes(request, report)


def _table_of(request: LinkRequest) -> MarkerTable | None:
    """Return the user's marker table, when ``method="marker"`` comes with one."""
    return MarkerTable.read(request.table) if request.table is not None else None


def _to_genes(request: LinkRequest, report: pd.DataFrame) -> FeatureLinks:
    if request.method not in (None, _MARKER):
        known = (_MARKER, *_ELSEWHERE)
        msg = (
            f"Unknown method {request.method!r} to link proteins and genes."
            f"{closest(str(request.method), known)} Available: {one_of(known)}."
        )
        raise ConfigError(msg)
    take_parameters(request, {}, what=_MARKER)
    wanted = _wanted(report)
    keys = [k.str.upper() for k in gene_keys(request.target_data.var)]
    found = _positions(wanted, keys)
    if found.empty:
        raise DataError(_nothing(request, report))
    reasons = _reasons(report, wanted, set(found["protein"]), f"genes of {request.target}")
    return build_links(
        request,
        rows=found["protein"].to_numpy(),
        cols=found["at"].to_numpy(),
        weights=np.ones(len(found)),
        evidence=_MARKER,
        component="prot.marker",
        reasons_source=reasons,
        missing_target="no protein of the panel is made by it",
        details={"proteins_linked": int(found["protein"].nunique())},
    )


def _to_regions(request: LinkRequest, report: pd.DataFrame) -> FeatureLinks:
    if request.genes is None:
        msg = (
            "Proteins meet regions through the coordinates of their genes, and none were given. "
            "Give genes=PATH, a GTF or coordinate table of the genome of the peaks."
        )
        raise DataError(msg)
    method = None if request.method == _MARKER else request.method
    rule, sign = distance_rule(replace(request, method=method))
    table = read_gene_table(request.genes)
    wanted = _wanted(report)
    rows = table.rows_of(wanted["gene"])
    wanted = wanted.assign(row=rows)[rows >= 0]
    if wanted.empty:
        raise DataError(_nothing(request, report))
    regions = regions_of(request.target_data.var)
    require_regions(regions, what=repr(request.target))
    pairs = link_by_distance(_places(table.frame, wanted["row"].to_numpy()), regions, rule)
    proteins = wanted["protein"].to_numpy()[pairs.genes]
    reasons = _reasons(report, wanted, set(proteins), f"regions at its {rule.anchor} interval")
    return build_links(
        request,
        rows=proteins,
        cols=pairs.regions,
        weights=pairs.weights,
        signs=sign,
        evidence="marker+distance",
        component="prot.distance",
        reasons_source=reasons,
        reasons_target=pairs.region_reasons,
        missing_target="no gene of a protein of the panel lies there",
    )


def _wanted(report: pd.DataFrame) -> pd.DataFrame:
    """Return one row a protein and gene that makes it."""
    import pandas as pd

    listed = pd.Series([g.split("|") for g in report["genes"]])
    genes = listed.explode()
    frame = pd.DataFrame({"protein": genes.index.to_numpy(), "gene": genes.to_numpy()})
    return frame[frame["gene"] != ""].reset_index(drop=True)


def _positions(wanted: pd.DataFrame, keys: list[pd.Series]) -> pd.DataFrame:
    """Return (protein, at) of every feature that is one of the genes, in any case."""
    import pandas as pd

    table = pd.concat(
        [pd.DataFrame({"key": k.to_numpy(), "at": np.arange(len(k))}) for k in keys],
        ignore_index=True,
    ).drop_duplicates()
    asked = wanted.assign(key=wanted["gene"].str.upper())
    found = asked.merge(table, on="key")[["protein", "at"]].drop_duplicates()
    return found.sort_values(["protein", "at"])


def _reasons(
    report: pd.DataFrame, wanted: pd.DataFrame, linked: set[int], where: str
) -> dict[int, str]:
    genes = wanted.groupby("protein")["gene"].agg(", ".join)
    reasons = {}
    for at, reason in enumerate(report["reason"]):
        if at not in linked:
            name = report.index[at]
            listed = genes.get(at, report["genes"].iloc[at].replace("|", ", "))
            reasons[at] = reason or f"{name}: {listed} not among the {where}"
    return reasons


def _places(frame: pd.DataFrame, rows: np.ndarray) -> Regions:
    from cellweave.linking import Regions as RegionsRecord

    picked = frame.iloc[rows]
    return RegionsRecord(
        chrom=picked["chrom"].to_numpy(dtype=object),
        starts=picked["start"].to_numpy(dtype=np.int64),
        ends=picked["end"].to_numpy(dtype=np.int64),
        strand=picked["strand"].to_numpy(dtype=object),
    )


def _nothing(request: LinkRequest, report: pd.DataFrame) -> str:
    matched = int((report["genes"] != "").sum())
    reason = next((r for r in report["reason"] if r), "their genes are not in the data")
    return (
        f"No protein of {request.source!r} meets {request.target!r}: {matched} of {len(report)} "
        f"names are known markers; {reason}. Expected gene symbols on the other side (index, or a "
        "var column 'symbol'). Give your own table (columns source, target) if names are special."
    )
