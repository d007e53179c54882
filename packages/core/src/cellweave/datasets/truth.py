"""What is known about simulated data: which features belong together, and which cells."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cellweave.datasets.joining import joined
from cellweave.errors import DataError
from cellweave.records import FeatureLinks, Provenance

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.datasets.world import World

__all__ = ["hide_pairing", "true_links", "truth_of"]


def truth_of(world: World) -> dict[str, Any]:
    """Return ``uns["truth"]``: the design as JSON, and which gene drives which feature."""
    genes = world.genes.table.index.to_numpy(dtype=object)
    drives: dict[str, dict[str, np.ndarray]] = {}
    for modality, features in world.features.items():
        drive = features.drive
        if "known" in drive:
            drive = drive[drive["known"]]
        drives[modality] = {
            "feature": features.table.index.to_numpy(dtype=object)[drive["feature"].to_numpy()],
            "gene": genes[drive["gene"].to_numpy()],
            "effect": drive["effect"].to_numpy(dtype=np.float32),
        }
    design = {k: dict(v) if hasattr(v, "items") else v for k, v in asdict(world.design).items()}
    return {"design": json.dumps(design, sort_keys=True), "drives": drives}


def true_links(mdata: MuData) -> tuple[FeatureLinks, ...]:
    """Return the links that the simulation used, for every two modalities of ``mdata``.

    Two features are linked when one gene drives both. The weight is the product of the two
    effects, scaled to at most 1; the sign is that product's sign. Features that were taken out
    of ``mdata`` are left out here too.
    """
    drives = _drives_of(mdata)
    return tuple(
        _links_between(mdata, drives, source, target)
        for source, target in combinations([m for m in mdata.mod if m in drives], 2)
    )


def hide_pairing(mdata: MuData, *, seed: int = 0) -> MuData:
    """Return a copy whose modalities look unpaired: own names, own order of cells.

    ``obs["pairing"]`` still tells which cells are the same.
    """
    rng = np.random.default_rng(seed)
    parts = {}
    for modality, adata in mdata.mod.items():
        part = adata[rng.permutation(adata.n_obs)].copy()
        part.obs_names = pd.Index([f"{modality}_{i:07d}" for i in range(part.n_obs)])
        parts[modality] = part
    return joined(parts, dict(mdata.uns))


def _drives_of(mdata: MuData) -> dict[str, Any]:
    try:
        return mdata.uns["truth"]["drives"]
    except KeyError:
        msg = (
            "`mdata.uns['truth']` is not there, so the true links are unknown. "
            "Give data made by `cellweave.datasets.simulate`."
        )
        raise DataError(msg) from None


def _links_between(mdata: MuData, drives: dict[str, Any], source: str, target: str) -> FeatureLinks:
    both = pd.merge(
        pd.DataFrame(dict(drives[source])), pd.DataFrame(dict(drives[target])), on="gene"
    )
    both["effect"] = both["effect_x"] * both["effect_y"]
    both = both.groupby(["feature_x", "feature_y"], sort=False)[["effect"]].sum().reset_index()
    names = {m: mdata.mod[m].var_names.to_numpy(dtype=str) for m in (source, target)}
    rows = pd.Index(names[source]).get_indexer(both["feature_x"].astype(str))
    cols = pd.Index(names[target]).get_indexer(both["feature_y"].astype(str))
    effect = both["effect"].to_numpy(dtype=np.float32)
    keep = np.flatnonzero((rows >= 0) & (cols >= 0) & (effect != 0))
    keep = keep[np.lexsort((cols[keep], rows[keep]))]
    strongest = np.abs(effect[keep]).max(initial=1e-6)
    return FeatureLinks(
        source=source,
        target=target,
        source_features=names[source],
        target_features=names[target],
        rows=rows[keep].astype(np.int32),
        cols=cols[keep].astype(np.int32),
        weights=(np.abs(effect[keep]) / strongest).astype(np.float32),
        signs=np.sign(effect[keep]).astype(np.int8),
        evidence=np.full(len(keep), "simulation"),
        provenance=Provenance(component="datasets.simulate", version="1"),
    )
