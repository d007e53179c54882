"""Numbers that say how good something is, each with its meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from cellweave.errors import DataError
from cellweave.records._files import read_json_record, write_json_record
from cellweave.records.provenance import Provenance

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

__all__ = ["Score", "Scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number.

    Parameters
    ----------
    metric
        Name, e.g. ``"foscttm"``.
    value
        The number; ``None`` when it could not be computed, with the reason in ``note``.
    method
        What was scored: an embedding key, a model, a baseline.
    group
        Sub-group (a cell type, a direction ``"rna->atac"``); empty for the whole.
    higher_is_better
        Direction; ``None`` for descriptive numbers.
    best, chance
        Value of a perfect result, and of a random one where that is known.
    seed
        Seed of the run, where several were made.
    note
        What a reader must know (log base, why it is missing).
    """

    metric: str
    value: float | None
    method: str = ""
    group: str = ""
    higher_is_better: bool | None = True
    best: float | None = None
    chance: float | None = None
    seed: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Hold scores, in the order they were computed, with what they were computed from."""

    items: tuple[Score, ...]
    provenance: Provenance | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    def value(self, metric: str, *, method: str | None = None, group: str = "") -> float:
        """Return one number, or raise naming the scores there are."""
        for score in self.items:
            if score.metric == metric and score.group == group and method in (None, score.method):
                if score.value is None:
                    msg = f"Score {metric!r} was not computed: {score.note}"
                    raise DataError(msg)
                return score.value
        known = sorted({f"{s.metric} ({s.group})" if s.group else s.metric for s in self.items})
        msg = f"There is no score {metric!r} for group {group!r}. There are: {', '.join(known)}."
        raise DataError(msg)

    def to_frame(self) -> pd.DataFrame:
        """Return one row a score."""
        import pandas as pd

        return pd.DataFrame([asdict(score) for score in self.items])

    def to_json(self) -> str:
        """Return JSON text with sorted keys."""
        return json.dumps(self._to_dict(), sort_keys=True, indent=1)

    def save(self, path: str | Path) -> None:
        """Write to a JSON file, atomically and with a manifest."""
        write_json_record(path, kind="scores", values=self._to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote."""
        values = read_json_record(path, kind="scores")
        provenance = values["provenance"]
        return cls(
            items=tuple(Score(**item) for item in values["items"]),
            provenance=Provenance.from_dict(provenance) if provenance else None,
            summary=values["summary"],
        )

    def _to_dict(self) -> dict[str, Any]:
        return {
            "items": [asdict(score) for score in self.items],
            "provenance": self.provenance.to_dict() if self.provenance else None,
            "summary": dict(self.summary),
        }
