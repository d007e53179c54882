"""Which feature of one modality says something about which feature of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.records._files import load_arrays, save_arrays
from cellweave.records.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

__all__ = ["FeatureLinks", "LinkRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRequest:
    """Ask the plugins which features of two modalities belong together.

    Parameters
    ----------
    source, target
        Modality names, e.g. ``"rna"`` and ``"atac"``.
    source_data, target_data
        The data; only ``var`` (and, for correlation, paired cells) may be read.
    genes
        GTF or coordinate table (``chrom, start, end, id, symbol, strand``), where one is needed.
    table
        The user's own table of links, reactions or pathways.
    method
        Name of a way to link where several exist; ``None`` takes the modality's default.
    parameters
        Further settings of the method (window, decay, organism …).
    """

    source: str
    target: str
    source_data: AnnData
    target_data: AnnData
    genes: Path | None = None
    table: Path | None = None
    method: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLinks:
    """Hold weighted, signed links between the features of two modalities, as triplets.

    Parameters
    ----------
    source, target
        Modality names.
    source_features, target_features
        All feature names of each side, in the order of the data.
    rows, cols
        ``(n_links,)`` int32 positions in the two feature arrays; each pair at most once.
    weights
        ``(n_links,)`` float32 in ``(0, 1]``.
    signs
        ``(n_links,)`` int8, ``+1`` or ``-1``.
    evidence
        ``(n_links,)`` names of the kind of evidence (``"distance"``, ``"marker"`` …).
    unmatched_source, unmatched_target
        Feature name to the reason why it has no link.
    provenance
        What made it.
    """

    source: str
    target: str
    source_features: np.ndarray
    target_features: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    weights: np.ndarray
    signs: np.ndarray
    evidence: np.ndarray
    unmatched_source: Mapping[str, str] = field(default_factory=dict)
    unmatched_target: Mapping[str, str] = field(default_factory=dict)
    provenance: Provenance | None = None

    def __post_init__(self) -> None:
        """Refuse triplets that do not fit the features, the ranges or each other."""
        problem = _first_misfit(self)
        if problem:
            msg = f"Links {self.source!r} to {self.target!r} are inconsistent: {problem}."
            raise DataError(msg)

    def __len__(self) -> int:
        """Count links."""
        return len(self.rows)

    def matrix(self, *, signed: bool = True) -> sp.csr_matrix:
        """Return ``(n_source, n_target)`` weights, times the sign unless ``signed=False``."""
        data = self.weights * self.signs if signed else self.weights
        shape = (len(self.source_features), len(self.target_features))
        return sp.csr_matrix((data.astype(np.float32), (self.rows, self.cols)), shape=shape)

    def reversed(self) -> FeatureLinks:
        """Return the same links with source and target exchanged."""
        return replace(
            self,
            source=self.target,
            target=self.source,
            source_features=self.target_features,
            target_features=self.source_features,
            rows=self.cols,
            cols=self.rows,
            unmatched_source=self.unmatched_target,
            unmatched_target=self.unmatched_source,
        )

    def restricted(self, *, source_features: Any, target_features: Any) -> FeatureLinks:
        """Keep the links between the given features, renumbered to their order."""
        import pandas as pd

        new_source = np.asarray(source_features).astype(str)
        new_target = np.asarray(target_features).astype(str)
        row_at = pd.Index(new_source).get_indexer(self.source_features)
        col_at = pd.Index(new_target).get_indexer(self.target_features)
        rows, cols = row_at[self.rows], col_at[self.cols]
        keep = (rows >= 0) & (cols >= 0)
        return replace(
            self,
            source_features=new_source,
            target_features=new_target,
            rows=rows[keep].astype(np.int32),
            cols=cols[keep].astype(np.int32),
            weights=self.weights[keep],
            signs=self.signs[keep],
            evidence=self.evidence[keep],
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row a link: source, target, weight, sign, evidence."""
        import pandas as pd

        return pd.DataFrame(
            {
                "source": self.source_features[self.rows],
                "target": self.target_features[self.cols],
                "weight": self.weights,
                "sign": self.signs,
                "evidence": self.evidence,
            }
        )

    def save(self, path: str | Path) -> None:
        """Write to one ``.npz`` file, atomically and with a manifest."""
        names = ("source_features", "target_features", "rows", "cols", "weights", "signs")
        arrays = {n: getattr(self, n) for n in names} | {"evidence": self.evidence.astype(str)}
        meta = {
            "source": self.source,
            "target": self.target,
            "unmatched_source": dict(self.unmatched_source),
            "unmatched_target": dict(self.unmatched_target),
            "provenance": self.provenance.to_dict() if self.provenance else None,
        }
        save_arrays(path, kind="feature_links", arrays=arrays, meta=meta)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote."""
        arrays, meta = load_arrays(path, kind="feature_links")
        provenance = meta.pop("provenance")
        values: dict[str, Any] = {**arrays, **meta}
        return cls(**values, provenance=Provenance.from_dict(provenance) if provenance else None)


def _first_misfit(links: FeatureLinks) -> str | None:
    n = len(links.rows)
    for name in ("cols", "weights", "signs", "evidence"):
        if len(getattr(links, name)) != n:
            return f"`{name}` has {len(getattr(links, name))} entries for {n} links"
    if n == 0:
        return None
    for name, limit in (("rows", len(links.source_features)), ("cols", len(links.target_features))):
        array = getattr(links, name)
        if array.min() < 0 or array.max() >= limit:
            return f"`{name}` reach from {array.min()} to {array.max()} for {limit} features"
    if not (np.all(links.weights > 0) and np.all(links.weights <= 1)):
        return "`weights` must lie in (0, 1]"
    if not np.all(np.isin(links.signs, (-1, 1))):
        return "`signs` must be +1 or -1"
    pair = links.rows.astype(np.int64) * len(links.target_features) + links.cols
    if not np.all(np.diff(pair) > 0) and not np.all(np.diff(np.sort(pair)) > 0):
        return "a pair of features occurs more than once"
    return None
