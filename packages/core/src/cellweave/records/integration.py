"""What an integrator gives back: coordinates, matches and feature vectors, all in input order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.errors import DataError, closest, one_of
from cellweave.records._files import load_arrays, save_arrays
from cellweave.records.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

__all__ = ["Agreement", "IntegrationResult", "Matches"]

_MAPPINGS = ("embeddings", "obs_names", "feature_embeddings", "feature_names", "history")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """Hold matched cells of two modalities: ``rows[k]`` with ``cols[k]`` at ``scores[k]``.

    ``rows`` and ``cols`` are int64 positions in the input order of ``source`` and ``target``;
    scores lie in ``[0, 1]``, higher is surer.
    """

    source: str
    target: str
    rows: np.ndarray
    cols: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Hold how well linked features of ``source`` agree with the cells of ``target`` beside them.

    ``scores`` are float32, between -1 and 1 where 0 is chance, a cell of ``source`` in input order;
    ``best`` is what the best agreeing cells of ``target`` would give; ``doubtful`` marks a group
    that stands apart.
    """

    source: str
    target: str
    scores: np.ndarray
    best: np.ndarray
    doubtful: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegrationResult:
    """Hold the outcome of weaving modalities together.

    Parameters
    ----------
    embeddings
        Modality to ``(n_cells, d)`` float32; all modalities share the ``d`` axes.
    obs_names
        Modality to cell names, in the order of the input.
    provenance
        What made it.
    matches
        Cell matches, where the method gives them.
    feature_embeddings, feature_names
        Modality to ``(n_features, d)`` and names, where the method embeds features.
    history
        Name of a quantity to its value per epoch or round: what was optimised.
    quality
        The method's own measures of how far to trust the result.
    advice
        Sentences for the user where the result looks poor: what is wrong, what to try.
    agreement
        How well each cell agrees with those beside it, told by ``cellweave.integrate``.
    """

    embeddings: Mapping[str, np.ndarray]
    obs_names: Mapping[str, np.ndarray]
    provenance: Provenance
    matches: tuple[Matches, ...] = ()
    feature_embeddings: Mapping[str, np.ndarray] = field(default_factory=dict)
    feature_names: Mapping[str, np.ndarray] = field(default_factory=dict)
    history: Mapping[str, np.ndarray] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    agreement: tuple[Agreement, ...] = ()

    def __post_init__(self) -> None:
        """Refuse embeddings that do not fit their names or each other."""
        problem = _first_misfit(self)
        if problem:
            msg = f"Integration result is inconsistent: {problem}."
            raise DataError(msg)

    def write(self, mdata: MuData, *, key_added: str | None = None) -> None:
        """Write into ``mdata``: ``obsm`` and ``varm`` per modality, provenance in ``uns``.

        Parameters
        ----------
        mdata
            The object that was integrated; cells must be the same, in the same order.
        key_added
            Key of the embedding; ``"X_<component>"`` when not given.
        """
        key = key_added or f"X_{self.provenance.component}"
        for modality in self.embeddings:
            self._check_cells(mdata, modality)
        for modality, values in self.embeddings.items():
            adata = mdata.mod[modality]
            adata.obsm[key] = values
            if modality in self.feature_embeddings:
                adata.varm[key] = self._features_of(modality, adata.var_names)
        for match in self.matches:
            confidence = np.zeros(mdata.mod[match.source].n_obs, dtype=np.float32)
            np.maximum.at(confidence, match.rows, match.scores)
            mdata.mod[match.source].obs[f"{key}_match_score_{match.target}"] = confidence
        for one in self.agreement:
            obs = mdata.mod[one.source].obs
            obs[f"{key}_agreement_{one.target}"] = one.scores
            obs[f"{key}_doubtful_{one.target}"] = one.doubtful
        mdata.uns[key] = {
            "provenance": self.provenance.to_json(),
            "quality": dict(self.quality),
            "advice": list(self.advice),
            "history": {k: np.asarray(v) for k, v in self.history.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write to one ``.npz`` file, atomically and with a manifest."""
        arrays: dict[str, np.ndarray] = {}
        for group in _MAPPINGS:
            for name, array in getattr(self, group).items():
                is_names = group in ("obs_names", "feature_names")
                arrays[f"{group}/{name}"] = array.astype(str) if is_names else np.asarray(array)
        for i, match in enumerate(self.matches):
            arrays |= {f"matches/{i}/{n}": getattr(match, n) for n in ("rows", "cols", "scores")}
        for i, one in enumerate(self.agreement):
            arrays |= {
                f"agreement/{i}/{n}": getattr(one, n) for n in ("scores", "best", "doubtful")
            }
        meta = {
            "agreement": [[a.source, a.target] for a in self.agreement],
            "matches": [[m.source, m.target] for m in self.matches],
            "quality": dict(self.quality),
            "advice": list(self.advice),
            "provenance": self.provenance.to_dict(),
        }
        save_arrays(path, kind="integration_result", arrays=arrays, meta=meta)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote."""
        arrays, meta = load_arrays(path, kind="integration_result")
        groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in _MAPPINGS}
        numbered: dict[str, dict[str, np.ndarray]] = {}
        for key, array in arrays.items():
            group, _, name = key.partition("/")
            if group in _MAPPINGS:
                groups[group][name] = array
            else:
                i, _, part = name.partition("/")
                numbered.setdefault(f"{group}/{i}", {})[part] = array
        matches = tuple(
            Matches(source=s, target=t, **numbered[f"matches/{i}"])
            for i, (s, t) in enumerate(meta["matches"])
        )
        agreement = tuple(
            Agreement(source=s, target=t, **numbered[f"agreement/{i}"])
            for i, (s, t) in enumerate(meta.get("agreement", ()))
        )
        return cls(
            **groups,
            matches=matches,
            agreement=agreement,
            quality=meta["quality"],
            advice=tuple(meta["advice"]),
            provenance=Provenance.from_dict(meta["provenance"]),
        )

    def _check_cells(self, mdata: MuData, modality: str) -> None:
        if modality not in mdata.mod:
            msg = (
                f"`mdata` has no modality {modality!r}.{closest(modality, mdata.mod)} "
                f"It has: {one_of(mdata.mod)}. Write the result to the object it was made from."
            )
            raise DataError(msg)
        names = np.asarray(mdata.mod[modality].obs_names, dtype=str)
        if not np.array_equal(names, self.obs_names[modality].astype(str)):
            msg = (
                f"`mdata[{modality!r}]` holds {len(names)} cells that are not the "
                f"{len(self.obs_names[modality])} integrated ones in their order. "
                "Write the result to the object it was made from."
            )
            raise DataError(msg)

    def _features_of(self, modality: str, var_names: Any) -> np.ndarray:
        import pandas as pd

        values = self.feature_embeddings[modality]
        at = pd.Index(self.feature_names[modality].astype(str)).get_indexer(var_names.astype(str))
        out = np.full((len(at), values.shape[1]), np.nan, dtype=np.float32)
        out[at >= 0] = values[at[at >= 0]]
        return out


def _first_misfit(result: IntegrationResult) -> str | None:
    if set(result.embeddings) != set(result.obs_names):
        return "`embeddings` and `obs_names` name different modalities"
    widths = {m: e.shape[1] for m, e in result.embeddings.items() if e.ndim == 2}
    if len(widths) != len(result.embeddings) or len(set(widths.values())) > 1:
        return f"embeddings must be 2-D with one common width, got {widths}"
    for modality, values in result.embeddings.items():
        if len(values) != len(result.obs_names[modality]):
            return (
                f"{modality!r} has {len(values)} rows for {len(result.obs_names[modality])} cells"
            )
        if not np.isfinite(values).all():
            return f"the embedding of {modality!r} holds NaN or infinity"
    for one in result.agreement:
        if len(one.scores) != len(result.obs_names.get(one.source, ())):
            return f"agreement of {one.source!r} has {len(one.scores)} scores"
    return None
