"""Names of antibodies to markers, and markers to genes.

The table ``data/markers.tsv`` is ours: marker, other names, human genes, mouse genes where they
are not the same symbols in another case, and a note. A complex names every chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Marker", "MarkerTable", "is_hashtag", "is_isotype", "match_markers"]

_PREFIX = re.compile(
    r"^(?:anti|p|prot|protein|adt|ab|cite|hu|human|mu|ms|mouse|hums|msrt|totalseq[a-d]?)[-_.: ]+",
    re.IGNORECASE,
)
_SUFFIX = re.compile(
    r"(?:[-_. ]+(?:total ?seq[-_ ]?[abcd]?|tsa|tsb|tsc|adt|ab|prot|protein|cite|antibody))+$",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"[(\[].*?[)\]]")
_BARCODE = re.compile(r"[-_ ][ACGT]{10,}$")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9-]|(?<!\d)-|-(?!\d)")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)[^a-z0-9]+(?=\d)")
_CLUSTER = re.compile(r"CD\d+[a-z]?", re.IGNORECASE)
_SEPARATOR = re.compile(r"[-_. |/:]")
_ISOTYPE = re.compile(
    r"isotype|iso[-_ ]?c(?:tr|on)|(?:^|[-_. ])(?:neg(?:ative)?[-_ ]?)?(?:ctrl|control)(?:$|[-_. ])"
    r"|(?:mouse|rat|hamster|rabbit|goat|^|[-_. ])ig(?:g[1-4][abck]{0,2}|gk)(?:$|[-_., ])",
    re.IGNORECASE,
)
_HASHTAG = re.compile(
    r"hash[-_ ]?tag|(?:^|[-_. ])(?:hto|cmo|lmo)[-_ ]?[a-z]?\d*|sample[-_ ]?tag|multi[-_]?seq",
    re.IGNORECASE,
)
_GREEK = {"α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "κ": "k", "λ": "l", "μ": "m"}
_SPELT = {"alpha": "a", "beta": "b", "gamma": "g", "delta": "d", "epsilon": "e", "kappa": "k"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """One marker: its name, other names, genes in human and mouse, and a note."""

    name: str
    aliases: tuple[str, ...]
    genes: tuple[str, ...]
    mouse_genes: tuple[str, ...]
    note: str

    def all_genes(self) -> tuple[str, ...]:
        """Return human symbols, then mouse symbols that are written otherwise."""
        return self.genes + tuple(g for g in self.mouse_genes if g.upper() not in self.genes)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkerTable:
    """Find markers by the names that panels give them."""

    markers: tuple[Marker, ...]
    by_key: Mapping[str, Marker]

    @classmethod
    def of(cls, markers: Iterable[Marker]) -> MarkerTable:
        """Index markers by every spelling; of two that claim one, the first keeps it."""
        markers = tuple(markers)
        by_key: dict[str, Marker] = {}
        for names in ("name", "aliases"):
            for marker in markers:
                given = (marker.name,) if names == "name" else marker.aliases
                for key in (k for n in given for k in (_key(n), _short_key(n))):
                    by_key.setdefault(key, marker)
        return cls(markers=markers, by_key=by_key)

    @classmethod
    def read(cls, path: str | Path) -> MarkerTable:
        """Read a table of the user's with the columns of ours (only marker and genes needed)."""
        from cellweave.linking import read_delimited

        frame = read_delimited(path, required=("marker", "genes"))
        return cls.of(_marker(dict(zip(frame.columns, row))) for row in frame.to_numpy())

    def find(self, name: str) -> tuple[Marker | None, str]:
        """Return the marker that ``name`` means and how it was found; ``None`` when it is not.

        Tried in order: the whole name; without prefix, suffix, brackets and barcode; the same cut
        from the right at separators, which drops clones (``CD8a-RPA-T8``).
        """
        bare = _bare(name)
        for text, how in ((name, "name"), (bare, "affix dropped"), *_cuts(bare)):
            found = self._known(text)
            if found is not None and how == "clone dropped":
                return self._with_second(found, bare[len(text) :])
            if found is not None:
                return found, how
        return None, ""

    def _known(self, text: str) -> Marker | None:
        keys = (_key(text), _short_key(text))
        return next((self.by_key[k] for k in keys if k in self.by_key), None)

    def _with_second(self, first: Marker, rest: str) -> tuple[Marker, str]:
        """Join the partner of a dimer (``CD18/CD11a``); other names and clones say nothing new."""
        text = rest.strip("-_. |/:")
        second = self._known(text) if _CLUSTER.fullmatch(text) else None
        if second is None or set(second.genes) <= set(first.genes):
            return first, "clone dropped"
        both = Marker(
            name=f"{first.name}/{second.name}",
            aliases=(),
            genes=tuple(dict.fromkeys(first.genes + second.genes)),
            mouse_genes=tuple(dict.fromkeys(first.mouse_genes + second.mouse_genes)),
            note="",
        )
        return both, "two names"


