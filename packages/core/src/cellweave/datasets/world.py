"""The world behind the cells: types, genes and how every other feature follows the genes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cellweave.datasets.design import SimulationDesign
from cellweave.datasets.names import (
    CHROMOSOMES,
    ISOTYPES,
    METABOLITES,
    PROTEINS,
    TYPES,
    feature_names,
)
from cellweave.datasets.sampling import stream

__all__ = ["Features", "Genes", "Types", "World", "build_world"]

_MARKER_STRENGTH = 2.2
_ENHANCER_REACH = 60_000
_PEAK_LENGTH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """Cell types: ``(n_types, n_states)`` centres, their parents, and the mixture of niches."""

    names: np.ndarray
    centres: np.ndarray
    parents: np.ndarray
    niche_mixtures: np.ndarray
    niche_centres: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Genes:
    """Genes: log level, loadings on the hidden state, and what marks a type."""

    table: pd.DataFrame
    level: np.ndarray
    loadings: np.ndarray
    markers: np.ndarray
    dispersion: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """Features of one modality and the genes that drive them.

    ``drive`` has one row a pair of feature and gene: ``feature``, ``gene`` (positions) and
    ``effect`` (signed). ``level`` is the log level; ``batch`` the log shift by batch.
    """

    table: pd.DataFrame
    level: np.ndarray
    drive: pd.DataFrame
    batch: np.ndarray
    dispersion: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that does not differ between cells."""

    design: SimulationDesign
    types: Types
    genes: Genes
    features: dict[str, Features]


def build_world(design: SimulationDesign) -> World:
    """Draw types, genes and the features of every modality of the design."""
    types = _draw_types(design)
    genes = _draw_genes(design)
    makers = {
        "rna": _rna_features,
        "atac": _atac_features,
        "prot": _prot_features,
        "spatial": _panel_features,
        "metab": _metab_features,
    }
    features = {}
    for modality in design.modalities:
        rng = stream(design.seed, f"features of {modality}")
        table, level, drive, dispersion = makers[modality](design, genes, rng)
        shifts = design.batch_strength * rng.standard_normal((design.batches, len(table)))
        shifts[0] = 0.0
        features[modality] = Features(
            table=table,
            level=level.astype(np.float32),
            drive=drive,
            batch=shifts.astype(np.float32),
            dispersion=dispersion.astype(np.float32),
        )
    return World(design=design, types=types, genes=genes, features=features)


def _draw_types(design: SimulationDesign) -> Types:
    rng = stream(design.seed, "types")
    names = feature_names(tuple(name for name, _ in TYPES), design.n_types, "Type ")
    centres = np.zeros((design.n_types, design.n_states))
    parents = np.zeros_like(centres)
    _grow(centres, parents, np.arange(design.n_types), rng)
    mixtures = rng.dirichlet(np.full(design.n_types, 0.7), size=design.n_niches)
    # Every type lives in every niche a little, so that none is lost from small data.
    mixtures = 0.6 * mixtures + 0.4 / design.n_types
    return Types(
        names=np.asarray(names, dtype=object),
        centres=centres.astype(np.float32),
        parents=parents.astype(np.float32),
        niche_mixtures=mixtures,
        niche_centres=rng.random((design.n_niches, 2)),
    )


def _grow(
    centres: np.ndarray, parents: np.ndarray, leaves: np.ndarray, rng: np.random.Generator
) -> None:
    """Split ``leaves`` in two until each stands alone, moving each side by a random branch."""
    if len(leaves) == 1:
        return
    for side in np.array_split(leaves, 2):
        parents[side] = centres[side]
        branch = rng.standard_normal(centres.shape[1])
        centres[side] += branch
        _grow(centres, parents, side, rng)


