"""Check what a fit is given, all of it, before any work; then lay it out as arrays.

Features: of a modality that anchors the graph (``rna``, or else the first by name) those marked
``var["highly_variable"]``; of the others all that links reach from there. A panel (a modality of
at most 1 000 features: proteins, metabolites) is modelled where marked or linked, and brings its
linked partners in, highly variable or not: with tens of links none can be spared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, closest, one_of
from cellweave.weaving import InputRules, check_inputs, representation_key
from cellweave_glue.graph import reachable

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import FeatureLinks

__all__ = [
    "LIKELIHOODS",
    "InputSettings",
    "ModalityInput",
    "collect",
    "feature_masks",
    "likelihood_of",
]

LIKELIHOODS = ("nb", "zinb", "normal", "nb_mixture", "bernoulli")
COUNT_LIKELIHOODS = ("nb", "zinb", "nb_mixture")
_DEFAULT_LIKELIHOOD = {"prot": "normal", "metab": "normal"}
_PANEL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSettings:
    """Say where in the data to look."""

    use_rep: Mapping[str, str]
    likelihoods: Mapping[str, str]
    batch_key: str | None = None
    label_key: str | None = None
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalityInput:
    """Hold one modality as the networks take it.

    Parameters
    ----------
    representation
        ``(n_cells, k)`` float32 input of the encoder.
    values
        ``(n_cells, n_features)`` CSR what the decoder explains: counts, or normalised values.
    log_library
        ``(n_cells,)`` float32 log of the counts of each cell over the modelled features.
    features
        Names of the modelled features.
    batch, batches
        Code of each cell's batch, and the batches' names.
    label
        Code of each cell's label in the labels of the whole, ``-1`` where unknown.
    representation_key
        The ``obsm`` key it was read from.
    """

    name: str
    representation: np.ndarray
    values: sp.csr_matrix
    log_library: np.ndarray
    features: np.ndarray
    likelihood: str
    batch: np.ndarray
    batches: tuple[str, ...]
    label: np.ndarray
    obs_names: np.ndarray
    representation_key: str

    @property
    def n_cells(self) -> int:
        """Count cells."""
        return len(self.representation)


def collect(
    mdata: MuData, links: Sequence[FeatureLinks], settings: InputSettings
) -> tuple[dict[str, ModalityInput], tuple[FeatureLinks, ...], tuple[str, ...]]:
    """Return modalities sorted by name, links in the data's order, and label names.

    Everything is checked first; a refusal lists every problem at once.
    """
    rules = InputRules(method="GLUE", use_rep=settings.use_rep, batch_key=settings.batch_key)
    aligned = check_inputs(mdata, links, rules)
    names = tuple(sorted(mdata.mod))
    masks = feature_masks(mdata, aligned)
    problems = _option_problems(names, settings)
    for name in names:
        problems += _modality_problems(name, mdata.mod[name], masks[name], settings)
    if problems:
        raise _refusal(problems)
    labels = _label_names(mdata, names, settings)
    data = {m: _modality(m, mdata.mod[m], masks[m], settings, labels) for m in names}
    return data, aligned, labels


def _refusal(problems: Sequence[str]) -> DataError:
    if len(problems) == 1:
        return DataError(problems[0])
    listed = "\n".join(f"{i}. {problem}" for i, problem in enumerate(problems, 1))
    return DataError(f"GLUE cannot use these data, for {len(problems)} reasons:\n{listed}")


def _option_problems(names: tuple[str, ...], settings: InputSettings) -> list[str]:
    return [
        f"`likelihoods` names {key!r}, which is no modality of the data.{closest(key, names)} "
        f"There are: {one_of(names)}."
        for key in settings.likelihoods
        if key not in names
    ]


def feature_masks(mdata: MuData, links: Sequence[FeatureLinks]) -> dict[str, np.ndarray]:
    """Return the features to model by modality, as masks; links are in the order of the data."""
    anchor = "rna" if "rna" in mdata.mod else sorted(mdata.mod)[0]
    masks = {m: np.zeros(a.n_vars, dtype=bool) for m, a in mdata.mod.items()}
    panels = {m for m, a in mdata.mod.items() if a.n_vars <= _PANEL and m != anchor}
    masks[anchor] = _marked(mdata.mod[anchor])
    for link in (*links, *(link.reversed() for link in links)):
        if link.source in panels and link.target == anchor:
            masks[anchor][link.cols] = True
    reached = reachable(masks, [link for link in links if len(link)])
    reached[anchor] = masks[anchor]
    for panel in panels:
        reached[panel] |= _marked(mdata.mod[panel])
    return reached


def _marked(adata: AnnData) -> np.ndarray:
    if "highly_variable" not in adata.var:
        return np.ones(adata.n_vars, dtype=bool)
    return np.asarray(adata.var["highly_variable"], dtype=bool).copy()


def likelihood_of(name: str, settings: InputSettings) -> str:
    """Return the likelihood of a modality's values."""
    return settings.likelihoods.get(name, _DEFAULT_LIKELIHOOD.get(name, "nb"))


