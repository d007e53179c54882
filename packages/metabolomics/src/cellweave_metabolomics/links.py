"""Which genes a metabolite meets in the reactions or pathways of the user's table.

The table is either pairs, ``metabolite, gene`` (optionally ``weight``, ``sign``, ``reaction``), or
members, ``reaction`` (or ``pathway``), ``member``, ``kind`` (``gene`` or ``metabolite``). Through
a set of g genes and m metabolites a pair gets the weight ``2 / (g + m)``; of several sets the
heaviest counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError, UnreadableFileError
from cellweave.linking import build_links, flipped, gene_keys, read_delimited, take_parameters
from cellweave_metabolomics.masses import share_of_masses

if TYPE_CHECKING:
    import pandas as pd

    from cellweave.records import FeatureLinks, LinkRequest

__all__ = ["link_features"]

_GENES = ("rna", "spatial")
_METHOD = "reactions"
_SETS = ("reaction", "pathway", "set")
_DEFAULTS = {"ppm": 5.0, "adducts": "[M+H]+,[M+Na]+,[M+K]+,[M+NH4]+"}
_NAME_COLUMNS = (
    "metabolite", "name", "annotation", "hmdb", "kegg", "chebi", "formula", "all_IsomerNames",
    "all_Isomers", "all_Formulas", "Species.Name", "Species.Name.Simple",
)  # fmt: skip


def link_features(request: LinkRequest) -> FeatureLinks | None:
    """Link metabolites to genes through a table; ``None`` when the pair or method is not ours."""
    other = request.target if request.source == "metab" else request.source
    if "metab" not in (request.source, request.target) or other not in _GENES:
        return None
    if request.method not in (None, _METHOD):
        return None
    if request.table is None:
        msg = (
            "Metabolites meet genes through reactions or pathways, and no table of them was given. "
            "Give table=PATH (on the command line --links PATH) with the columns metabolite, gene "
            "(or reaction, member, kind)."
        )
        raise DataError(msg)
    if request.target == "metab":
        return _from_metabolites(flipped(request)).reversed()
    return _from_metabolites(request)


def _from_metabolites(request: LinkRequest) -> FeatureLinks:
    settings = take_parameters(request, _DEFAULTS, what=_METHOD)
    frame = read_delimited(str(request.table))
    pairs = _pairs(frame, request)
    at_metabolite = _metabolite_positions(request, frame, pairs, settings)
    at_gene = _gene_positions(request, pairs)
    lines = at_metabolite.merge(at_gene, on="line")
    if lines.empty:
        raise DataError(_nothing(request, pairs, at_metabolite, at_gene))
    where = lines["line"].to_numpy()
    table = str(request.table.name) if request.table else ""
    return build_links(
        request,
        rows=lines["feature"].to_numpy(),
        cols=lines["gene"].to_numpy(),
        weights=pairs["weight"].to_numpy()[where],
        signs=pairs["sign"].to_numpy()[where].astype(np.int8),
        evidence=_METHOD,
        component="metab.reactions",
        missing_source=f"none of its names meets a gene of {request.target} in {table}",
        missing_target=f"meets no measured metabolite in {table}",
        details={**settings, "pairs_in_table": len(pairs)},
    )


def _pairs(frame: pd.DataFrame, request: LinkRequest) -> pd.DataFrame:
    """Return ``metabolite, gene, weight, sign``, one row a pair."""
    if {"metabolite", "gene"} <= set(frame.columns):
        pairs = frame.assign(
            weight=_numbers(frame, "weight", request), sign=_numbers(frame, "sign", request)
        )
    else:
        pairs = _through_sets(frame, request)
    weights, signs = pairs["weight"].to_numpy(), pairs["sign"].to_numpy()
    if len(pairs) and not ((weights > 0).all() and (weights <= 1).all() and _are_signs(signs)):
        msg = (
            f"The table {str(request.table)!r} has weights from {weights.min():g} to "
            f"{weights.max():g}. Expected weights in (0, 1] and signs +1 or -1. Rescale them."
        )
        raise DataError(msg)
    return pairs.reset_index(drop=True)


def _are_signs(signs: np.ndarray) -> bool:
    return bool(np.isin(signs, (-1, 1)).all())


def _numbers(frame: pd.DataFrame, column: str, request: LinkRequest) -> np.ndarray:
    import pandas as pd

    if column not in frame.columns:
        return np.ones(len(frame))
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(dtype=np.float64)
    if np.isnan(numbers).any():
        at = int(np.flatnonzero(np.isnan(numbers))[0])
        msg = f"Line {at + 2} of {str(request.table)!r}: {column} {frame[column].iloc[at]!r} "
        msg += "is not a number. Mend the table."
        raise DataError(msg)
    return numbers


def _through_sets(frame: pd.DataFrame, request: LinkRequest) -> pd.DataFrame:
    key = next((c for c in _SETS if c in frame.columns), None)
    if key is None or not {"member", "kind"} <= set(frame.columns):
        msg = (
            f"The table {str(request.table)!r} has the columns {list(frame.columns)[:10]!r}. "
            "Expected metabolite and gene, or reaction (or pathway), member and kind. Rename them."
        )
        raise UnreadableFileError(msg)
    kinds = frame["kind"].str.strip().str.lower()
    genes = frame.loc[kinds == "gene", [key, "member"]].drop_duplicates()
    metabolites = frame.loc[kinds == "metabolite"].drop_duplicates([key, "member"])
    genes = genes.rename(columns={"member": "gene"})
    metabolites = metabolites.rename(columns={"member": "metabolite"})
    n_genes, n_metabolites = genes[key].value_counts(), metabolites[key].value_counts()
    pairs = metabolites.merge(genes, on=key)
    members = pairs[key].map(n_genes) + pairs[key].map(n_metabolites)
    return pairs.assign(weight=2.0 / members, sign=1.0)


def _metabolite_positions(
    request: LinkRequest, frame: pd.DataFrame, pairs: pd.DataFrame, settings: dict[str, object]
) -> pd.DataFrame:
    """Return ``(line, feature)``: by any name in ``var``, and by exact mass where both have one."""
    import pandas as pd

    var = request.source_data.var
    named = _long_names(var)
    wanted = pd.DataFrame({"key": pairs["metabolite"].map(_plain), "line": np.arange(len(pairs))})
    found = wanted.merge(named, on="key")[["line", "feature"]]
    has_mass = {"mass", "formula"} & set(frame.columns)
    if has_mass and share_of_masses(var) == 1:
        found = pd.concat([found, _by_mass(request, pairs, settings)], ignore_index=True)
    return found.drop_duplicates()


def _by_mass(
    request: LinkRequest, pairs: pd.DataFrame, settings: dict[str, object]
) -> pd.DataFrame:
    import pandas as pd

    from cellweave_metabolomics.annotation import annotate

    columns = [c for c in ("mass", "formula") if c in pairs.columns]
    kept = pairs[columns].replace("", np.nan).dropna(subset=columns[:1])
    compounds = kept.assign(line=kept.index)
    adducts = [a.strip() for a in str(settings["adducts"]).split(",") if a.strip()]
    if compounds.empty:
        return pd.DataFrame({"line": [], "feature": []}, dtype=np.int64)
    hits = annotate(
        request.source_data, compounds, ppm=float(str(settings["ppm"])), adducts=adducts
    )
    at = request.source_data.var_names.get_indexer(hits["feature"])
    return pd.DataFrame({"line": hits["line"].to_numpy(dtype=np.int64), "feature": at})


def _gene_positions(request: LinkRequest, pairs: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    keys = gene_keys(request.target_data.var)
    table = pd.concat(
        [pd.DataFrame({"key": k.str.upper().to_numpy(), "gene": np.arange(len(k))}) for k in keys],
        ignore_index=True,
    ).drop_duplicates()
    wanted = pd.DataFrame(
        {"key": pairs["gene"].str.strip().str.upper(), "line": np.arange(len(pairs))}
    )
    return wanted.merge(table, on="key")[["line", "gene"]].drop_duplicates()


def _long_names(var: pd.DataFrame) -> pd.DataFrame:
    """Return every name of every feature; one cell may hold several, separated by ; or |."""
    import pandas as pd

    columns = [pd.Series(var.index.astype("str"))]
    columns += [var[c].astype("str").reset_index(drop=True) for c in _NAME_COLUMNS if c in var]
    parts = [c.str.split(r"[;|]|, (?=[A-Z])", regex=True).explode() for c in columns]
    long = pd.concat(parts)
    frame = pd.DataFrame({"key": long.map(_plain).to_numpy(), "feature": long.index.to_numpy()})
    return frame[~frame["key"].isin(["", "nan", "none"])].drop_duplicates()


def _plain(name: object) -> str:
    return str(name).strip().lower()


def _nothing(
    request: LinkRequest, pairs: pd.DataFrame, metabolites: pd.DataFrame, genes: pd.DataFrame
) -> str:
    return (
        f"No pair of the table {str(request.table)!r} is measured on both sides: of {len(pairs)} "
        f"pairs {metabolites['line'].nunique()} have their metabolite and "
        f"{genes['line'].nunique()} their gene. Expected names as in var (index, name, hmdb, kegg "
        "…), or a column formula or mass beside m/z. Check the names."
    )
