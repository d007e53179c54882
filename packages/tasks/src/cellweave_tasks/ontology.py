"""The Cell Ontology as a graph: distance of a wrong label from the right one.

LCAD (lowest common ancestor distance): for each misclassified cell the length of the shortest
path from the lowest common ancestor of truth and prediction down to the truth; the mean over these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cellweave.errors import DataError, UnreadableFileError, closest

__all__ = ["Ontology"]


@dataclass(frozen=True, slots=True)
class Ontology:
    """Terms, their parents and their names.

    Parameters
    ----------
    parents
        Term id to the ids of its ``is_a`` parents.
    names
        Term id to its name.
    synonyms
        Name or exact synonym, in lower case, to term id.
    """

    parents: Mapping[str, tuple[str, ...]]
    names: Mapping[str, str] = field(default_factory=dict)
    synonyms: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_obo(cls, path: str | Path) -> Ontology:
        """Read terms, names, exact synonyms and ``is_a`` edges of an OBO file."""
        try:
            text = Path(path).read_text(encoding="utf8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"Cannot read the ontology {str(path)!r}: {error}. Give an OBO file."
            raise UnreadableFileError(msg) from error
        parents: dict[str, tuple[str, ...]] = {}
        names: dict[str, str] = {}
        synonyms: dict[str, str] = {}
        for stanza in text.split("\n[Term]\n")[1:]:
            _read_term(stanza.partition("\n\n")[0], parents, names, synonyms)
        if not parents:
            msg = f"{str(path)!r} holds no [Term]. Give an OBO file, e.g. cl-basic.obo."
            raise UnreadableFileError(msg)
        return cls(parents, names, synonyms)

    def id_of(self, label: str) -> str:
        """Return the term id of an id, a name or an exact synonym."""
        if label in self.parents:
            return label
        found = self.synonyms.get(label.strip().lower())
        if found is None:
            hint = closest(label.lower(), self.synonyms)
            msg = f"The ontology has no {label!r}.{hint} Map your labels to ids with `ids`."
            raise DataError(msg)
        return found

    def lca_distance(self, truth: str, predicted: str) -> int:
        """Return the steps from the nearest common ancestor down to ``truth``."""
        up_from_truth, up_from_predicted = self._ancestors(truth), self._ancestors(predicted)
        common = set(up_from_truth) & set(up_from_predicted)
        if not common:
            return max(up_from_truth.values()) + 1
        # Lowest: the fewest steps from both together, then from the truth.
        nearest = min(
            common, key=lambda t: (up_from_truth[t] + up_from_predicted[t], up_from_truth[t], t)
        )
        return up_from_truth[nearest]

    def mean_lca_distance(
        self, truth: np.ndarray, predicted: np.ndarray, ids: Mapping[str, str]
    ) -> float:
        """Return the mean over misclassified cells, 0 when there are none."""
        wrong = truth != predicted
        if not wrong.any():
            return 0.0
        pairs, counts = np.unique(
            np.stack([truth[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True
        )
        distances = [
            self.lca_distance(self.id_of(ids.get(a, a)), self.id_of(ids.get(b, b)))
            for a, b in pairs.tolist()
        ]
        return float(np.average(distances, weights=counts))

    def _ancestors(self, term: str) -> dict[str, int]:
        steps, queue = {term: 0}, deque([term])
        while queue:
            here = queue.popleft()
            for parent in self.parents.get(here, ()):
                if parent not in steps:
                    steps[parent] = steps[here] + 1
                    queue.append(parent)
        return steps


def _read_term(
    stanza: str,
    parents: dict[str, tuple[str, ...]],
    names: dict[str, str],
    synonyms: dict[str, str],
) -> None:
    lines = [line.partition(": ") for line in stanza.splitlines()]
    fields = [(key, value) for key, _, value in lines]
    term = next((value for key, value in fields if key == "id"), None)
    if term is None or ("is_obsolete", "true") in fields:
        return
    parents[term] = tuple(v.split(" ")[0] for k, v in fields if k == "is_a")
    for key, value in fields:
        if key == "name":
            names[term] = value
            synonyms[value.lower()] = term
        elif key == "synonym" and " EXACT " in value:
            synonyms.setdefault(value.split('"')[1].lower(), term)
