"""Top regulatory links of a report: genes and regions, drawn on the genome and listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellweave import pl
from cellweave.reporting.numbers import format_number
from cellweave.reporting.page import Block, Figure, Section, Table

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult

__all__ = ["links_section"]

_PLACES = ("chrom", "chromStart", "chromEnd")
_GENES_DRAWN, _LINKS_LISTED, _FEWEST = 3, 12, 3


def links_section(
    mdata: MuData,
    result: IntegrationResult | None,
    links: Sequence[FeatureLinks] | pd.DataFrame | None,
) -> Section | None:
    """Draw the genes with the strongest links; ``None`` when no link joins two placed features."""
    for table, source, target, value in _tables(mdata, result, links):
        genes, regions = mdata.mod[source].var, mdata.mod[target].var
        if not len(table):
            continue
        ranked = _best_genes(table, value)
        figures = [_figure(table, genes, regions, gene, value) for gene in ranked]
        lead = (
            "Arcs join a gene's start to its regions; thicker is stronger, blue raises, red "
            f"lowers. Strength: {_MEANING.get(value, value)}."
        )
        blocks: tuple[Block, ...] = (*figures, _listing(table, value))
        return Section(title="Top regulatory links", lead=lead, blocks=blocks)
    return None


_MEANING = {
    "weight": "the prior weight of the link, not yet judged by the data",
    "score": "similarity of gene and region in the fitted space",
}


def _tables(
    mdata: MuData,
    result: IntegrationResult | None,
    links: Sequence[FeatureLinks] | pd.DataFrame | None,
) -> list[tuple[pd.DataFrame, str, str, str]]:
    """Return tables of links between modalities whose features have places, genes as source."""
    if links is None:
        return []
    placed = [m for m, a in mdata.mod.items() if all(c in a.var for c in _PLACES)]
    if not isinstance(links, Sequence):
        return _from_frame(mdata, links, placed)
    found = []
    for given in links:
        if given.source not in placed or given.target not in placed or not len(given):
            continue
        link = given.reversed() if "strand" not in mdata.mod[given.source].var else given
        if _are_regions(mdata, link.source) and not _are_regions(mdata, link.target):
            link = link.reversed()
        table, value = _scored(link, result)
        found.append((table, link.source, link.target, value))
    return found


def _are_regions(mdata: MuData, modality: str) -> bool:
    """Tell features named by their place (``chr1:100-600``) from genes."""
    names = mdata.mod[modality].var_names[:50]
    return bool(names.str.contains(r"[:_-]\d+[-_]\d+$", regex=True).mean() > 0.5)


def _from_frame(
    mdata: MuData, links: pd.DataFrame, placed: list[str]
) -> list[tuple[pd.DataFrame, str, str, str]]:
    value = next((c for c in ("score", "weight") if c in links), None)
    if value is None or not {"source", "target"} <= set(links):
        return []
    homes = [_home(mdata, placed, links[column]) for column in ("source", "target")]
    if homes[0] is None or homes[1] is None:
        return []
    return [(links, homes[0], homes[1], value)]


def _home(mdata: MuData, placed: list[str], names: pd.Series) -> str | None:
    shares = {m: names.astype(str).isin(mdata.mod[m].var_names).mean() for m in placed}
    best = max(shares, key=lambda m: shares[m], default=None)
    return best if best is not None and shares[best] > 0.5 else None


def _scored(link: FeatureLinks, result: IntegrationResult | None) -> tuple[pd.DataFrame, str]:
    """Add the cosine of feature embeddings where the method has them."""
    import pandas as pd

    table = link.to_frame()
    embedded = result.feature_embeddings if result is not None else {}
    if result is None or link.source not in embedded or link.target not in embedded:
        return table, "weight"
    at = [
        pd.Index(result.feature_names[m].astype(str)).get_indexer(table[column].astype(str))
        for m, column in ((link.source, "source"), (link.target, "target"))
    ]
    known = (at[0] >= 0) & (at[1] >= 0)
    x, y = embedded[link.source][at[0][known]], embedded[link.target][at[1][known]]
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    table = table[known].assign(score=(x * y).sum(axis=1) / np.maximum(norms, 1e-12))
    return table.assign(sign=np.sign(table["score"])), "score"


def _best_genes(table: pd.DataFrame, value: str) -> list[str]:
    """Return the genes whose three strongest links are the strongest, ties by name."""
    strength = table.assign(strength=table[value].abs()).sort_values(
        ["strength", "source", "target"], ascending=[False, True, True], kind="stable"
    )
    top = strength.groupby("source", sort=True)["strength"].agg(lambda s: s.iloc[:_FEWEST].sum())
    ranked = top.sort_values(ascending=False, kind="stable")
    return [str(name) for name in ranked.index[:_GENES_DRAWN]]


def _figure(
    table: pd.DataFrame, genes: pd.DataFrame, regions: pd.DataFrame, gene: str, value: str
) -> Figure:
    ax = pl.links_on_genome(table, genes, regions, gene=gene, value=value)
    n = int((table["source"].astype(str) == gene).sum())
    return Figure(
        name="links-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in gene)[:40],
        title=f"Links of {gene}",
        canvas=ax.figure,  # type: ignore[arg-type]
        look_for=f"{gene}: {n} linked regions.",
        wide=True,
    )


def _listing(table: pd.DataFrame, value: str) -> Table:
    order = np.lexsort((table["target"], table["source"], -table[value].abs()))
    top = table.iloc[order[:_LINKS_LISTED]]
    columns = [c for c in ("source", "target", value, "p_value", "q_value", "evidence") if c in top]
    rows = [
        tuple(format_number(v) if isinstance(v, float) else str(v) for v in row)
        for row in top[columns].astype(object).itertuples(index=False)
    ]
    return Table(title=f"The {len(rows)} strongest of {len(table):,}", header=columns, rows=rows)