def _draw_genes(design: SimulationDesign) -> Genes:
    rng = stream(design.seed, "genes")
    known = tuple(dict.fromkeys(gene for _, genes in TYPES for gene in genes))
    table = _place_genes(feature_names(known, design.n_genes, "GENE"), rng)
    level = rng.normal(0.0, 1.2, design.n_genes)
    level[: len(known)] = rng.normal(0.5, 0.5, min(len(known), design.n_genes))
    # A gene programme is a column: each gene takes part in about two of them.
    part = rng.random((design.n_genes, design.n_states)) < 2 / design.n_states
    loadings = part * rng.normal(0.0, 0.45, part.shape)
    return Genes(
        table=table,
        level=level.astype(np.float32),
        loadings=loadings.astype(np.float32),
        markers=_marker_table(design, list(table.index), rng),
        dispersion=rng.gamma(4.0, 0.75, design.n_genes).astype(np.float32) + 0.5,
    )


def _marker_table(
    design: SimulationDesign, genes: list[str], rng: np.random.Generator
) -> np.ndarray:
    at = {gene: i for i, gene in enumerate(genes)}
    markers = np.zeros((design.n_types, len(genes)), dtype=np.float32)
    free = np.arange(min(60, len(genes) - 1), len(genes))
    for t in range(design.n_types):
        named = TYPES[t][1] if t < len(TYPES) else ()
        drawn = rng.choice(free, size=min(12, len(free)), replace=False)
        chosen = [at[gene] for gene in named if gene in at] + drawn.tolist()
        markers[t, chosen] = _MARKER_STRENGTH * rng.uniform(0.6, 1.2, len(chosen))
    return markers


def _place_genes(names: list[str], rng: np.random.Generator) -> pd.DataFrame:
    chromosomes, megabases = zip(*CHROMOSOMES, strict=True)
    share = np.asarray(megabases) / sum(megabases)
    which = rng.choice(len(chromosomes), size=len(names), p=share)
    length = rng.integers(2_000, 80_000, len(names))
    start = (rng.uniform(0.01, 0.98, len(names)) * np.asarray(megabases)[which] * 1e6).astype(int)
    return pd.DataFrame(
        {
            "chrom": np.asarray(chromosomes)[which],
            "chromStart": start,
            "chromEnd": start + length,
            "strand": np.where(rng.random(len(names)) < 0.5, "+", "-"),
        },
        index=pd.Index(names),
    )


_Drawn = tuple[pd.DataFrame, np.ndarray, pd.DataFrame, np.ndarray]


def _drive(feature: np.ndarray, gene: np.ndarray, effect: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"feature": feature, "gene": gene, "effect": effect})


def _rna_features(design: SimulationDesign, genes: Genes, _: np.random.Generator) -> _Drawn:
    every = np.arange(design.n_genes)
    return genes.table, genes.level, _drive(every, every, np.ones(len(every))), genes.dispersion


def _panel_features(design: SimulationDesign, genes: Genes, rng: np.random.Generator) -> _Drawn:
    spread = np.abs(genes.loadings).sum(axis=1) + genes.markers.max(axis=0)
    chosen = np.sort(np.argsort(-spread, kind="stable")[: design.n_panel])
    efficiency = rng.normal(0.0, 0.4, len(chosen))
    drive = _drive(np.arange(len(chosen)), chosen, np.ones(len(chosen)))
    table = genes.table.iloc[chosen].copy()
    return table, genes.level[chosen] + efficiency, drive, genes.dispersion[chosen]


def _atac_features(design: SimulationDesign, genes: Genes, rng: np.random.Generator) -> _Drawn:
    n = design.n_peaks
    gene = np.where(rng.random(n) < 0.7, rng.integers(0, design.n_genes, n), -1)
    gene[: min(n, design.n_genes)] = np.arange(min(n, design.n_genes))
    table = _place_peaks(genes.table, gene, design.n_genes, rng)
    order = np.lexsort((table["chromStart"], table["chrom"]))
    table, gene = table.iloc[order], gene[order]
    linked = np.flatnonzero(gene >= 0)
    effect = rng.uniform(0.5, 1.1, len(linked))
    # Peaks of no gene of ours open with a random gene's programme or are always open.
    stray = np.flatnonzero(gene < 0)
    free = stray[rng.random(len(stray)) < 0.5]
    level = rng.normal(0.0, 1.0, n)
    drive = _drive(linked, gene[linked], effect)
    hidden = _drive(free, rng.integers(0, design.n_genes, len(free)), np.full(len(free), 0.5))
    drive = pd.concat([drive.assign(known=True), hidden.assign(known=False)], ignore_index=True)
    return table, level, drive, np.full(n, 8.0)


