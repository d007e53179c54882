"""Gene sets in GMT files: name, description, genes, separated by tabs."""

from __future__ import annotations

from pathlib import Path

from cellweave.errors import UnreadableFileError

__all__ = ["read_gmt"]


def read_gmt(path: str | Path) -> dict[str, list[str]]:
    """Read gene sets; a set named twice or a line without genes is refused."""
    sets: dict[str, list[str]] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"Cannot read {str(path)!r} as GMT: {error}. Give a tab-separated text file."
        raise UnreadableFileError(msg) from error
    for number, line in enumerate(lines, start=1):
        parts = [part.strip() for part in line.split("\t")]
        if not line.strip():
            continue
        if len(parts) < 3 or parts[0] in sets:
            why = "holds no genes" if len(parts) < 3 else f"names {parts[0]!r} again"
            msg = (
                f"Line {number} of {str(path)!r} {why}. Expected: name, description, genes, "
                "separated by tabs, each name once."
            )
            raise UnreadableFileError(msg)
        sets[parts[0]] = [gene for gene in parts[2:] if gene]
    return sets
