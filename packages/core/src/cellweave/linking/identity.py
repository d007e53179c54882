"""Links between features that are the same gene under the names the two sides use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.linking.assemble import build_links

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["gene_keys", "link_by_identity", "match_genes", "without_version"]

_KEY_COLUMNS = (
    "gene_ids", "gene_id", "ensembl_id", "feature_id", "symbol", "gene_symbol", "gene_symbols",
    "gene_name", "gene_names", "feature_name",
)  # fmt: skip


def without_version(names: pd.Series) -> pd.Series:
    """Drop the version of Ensembl identifiers (``ENSG….12``); symbols keep their dots."""
    return names.str.replace(r"^(ENS[A-Z]*\d{6,})\.\d+.*$", r"\1", regex=True)


def gene_keys(var: pd.DataFrame) -> list[pd.Series]:
    """Return every naming of the genes in ``var``: the index first, then known columns."""
    import pandas as pd

    named = [pd.Series(var.index.astype("str"), index=var.index)]
    named += [var[c].astype("str") for c in _KEY_COLUMNS if c in var.columns]
    return [without_version(keys) for keys in named]


def match_genes(source: pd.DataFrame, target: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of features that name the same gene, by any naming the two sides share.

    Exact names count first; only genes that none of them matched are tried in any case (mouse
    ``Cd3e`` and human ``CD3E``). A feature may meet several of the other side.
    """
    pairs = _pairs(gene_keys(source), gene_keys(target))
    folded = _pairs(
        [k.str.upper() for k in gene_keys(source)], [k.str.upper() for k in gene_keys(target)]
    )
    new = ~np.isin(folded[0], pairs[0]) & ~np.isin(folded[1], pairs[1])
    i = np.concatenate([pairs[0], folded[0][new]])
    j = np.concatenate([pairs[1], folded[1][new]])
    order = np.lexsort((j, i))
    return i[order], j[order]


def link_by_identity(request: LinkRequest) -> FeatureLinks:
    """Link features of equal name (any gene naming in ``var``, versions dropped) with weight 1."""
    rows, cols = match_genes(request.source_data.var, request.target_data.var)
    return build_links(
        request,
        rows=rows,
        cols=cols,
        weights=np.ones(len(rows)),
        evidence="identity",
        missing_source=f"no feature of {request.target} has this name",
        missing_target=f"no feature of {request.source} has this name",
        component="identity",
    )


def _pairs(source: list[pd.Series], target: list[pd.Series]) -> tuple[np.ndarray, np.ndarray]:
    left, right = _long(source), _long(target)
    joined = left.merge(right, on="key", how="inner").drop_duplicates(["at_x", "at_y"])
    joined = joined.sort_values(["at_x", "at_y"])
    return joined["at_x"].to_numpy(np.int64), joined["at_y"].to_numpy(np.int64)


def _long(keys: list[pd.Series]) -> pd.DataFrame:
    import pandas as pd

    frames = [pd.DataFrame({"key": k.to_numpy(), "at": np.arange(len(k))}) for k in keys]
    frame = pd.concat(frames, ignore_index=True).drop_duplicates()
    return frame[~frame["key"].isin(["", "nan", "None", "NaN"])]
