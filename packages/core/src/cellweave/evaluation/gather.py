"""From a MuData to a :class:`MetricInput`: what is there is taken, what is not is told why."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError, closest, one_of
from cellweave.labels import is_known

if TYPE_CHECKING:
    from mudata import MuData

__all__ = ["column_of", "gather"]

_PREPARED = ("X_pca", "X_lsi")


def gather(
    mdata: MuData,
    *,
    use_rep: str,
    label_key: str | None,
    pairing: str | None,
    batch_key: str | None,
    seed: int,
) -> tuple[MetricInput, dict[str, str]]:
    """Return the input, and for each field that stays empty the reason."""
    embeddings = _embeddings(mdata, use_rep)
    labels = _columns(mdata, label_key, embeddings)
    batches = _columns(mdata, batch_key, embeddings)
    pairs = _pairing(mdata, pairing, embeddings)
    before = _before(mdata, use_rep, embeddings)
    reasons = {
        "labels": _absent("cell types", "label_key", label_key),
        "pairing": _no_pairs(pairing),
        "batches": _absent("batches", "batch_key", batch_key),
        "agreement": f"no modality has `{use_rep}_agreement_…` in obs, which `integrate` writes",
        "before": f"no modality has {' or '.join(_PREPARED)} from before the integration",
    }
    data = MetricInput(
        embeddings=embeddings,
        labels=labels or None,
        pairing=pairs,
        batches=batches or None,
        before=before,
        agreement=_agreement(mdata, use_rep, embeddings),
        seed=seed,
    )
    return data, {name: text for name, text in reasons.items() if not getattr(data, name)}


def column_of(mdata: MuData, modality: str, key: str) -> np.ndarray | None:
    """Return an ``obs`` column of a modality, its own or the one that ``mdata`` holds for it."""
    adata = mdata.mod[modality]
    if key in adata.obs:
        return np.asarray(adata.obs[key].astype(object))
    for name in (f"{modality}:{key}", key):
        if name in mdata.obs:
            return np.asarray(mdata.obs[name].astype(object).reindex(adata.obs_names))
    return None


def _embeddings(mdata: MuData, use_rep: str) -> dict[str, np.ndarray]:
    found = {m: np.asarray(a.obsm[use_rep]) for m, a in mdata.mod.items() if use_rep in a.obsm}
    known = {key for a in mdata.mod.values() for key in a.obsm}
    if not found:
        msg = (
            f"No modality has obsm[{use_rep!r}].{closest(use_rep, known)} "
            f"There are: {one_of(known)}. Write the embedding first: `result.write(mdata)`."
        )
        raise DataError(msg)
    widths = {m: values.shape[1] if values.ndim == 2 else 0 for m, values in found.items()}
    if len(set(widths.values())) > 1:
        msg = (
            f"obsm[{use_rep!r}] has {widths} columns. Expected one space for all modalities. "
            "Give the key that an integrator wrote."
        )
        raise DataError(msg)
    for modality, values in found.items():
        if len(values) == 0 or not np.isfinite(values).all():
            msg = (
                f"mdata[{modality!r}].obsm[{use_rep!r}] is empty or holds NaN or infinity. "
                "Expected a finite row per cell. Make the embedding again."
            )
            raise DataError(msg)
    return found


def _columns(
    mdata: MuData, key: str | None, embeddings: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    if key is None:
        return {}
    found = {m: column_of(mdata, m, key) for m in embeddings}
    return {
        m: values for m, values in found.items() if values is not None and is_known(values).any()
    }


def _pairing(
    mdata: MuData, pairing: str | None, embeddings: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
    if pairing is None or len(embeddings) < 2:
        return None
    if pairing == "obs_names":
        return {m: np.asarray(mdata.mod[m].obs_names, dtype=object) for m in embeddings}
    found = {m: column_of(mdata, m, pairing) for m in embeddings}
    missing = sorted(m for m, values in found.items() if values is None)
    if missing:
        known = {str(c) for m in embeddings for c in mdata.mod[m].obs.columns}
        msg = (
            f"pairing={pairing!r} is no column of `obs` in {one_of(missing)}."
            f"{closest(pairing, known)} There are: {one_of(known)}. "
            "Give one of them, 'obs_names', or None when the pairs are not known."
        )
        raise DataError(msg)
    ids = {m: values for m, values in found.items() if values is not None}
    for modality, values in ids.items():
        _refuse_repeats(modality, values[is_known(values)], pairing)
    return ids


def _refuse_repeats(modality: str, ids: np.ndarray, pairing: str) -> None:
    import pandas as pd

    index = pd.Index(ids)
    if index.is_unique:
        return
    twice = index[index.duplicated()][0]
    msg = (
        f"Pairing id {twice!r} occurs more than once in mdata[{modality!r}].obs[{pairing!r}]. "
        "Expected one cell per id. Give a column whose values are unique in each modality."
    )
    raise DataError(msg)


def _before(
    mdata: MuData, use_rep: str, embeddings: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    found = {}
    for modality in embeddings:
        obsm = mdata.mod[modality].obsm
        key = next((k for k in _PREPARED if k in obsm and k != use_rep), None)
        if key is not None:
            found[modality] = np.asarray(obsm[key])
    return found


def _agreement(
    mdata: MuData, use_rep: str, embeddings: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    found = {}
    for one, other in permutations(embeddings, 2):
        column = column_of(mdata, one, f"{use_rep}_agreement_{other}")
        if column is not None:
            found[f"{one}->{other}"] = column.astype(np.float64)
    return found


def _absent(what: str, argument: str, key: str | None) -> str:
    if key is None:
        return f"no {what} are given: set `{argument}`"
    return f"no modality has {what} in obs[{key!r}]: set `{argument}`"


def _no_pairs(pairing: str | None) -> str:
    if pairing is None:
        return "which cells are the same is not known: set `pairing`"
    return "there is one modality only"
