"""Continuous expression: the gene is the id, ``log1p(CP10K)`` is the value.

Rule (xTrimoGene, Gong et al. 2023; scFoundation, Hao et al. 2024): expressed genes in vocabulary
order with ``log1p(c / Σc · 1e4)``, Σ over the vocabulary; then two scalars, the target depth T and
the source depth S = log10(Σc), as tokens of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from cellweave.tokenizing.base import Body
from cellweave.tokenizing.frame import Frame
from cellweave.tokenizing.rows import Rows
from cellweave.tokenizing.table import TokenTable, table_from_names
from cellweave.tokenizing.values import ValueTokenizer as CoreValueTokenizer

__all__ = ["ValueTokenizer"]

_DEPTH = {"t": "<target_depth>", "s": "<source_depth>"}


@dataclass(kw_only=True, eq=False)
class ValueTokenizer(CoreValueTokenizer):
    """Give each expressed gene its continuous value.

    Further arguments are those of :class:`cellweave.tokenizing.ValueTokenizer`.

    Parameters
    ----------
    depth
        ``"none"``, or what T is: ``"fixed"`` (``depth_value``), ``"times"`` (log10 of the total
        times ``depth_value``), ``"plus"`` (log10 of the total plus ``depth_value``). T and S stand
        last, and are left out of a cell where they are not positive.
    depth_value
        scFoundation's ``t4`` is ``("fixed", 4)``, ``f5`` ``("times", 5)``, ``a1`` ``("plus", 1)``.
    """

    component: ClassVar[str] = "rna.values"
    modality: ClassVar[str] = "rna"

    depth: Literal["none", "fixed", "times", "plus"] = "none"
    depth_value: float = 4.0

    def _problems(self) -> list[str]:
        problems = super()._problems()
        if self.depth not in ("none", "fixed", "times", "plus"):
            problems.append(f"depth={self.depth!r}; expected 'none', 'fixed', 'times' or 'plus'")
        return problems

    def _finish(self) -> TokenTable:
        return table_from_names(
            list(self._learning["features"]),
            context=self._learnt_context(),
            extra=tuple(_DEPTH.values()) if self.depth != "none" else (),
            facts=self._facts(),
        )

    def _encoded(self, rows: Rows, frame: Frame) -> Body:
        if self.depth == "none":
            return super()._encoded(rows, frame)
        special = self.table.vocabulary.special
        total = self._totals(rows, rows.by_column(self.table.ids, missing=-1))
        source = np.log10(total).astype(np.float32)
        target = self._target_depth(total).astype(np.float32)
        n = rows.n
        depth_ids = np.tile(
            np.array([special["target_depth"], special["source_depth"]], np.int32), (n, 1)
        )
        wide = Frame(before=frame.before, after=np.hstack([depth_ids, frame.after]))
        body = super()._encoded(rows, wide)
        wide.fill(body.offsets, body.ids)
        if body.values is None:  # pragma: no cover - values are always written
            return body
        at = body.offsets[1:] - wide.after.shape[1]
        body.values[at], body.values[at + 1] = target, source
        return _without(body, np.concatenate([at[target <= 0], at[source <= 0] + 1]), wide)

    def _target_depth(self, total: np.ndarray) -> np.ndarray:
        if self.depth == "fixed":
            return np.full(len(total), self.depth_value)
        if self.depth == "times":
            return np.log10(total * self.depth_value)
        return np.log10(total) + self.depth_value


def _without(body: Body, places: np.ndarray, frame: Frame) -> Body:
    """Take single tokens out of the sequences."""
    if len(places) == 0:
        return body
    keep = np.ones(len(body.ids), dtype=bool)
    keep[places] = False
    removed = np.concatenate([[0], np.cumsum(~keep)])[body.offsets]
    offsets = body.offsets - removed
    values = None if body.values is None else body.values[keep]
    return Body(
        offsets=offsets,
        starts=frame.body_starts(offsets),
        lengths=body.lengths,
        ids=body.ids[keep],
        values=values,
    )
