"""Which genes a peak may speak of: by distance on the genome, or by name for gene activities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.linking import (
    build_links,
    distance_rule,
    flipped,
    link_by_distance,
    link_by_identity,
    locate_genes,
    match_genes,
    read_gene_table,
    regions_of,
    require_regions,
    share_of_regions,
)

if TYPE_CHECKING:
    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["link_features"]

# Modalities whose features are genes; peaks meet proteins in the protein package.
_GENES = ("rna", "spatial")
_ELSEWHERE = ("identity", "table", "correlation")


def link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link genes to peaks, or to gene activities; ``None`` when the pair is not ours."""
    other = request.target if request.source == "atac" else request.source
    if "atac" not in (request.source, request.target) or other not in _GENES:
        return None
    if request.method in _ELSEWHERE or (request.method is None and request.table is not None):
        return None
    if request.source == "atac":
        return _from_genes(flipped(request)).reversed()
    return _from_genes(request)


def _from_genes(request: LinkRequest) -> FeatureLinks:
    peaks = request.target_data
    if request.method == "gene_activity" or (request.method is None and _are_activities(request)):
        links = link_by_identity(request)
        return _checked_activity(links, request)
    rule, sign = distance_rule(request)
    regions = regions_of(peaks.var)
    require_regions(regions, what=repr(request.target))
    table = read_gene_table(request.genes) if request.genes else None
    genes = locate_genes(request.source_data.var, table)
    if not genes.known.any():
        raise DataError(_no_genes(request, next(iter(genes.problems.values()), "")))
    pairs = link_by_distance(genes, regions, rule)
    reach = f"within {rule.reach:,} bases of" if rule.reach else "overlapping"
    return build_links(
        request,
        rows=pairs.genes,
        cols=pairs.regions,
        weights=pairs.weights,
        signs=np.full(len(pairs.genes), sign, dtype=np.int8),
        evidence="distance",
        component="atac.distance",
        missing_source=f"no peak {reach} its {rule.anchor} interval",
        missing_target=f"no gene with a {rule.anchor} interval {reach} it",
        reasons_source=pairs.gene_reasons,
        reasons_target=pairs.region_reasons,
        details={**_settings_of(rule), "sign": sign},
    )


def _are_activities(request: LinkRequest) -> bool:
    """Tell whether the features of the ATAC side carry names of genes of the other side."""
    if share_of_regions(request.target_data.var_names) > 0.5:
        return False
    return len(match_genes(request.source_data.var, request.target_data.var)[0]) > 0


def _checked_activity(links: FeatureLinks, request: LinkRequest) -> FeatureLinks:
    if len(links) == 0:
        examples = f"{request.source_data.var_names[0]!r}, {request.target_data.var_names[0]!r}"
        msg = (
            f"Features of {request.target!r} are neither peaks nor genes of {request.source!r} "
            f"({examples}). Expected names such as chr1:10-20, or gene activities with gene names."
        )
        raise DataError(msg)
    return links


def _no_genes(request: LinkRequest, example: str) -> str:
    return (
        f"No gene of {request.source!r} has a place on the genome: {example}. Expected "
        "var columns chrom, chromStart, chromEnd, strand, or a GTF or coordinate table of the "
        "genome of the peaks: give genes=PATH."
    )


def _settings_of(rule: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(rule)  # type: ignore[call-overload]
