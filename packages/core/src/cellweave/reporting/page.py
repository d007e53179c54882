"""A page as records, and the records as one HTML file: no network, no scripts, all text escaped.

Tasks, preparation and training build their own sections from the same records.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellweave.errors import ConfigError, one_of
from cellweave.storage import atomic_folder, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "Block",
    "Facts",
    "Figure",
    "Page",
    "Section",
    "Table",
    "Verdict",
    "render_page",
    "write_figures",
    "write_page",
]

Verdict = Literal["good", "fair", "poor", "unknown"]
_FORMATS = ("png", "svg", "pdf")
_DPI = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One picture: its file name, what it shows, and the drawing.

    ``look_for`` tells what it looks like when all is well. ``wide`` figures take a whole row.
    """

    name: str
    title: str
    canvas: Canvas
    look_for: str = ""
    wide: bool = False
    kind: str = field(default="figure", init=False)

    @property
    def source(self) -> str:
        """Give the picture as a data address."""
        data = base64.b64encode(picture_bytes(self.canvas, "svg")).decode()
        return f"data:image/svg+xml;base64,{data}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text; a cell may carry a bar from 0 to 1 by ``(text, share)``."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, float | None]]]
    title: str = ""
    note: str = ""
    kind: str = field(default="table", init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Short facts: a name and what it is; or, with ``names=False``, plain sentences."""

    items: Sequence[tuple[str, str]]
    names: bool = True
    kind: str = field(default="facts", init=False)


Block = Figure | Table | Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, a sentence or two, and blocks; ``folded`` sections open on a click."""

    title: str
    lead: str = ""
    blocks: tuple[Block, ...] = ()
    folded: bool = False

    @property
    def rows(self) -> list[list[Block]]:
        """Group neighbouring figures, so that they stand side by side."""
        rows: list[list[Block]] = []
        for block in self.blocks:
            beside = isinstance(block, Figure) and rows and isinstance(rows[-1][-1], Figure)
            if beside:
                rows[-1].append(block)
            else:
                rows.append([block])
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All of a report: did it work, in words, then the sections.

    A page without a ``headline`` judges nothing and shows no verdict.
    ``tiles`` are the few numbers to see first: name, value, and what good looks like.
    """

    title: str
    sections: tuple[Section, ...]
    verdict: Verdict = "unknown"
    headline: str = ""
    sentences: tuple[str, ...] = ()
    tiles: tuple[tuple[str, str, str], ...] = ()
    footer: str = ""

    def figures(self) -> list[Figure]:
        """List every picture."""
        return [b for s in self.sections for b in s.blocks if isinstance(b, Figure)]


def render_page(page: Page) -> bytes:
    """Return the HTML; the same page gives the same bytes."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cellweave.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = {"good": "Good", "fair": "Fair", "poor": "Poor", "unknown": "Unknown"}
    text = environment.get_template("page.html.j2").render(page=page, word=words[page.verdict])
    return text.encode()


def write_page(path: str | Path, page: Page) -> None:
    """Write the page to one file, atomically and with a manifest."""
    write_bytes(path, render_page(page), kind="report")


def write_figures(
    folder: str | Path, page: Page, *, formats: Sequence[str] = ("png", "svg")
) -> list[str]:
    """Write every picture of the page into a folder; return the file names."""
    unknown = [f for f in formats if f not in _FORMATS]
    if unknown or not formats:
        msg = (
            f"Formats {list(formats)!r} are not all known. Use one or more of: {one_of(_FORMATS)}."
        )
        raise ConfigError(msg)
    names = []
    with atomic_folder(folder, kind="figures") as place:
        for figure in page.figures():
            for form in formats:
                names.append(f"{figure.name}.{form}")
                (place / names[-1]).write_bytes(picture_bytes(figure.canvas, form))
    return names


def picture_bytes(canvas: Canvas, form: str) -> bytes:
    """Draw without dates, program names and random ids."""
    from matplotlib import rc_context

    metadata: Mapping[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[form]
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "cellweave", "svg.fonttype": "path"}):
        canvas.savefig(buffer, format=form, dpi=_DPI, metadata=dict(metadata))
    return buffer.getvalue()