def _place_peaks(
    genes: pd.DataFrame, gene: np.ndarray, n_promoters: int, rng: np.random.Generator
) -> pd.DataFrame:
    n = len(gene)
    stray = _place_genes([str(i) for i in range(n)], rng)
    forward = genes["strand"].to_numpy() == "+"
    starts, ends = genes["chromStart"].to_numpy(), genes["chromEnd"].to_numpy()
    tss = np.where(forward, starts, ends)
    distance = rng.laplace(0.0, _ENHANCER_REACH, n).clip(-140_000, 140_000).astype(int)
    distance[:n_promoters] = rng.integers(-400, 100, min(n, n_promoters))
    centre = np.where(gene >= 0, tss[gene] + distance, stray["chromStart"]).clip(_PEAK_LENGTH)
    chrom = np.where(gene >= 0, genes["chrom"].to_numpy()[gene], stray["chrom"])
    table = pd.DataFrame({"chrom": chrom, "chromStart": centre - _PEAK_LENGTH // 2})
    # Two peaks on one spot move apart by a base each, so that names stay unique.
    while (again := table.duplicated()).any():
        table.loc[again, "chromStart"] += 1
    table["chromEnd"] = table["chromStart"] + _PEAK_LENGTH
    table["strand"] = "."
    table.index = pd.Index(
        [f"{c}:{s}-{e}" for c, s, e in zip(table.chrom, table.chromStart, table.chromEnd)]
    )
    return table


def _prot_features(design: SimulationDesign, genes: Genes, rng: np.random.Generator) -> _Drawn:
    n_isotypes = min(len(ISOTYPES), design.n_proteins // 5)
    n_targets = min(design.n_proteins - n_isotypes, design.n_genes)
    at = {gene: i for i, gene in enumerate(genes.table.index)}
    known = [(name, at[gene]) for name, gene in PROTEINS if gene in at][:n_targets]
    taken = {gene for _, gene in known}
    rest = (i for i in range(design.n_genes) if i not in taken)
    known += [(f"PROT{i:05d}", next(rest)) for i in range(1, n_targets - len(known) + 1)]
    names = [name for name, _ in known] + list(ISOTYPES[:n_isotypes])
    table = pd.DataFrame(
        {"isotype_control": np.arange(len(names)) >= n_targets}, index=pd.Index(names)
    )
    gene = np.asarray([g for _, g in known])
    drive = _drive(np.arange(n_targets), gene, rng.uniform(0.8, 1.2, n_targets))
    level = np.where(table["isotype_control"], -np.inf, rng.normal(0.0, 0.5, len(names)))
    return table, level, drive, np.full(len(names), 6.0)


def _metab_features(design: SimulationDesign, genes: Genes, rng: np.random.Generator) -> _Drawn:
    n = design.n_metabolites
    names = feature_names(tuple(name for name, _ in METABOLITES), n, "METAB")
    mz = np.round(rng.uniform(70.0, 900.0, n), 4)
    mz[: len(METABOLITES)] = [m for _, m in METABOLITES[:n]]
    pathway = rng.integers(0, max(n // 6, 1), n)
    enzymes = rng.integers(0, design.n_genes, (pathway.max() + 1, 6))
    # Three enzymes of its pathway make a metabolite, one uses it up.
    pick = np.argsort(rng.random((n, 6)), axis=1)[:, : min(4, design.n_genes)]
    gene = enzymes[pathway[:, None], pick].ravel()
    effect = (rng.uniform(0.4, 0.9, pick.shape) * np.array([1, 1, 1, -1])[: pick.shape[1]]).ravel()
    drive = _drive(np.repeat(np.arange(n), pick.shape[1]), gene, effect)
    drive = drive.drop_duplicates(["feature", "gene"], ignore_index=True)
    table = pd.DataFrame({"mz": mz, "pathway": [f"pathway {p}" for p in pathway]}, index=names)
    return table, rng.normal(6.0, 1.2, n), drive, np.full(n, 0.45)