def _modality_problems(
    name: str, adata: AnnData, mask: np.ndarray, settings: InputSettings
) -> list[str]:
    here = f"mdata[{name!r}]"
    problems = _value_problems(here, name, adata, settings)
    if not mask.any():
        problems.append(
            f"No feature of {here} is linked to a modelled one. Check the links, or mark more "
            "genes in mdata['rna'].var['highly_variable']."
        )
    return problems


def _value_problems(here: str, name: str, adata: AnnData, settings: InputSettings) -> list[str]:
    likelihood = likelihood_of(name, settings)
    if likelihood not in LIKELIHOODS:
        near = closest(likelihood, LIKELIHOODS)
        known = one_of(LIKELIHOODS)
        return [f"Likelihood {likelihood!r} of {name!r} is unknown.{near} Known: {known}."]
    if likelihood == "normal":
        return []
    values = _stored(adata.layers["counts"])
    place = f"{here}.layers['counts']"
    if values.size and values.min() < 0:
        return [f"{place} holds {values.min():g}. Counts cannot be negative: give raw counts."]
    odd = values != np.round(values)
    if likelihood in COUNT_LIKELIHOODS and odd.any():
        problem = (
            f"{place} holds {values[odd][0]:g}, which is no count ({odd.mean():.0%} of the stored "
            f"values are not whole). Give raw counts, or set likelihoods={{{name!r}: 'normal'}} "
            "to model X."
        )
        return [problem]
    return []


def _stored(matrix: Any) -> np.ndarray:
    values: Any = matrix.data if hasattr(matrix, "indptr") else matrix
    return np.asarray(values)


def _label_names(mdata: MuData, names: tuple[str, ...], settings: InputSettings) -> tuple[str, ...]:
    if settings.label_key is None:
        return ()
    having = [m for m in names if settings.label_key in mdata.mod[m].obs]
    if not having:
        msg = (
            f"No modality has obs[{settings.label_key!r}]. Set label_key to a column of obs, or "
            "leave it out."
        )
        raise DataError(msg)
    found: set[str] = set()
    for m in having:
        column = mdata.mod[m].obs[settings.label_key]
        found |= set(column.dropna().astype(str).unique())
    return tuple(sorted(found - set(settings.unlabelled)))


def _modality(
    name: str,
    adata: AnnData,
    mask: np.ndarray,
    settings: InputSettings,
    labels: tuple[str, ...],
) -> ModalityInput:
    likelihood = likelihood_of(name, settings)
    matrix = adata.X if likelihood == "normal" else adata.layers["counts"]
    values = sp.csr_matrix(matrix[:, np.flatnonzero(mask)], dtype=np.float32)
    key = representation_key(name, adata, settings.use_rep)
    assert key is not None, "check_inputs comes first"
    batch, batches = _batches(adata, settings.batch_key)
    library = np.asarray(values.sum(1), dtype=np.float64).ravel()
    return ModalityInput(
        name=name,
        representation=np.ascontiguousarray(adata.obsm[key], dtype=np.float32),
        values=values,
        log_library=np.log(np.maximum(library, 1.0)).astype(np.float32),
        features=np.asarray(adata.var_names, dtype=str)[mask],
        likelihood=likelihood,
        batch=batch,
        batches=batches,
        label=_label_codes(adata, settings, labels),
        obs_names=np.asarray(adata.obs_names, dtype=str),
        representation_key=key,
    )


def _batches(adata: AnnData, key: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    if key is None or key not in adata.obs:
        return np.zeros(adata.n_obs, dtype=np.int64), ("",)
    names, codes = np.unique(np.asarray(adata.obs[key], dtype=str), return_inverse=True)
    return codes.astype(np.int64), tuple(names.tolist())


def _label_codes(adata: AnnData, settings: InputSettings, labels: tuple[str, ...]) -> np.ndarray:
    import pandas as pd

    if settings.label_key is None or settings.label_key not in adata.obs:
        return np.full(adata.n_obs, -1, dtype=np.int64)
    column = adata.obs[settings.label_key].astype(object)
    text = column.where(column.isna(), column.astype(str))
    return np.asarray(pd.Index(labels).get_indexer(text), dtype=np.int64)
