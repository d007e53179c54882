"""Gene–region links by distance on the genome.

Interval of a gene: its body; its promoter (``promoter_length`` upstream of the start of
transcription, and that base); or both together, ``combined``. A region at signed BED distance d
is linked when ``|d| <= reach``, with the weight ``((|d| + scale) / scale) ** -power``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.linking.assemble import take_parameters
from cellweave.linking.intervals import overlapping_pairs, signed_distance
from cellweave.linking.regions import Regions, chromosome_codes

if TYPE_CHECKING:
    from cellweave.records import LinkRequest

__all__ = [
    "DISTANCE_METHODS",
    "DistanceRule",
    "GenePairs",
    "distance_rule",
    "gene_intervals",
    "link_by_distance",
]

Anchor = Literal["combined", "gene_body", "promoter"]
# Method of a request to the part of the gene and the default reach.
DISTANCE_METHODS: Mapping[str, tuple[Anchor, int]] = {
    "combined": ("combined", 0),
    "gene_body": ("gene_body", 0),
    "promoter": ("promoter", 0),
    "window": ("promoter", 150_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceRule:
    """Say which part of a gene counts, how far a region may be, and how weight falls.

    Parameters
    ----------
    anchor
        ``"combined"``, ``"gene_body"`` or ``"promoter"``.
    promoter_length
        Bases upstream of the start of transcription.
    reach
        Largest distance; 0 asks for overlap.
    scale, power
        Of the decay; ``power=0`` gives every link the weight 1.
    """

    anchor: Anchor = "combined"
    promoter_length: int = 2000
    reach: int = 0
    scale: float = 1000.0
    power: float = 0.75

    def __post_init__(self) -> None:
        """Refuse lengths below zero and a decay that does not fall."""
        if self.anchor not in ("combined", "gene_body", "promoter"):
            msg = f"Got anchor={self.anchor!r}. Expected 'combined', 'gene_body' or 'promoter'."
            raise ConfigError(msg)
        if min(self.promoter_length, self.reach, self.power) < 0 or self.scale <= 0:
            msg = f"Got {self}. Lengths and power must be >= 0, scale > 0."
            raise ConfigError(msg)

    def weights(self, distances: np.ndarray) -> np.ndarray:
        """Return the weight at each distance, 1 at 0."""
        return ((np.abs(distances) + self.scale) / self.scale) ** -self.power


def distance_rule(request: LinkRequest) -> tuple[DistanceRule, int]:
    """Return the rule and the sign that a request asks for; unknown methods are refused.

    Methods are ``combined`` (default), ``gene_body``, ``promoter`` and ``window`` (150 kb around
    the promoter); parameters ``promoter_length``, ``window``, ``scale``, ``power``, ``sign``.
    """
    method = request.method or "combined"
    if method not in DISTANCE_METHODS:
        known = (*DISTANCE_METHODS, "gene_activity", "identity", "table", "correlation")
        msg = (
            f"Unknown method {method!r} to link {request.source!r} and {request.target!r}."
            f"{closest(method, known)} Available: {one_of(known)}."
        )
        raise ConfigError(msg)
    anchor, reach = DISTANCE_METHODS[method]
    known_values = {
        "promoter_length": 2000, "window": reach, "scale": 1000.0, "power": 0.75, "sign": 1,
    }  # fmt: skip
    values = take_parameters(request, known_values, what=method)
    if values["sign"] not in (-1, 1):
        msg = f"Got sign={values['sign']!r}. Expected 1, or -1 where openness silences a gene."
        raise ConfigError(msg)
    rule = DistanceRule(
        anchor=anchor,
        promoter_length=int(values["promoter_length"]),
        reach=int(values["window"]),
        scale=float(values["scale"]),
        power=float(values["power"]),
    )
    return rule, int(values["sign"])


@dataclass(frozen=True, slots=True, kw_only=True)
class GenePairs:
    """Hold pairs of genes and regions with their distance, and why others have none."""

    genes: np.ndarray
    regions: np.ndarray
    distances: np.ndarray
    weights: np.ndarray
    gene_reasons: Mapping[int, str]
    region_reasons: Mapping[int, str]


def gene_intervals(genes: Regions, rule: DistanceRule) -> Regions:
    """Return the part of each gene that ``rule`` asks for; no strand counts as ``+``."""
    reverse = genes.strand == "-"
    starts, ends = genes.starts, genes.ends
    if rule.anchor == "gene_body":
        return genes
    if rule.anchor == "promoter":
        starts, ends = np.where(reverse, ends - 1, starts), np.where(reverse, ends, starts + 1)
    starts = np.where(reverse, starts, np.maximum(starts - rule.promoter_length, 0))
    ends = np.where(reverse, ends + rule.promoter_length, ends)
    known = genes.known
    return replace(genes, starts=np.where(known, starts, 0), ends=np.where(known, ends, 0))


def link_by_distance(genes: Regions, regions: Regions, rule: DistanceRule) -> GenePairs:
    """Pair every gene with every region within the rule's reach.

    Raises
    ------
    DataError
        When the two sides share no chromosome: their names, or their genomes, differ.
    """
    placed = gene_intervals(genes, rule)
    gene_codes, region_codes = chromosome_codes(placed, regions)
    _require_shared(placed, regions)
    i, j = overlapping_pairs(
        (gene_codes, placed.starts, placed.ends),
        (region_codes, regions.starts, regions.ends),
        reach=rule.reach,
    )
    # Within no reach there is only overlap, at distance 0.
    distances = np.zeros(len(i), dtype=np.int64)
    if rule.reach:
        distances = signed_distance(
            placed.starts[i], placed.ends[i], regions.starts[j], regions.ends[j]
        )
    return GenePairs(
        genes=i,
        regions=j,
        distances=distances,
        weights=rule.weights(distances),
        gene_reasons=_reasons(placed, gene_codes, region_codes, "region"),
        region_reasons=_reasons(regions, region_codes, gene_codes, "gene"),
    )


def _require_shared(genes: Regions, regions: Regions) -> None:
    mine, theirs = set(genes.chrom[genes.known]), set(regions.chrom[regions.known])
    if mine and theirs and not mine & theirs:
        msg = (
            f"Genes lie on chromosomes such as {min(mine)!r}, regions on {min(theirs)!r}: none is "
            "shared. Expected coordinates of one genome. Give genes=TABLE of the regions' genome."
        )
        raise DataError(msg)


def _reasons(own: Regions, codes: np.ndarray, others: np.ndarray, what: str) -> dict[int, str]:
    """Explain features without a place, and those whose chromosome the other side lacks."""
    shared = np.zeros(max(codes.max(initial=0), others.max(initial=0)) + 1, dtype=bool)
    shared[others[others >= 0]] = True
    alone = np.flatnonzero((codes >= 0) & ~shared[codes])
    reasons = {int(i): f"no {what} lies on chromosome {own.chrom[i]}" for i in alone}
    return reasons | dict(own.problems)
