"""Keys of modalities: ``rna2``, ``rna_spleen`` and ``rna`` are three sets of one kind."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = ["kind_of_key"]

_SUFFIX = re.compile(r"(?P<kind>[A-Za-z]+)(?:\d+|\d*[_.:\-].+)")


def kind_of_key(key: str, known: Collection[str]) -> str | None:
    """Return the known modality that ``key`` names, with or without a suffix.

    A suffix is a number, or whatever follows ``_``, ``-``, ``.`` or ``:``.

    Examples
    --------
    >>> kind_of_key("rna2", ["rna", "atac"]), kind_of_key("rna_spleen", ["rna", "atac"])
    ('rna', 'rna')
    >>> kind_of_key("rnaseq", ["rna", "atac"])
    """
    if key in known:
        return key
    found = _SUFFIX.fullmatch(key)
    return found["kind"] if found and found["kind"] in known else None
