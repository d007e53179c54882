"""Links between features that belong to no single modality, and the joins that several share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.linking.assemble import build_links as build_links
    from cellweave.linking.assemble import flipped as flipped
    from cellweave.linking.assemble import take_parameters as take_parameters
    from cellweave.linking.correlation import link_by_correlation as link_by_correlation
    from cellweave.linking.distance import DistanceRule as DistanceRule
    from cellweave.linking.distance import distance_rule as distance_rule
    from cellweave.linking.distance import link_by_distance as link_by_distance
    from cellweave.linking.files import holds_links as holds_links
    from cellweave.linking.files import read_links as read_links
    from cellweave.linking.files import write_links as write_links
    from cellweave.linking.genes import GeneTable as GeneTable
    from cellweave.linking.genes import locate_genes as locate_genes
    from cellweave.linking.genes import read_gene_table as read_gene_table
    from cellweave.linking.identity import gene_keys as gene_keys
    from cellweave.linking.identity import link_by_identity as link_by_identity
    from cellweave.linking.identity import match_genes as match_genes
    from cellweave.linking.intervals import overlapping_pairs as overlapping_pairs
    from cellweave.linking.intervals import signed_distance as signed_distance
    from cellweave.linking.lines import open_limited as open_limited
    from cellweave.linking.regions import Regions as Regions
    from cellweave.linking.regions import region_columns as region_columns
    from cellweave.linking.regions import regions_of as regions_of
    from cellweave.linking.regions import require_regions as require_regions
    from cellweave.linking.regions import share_of_regions as share_of_regions
    from cellweave.linking.table import link_by_table as link_by_table
    from cellweave.linking.table import read_delimited as read_delimited
    from cellweave.linking.verb import link as link
    from cellweave.linking.verb import link_pair as link_pair

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DistanceRule": "cellweave.linking.distance",
        "GeneTable": "cellweave.linking.genes",
        "Regions": "cellweave.linking.regions",
        "build_links": "cellweave.linking.assemble",
        "distance_rule": "cellweave.linking.distance",
        "flipped": "cellweave.linking.assemble",
        "gene_keys": "cellweave.linking.identity",
        "link": "cellweave.linking.verb",
        "link_by_correlation": "cellweave.linking.correlation",
        "link_by_distance": "cellweave.linking.distance",
        "link_by_identity": "cellweave.linking.identity",
        "link_by_table": "cellweave.linking.table",
        "link_pair": "cellweave.linking.verb",
        "locate_genes": "cellweave.linking.genes",
        "match_genes": "cellweave.linking.identity",
        "open_limited": "cellweave.linking.lines",
        "overlapping_pairs": "cellweave.linking.intervals",
        "read_delimited": "cellweave.linking.table",
        "read_gene_table": "cellweave.linking.genes",
        "holds_links": "cellweave.linking.files",
        "read_links": "cellweave.linking.files",
        "region_columns": "cellweave.linking.regions",
        "regions_of": "cellweave.linking.regions",
        "require_regions": "cellweave.linking.regions",
        "share_of_regions": "cellweave.linking.regions",
        "signed_distance": "cellweave.linking.intervals",
        "take_parameters": "cellweave.linking.assemble",
        "write_links": "cellweave.linking.files",
    },
)