@lru_cache(maxsize=1)
def default_table() -> MarkerTable:
    """Return the table that comes with this package."""
    text = resources.files("cellweave_protein").joinpath("data/markers.tsv").read_text("utf-8")
    lines = [line.split("\t") for line in text.splitlines()]
    return MarkerTable.of(_marker(dict(zip(lines[0], row))) for row in lines[1:])


def is_isotype(name: str) -> bool:
    """Tell whether a name is that of an isotype control (``Mouse-IgG1``, ``IgG2a_control``)."""
    return bool(_ISOTYPE.search(_SUFFIX.sub("", name))) and not is_hashtag(name)


def is_hashtag(name: str) -> bool:
    """Tell whether a name is that of a sample tag (``HTO3``, ``Hashtag_1``, ``CMO301``)."""
    return bool(_HASHTAG.search(name))


def match_markers(names: Iterable[str], *, table: MarkerTable | None = None) -> pd.DataFrame:
    """Report what each name means: marker, genes, how it was found, and why not.

    Parameters
    ----------
    names
        Names of antibodies.
    table
        Markers to search; ours when not given.

    Returns
    -------
    pandas.DataFrame
        One row a name: ``marker``, ``genes`` (separated by ``|``), ``how``, ``reason``.
    """
    import pandas as pd

    known = table or default_table()
    names = [str(n) for n in names]
    rows = [_row(name, known) for name in names]
    return pd.DataFrame(rows, index=names, columns=["marker", "genes", "how", "reason"])


def _row(name: str, table: MarkerTable) -> tuple[str, str, str, str]:
    if is_hashtag(name):
        return "", "", "", f"{name} is a sample tag, not a marker"
    if is_isotype(name):
        return "", "", "", f"{name} is an isotype control, it binds no gene product"
    marker, how = table.find(name)
    if marker is None:
        return "", "", "", f"{name} is in no name or alias of the marker table"
    if not marker.all_genes():
        return marker.name, "", how, f"{name}: {marker.note or 'no gene is known'}"
    return marker.name, "|".join(marker.all_genes()), how, ""


def _marker(row: Mapping[str, Any]) -> Marker:
    def parts(column: str) -> tuple[str, ...]:
        return tuple(p.strip() for p in str(row.get(column, "")).split("|") if p.strip())

    return Marker(
        name=str(row["marker"]).strip(),
        aliases=parts("aliases"),
        genes=parts("genes"),
        mouse_genes=parts("mouse_genes"),
        note=str(row.get("note", "")).strip(),
    )


def _key(name: str) -> str:
    """Drop case and punctuation, but not between digits: ``CD4-1`` is a CD4, not CD41."""
    lowered = "".join(_GREEK.get(c, c) for c in name.lower())
    return _NOT_ALPHANUMERIC.sub("", _BETWEEN_DIGITS.sub("-", lowered))


def _short_key(name: str) -> str:
    """Write Greek letters that are spelt out as one letter: ``TCR alpha/beta`` is ``tcrab``."""
    key = _key(name)
    for word, letter in _SPELT.items():
        key = key.replace(word, letter)
    return key


def _bare(name: str) -> str:
    name = _BRACKETS.sub("", name).strip()
    name = _BARCODE.sub("", name)
    for _ in range(3):
        name = _SUFFIX.sub("", _PREFIX.sub("", name))
    return name


def _cuts(name: str) -> list[tuple[str, str]]:
    ends = [m.start() for m in _SEPARATOR.finditer(name)]
    return [(name[:end], "clone dropped") for end in reversed(ends) if end > 1]
