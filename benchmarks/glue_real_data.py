"""Real data for the GLUE benchmarks: draws, preparation, links, hidden pairing, and scores.

Data are found by the environment variable CELLWEAVE_DATA: a folder with ``cite_pbmc10k_10x``,
``snare_mouse_cortex`` and ``draws``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import mudata
import numpy as np
import scipy.sparse as sp

import cellweave
from cellweave.contracts.metric import MetricInput
from cellweave.datasets.joining import joined
from cellweave.evaluation.mixing import EntropyMixing, SeuratAlignment
from cellweave.evaluation.pairs import foscttm
from cellweave.kernels.neighbours import nearest
from cellweave.records import FeatureLinks

_LEFT_OUT = ("undefined", "Mis")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Prepared data whose pairing is hidden, and what is needed to judge a weave of it."""

    name: str
    mdata: mudata.MuData
    links: tuple[FeatureLinks, ...]
    other: str
    partner: np.ndarray
    labels: np.ndarray


def load(name: str, *, draw: bool, seed: int = 5) -> Case:
    """Return ``cite`` or ``snare``, whole or as the 2 500-cell draw."""
    root = Path(os.environ["CELLWEAVE_DATA"])
    folder, other, key = {
        "cite": ("cite_pbmc10k_10x", "prot", "adt"),
        "snare": ("snare_mouse_cortex", "atac", "atac"),
    }[name]
    raw = mudata.read_h5mu(root / folder / f"{folder}.h5mu")
    rna, second = raw.mod["rna"], raw.mod[key]
    names = rna.obs_names[~rna.obs["cell_type"].isin(_LEFT_OUT)]
    if draw:
        names = (root / "draws" / f"{name}2500.txt").read_text().split()
    kept_genes, kept = _seen(rna[names], 3), _seen(second[names], 1)
    links = None
    if name == "snare":
        table = sp.load_npz(root / folder / "gene_x_region_links.npz").tocsr()
        links = _links(
            table[kept_genes][:, kept], rna.var_names[kept_genes], second.var_names[kept]
        )
    labels = rna[names].obs["cell_type"].to_numpy(dtype=str)
    parts = {"rna": rna[names, kept_genes].copy(), other: second[names, kept].copy()}
    prepared = cellweave.prepare(joined(parts, {}))
    found = links if links is not None else tuple(cellweave.link(prepared))
    order = np.random.default_rng(seed).permutation(len(names))
    hidden = prepared.mod[other][order].copy()
    hidden.obs_names = [f"hidden{i}" for i in range(len(order))]
    mdata = joined({"rna": prepared.mod["rna"], other: hidden}, {})
    for adata in mdata.mod.values():
        adata.obs = adata.obs[[]]
    return Case(
        name=f"{name} {'2500' if draw else 'all'}",
        mdata=mdata,
        links=found,
        other=other,
        partner=np.argsort(order),
        labels=labels,
    )


def scores(case: Case, rna: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Return FOSCTTM and 1-NN label transfer, Euclidean and cosine, and how far modalities mix.

    ``mixing`` is the mean of Seurat alignment and omics entropy mixing, 1 at best.
    """
    cells = MetricInput(embeddings={"rna": rna, case.other: other})
    mixed = [kind().compute(cells)[0].value for kind in (SeuratAlignment, EntropyMixing)]
    out = {"mixing": float(np.mean(mixed))}
    other = other[case.partner]
    for short, metric in (("eu", "euclidean"), ("cos", "cosine")):
        out[f"foscttm_{short}"] = sum(foscttm(rna, other, metric=metric)) / 2
        at, _ = nearest(other, rna, 1, metric=metric)
        out[f"transfer_{short}"] = float((case.labels[at[:, 0]] == case.labels).mean())
    return out


def _seen(adata, n: int) -> np.ndarray:
    return np.flatnonzero(np.asarray((adata.X > 0).sum(0)).ravel() >= n)


def _links(table: sp.csr_matrix, genes, peaks) -> tuple[FeatureLinks, ...]:
    coo = table.tocoo()
    n = coo.nnz
    link = FeatureLinks(
        source="rna",
        target="atac",
        source_features=genes.to_numpy(dtype=str),
        target_features=peaks.to_numpy(dtype=str),
        rows=coo.row.astype(np.int32),
        cols=coo.col.astype(np.int32),
        weights=np.ones(n, dtype=np.float32),
        signs=np.ones(n, dtype=np.int8),
        evidence=np.full(n, "table"),
    )
    return (link,)
