"""Colours that stay apart for colour-blind eyes: by hue first, by lightness where hues run out.

Eight hues after Okabe and Ito (2008) at three lightness levels; neighbours in the list differ in
both. Beyond these 24, hues go on by the golden angle, so that no two categories look the same.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from cellweave.labels import NO_LABEL

__all__ = ["ACCENT", "BAD", "FAIR", "GOOD", "INK", "MISSING", "MUTED", "palette"]

INK, MUTED, MISSING = "#22272e", "#6b7480", "#c9ced6"
ACCENT, GOOD, FAIR, BAD = "#0072b2", "#1a8f63", "#d99000", "#c6471f"

_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5cb0", "#8c8c3c",
    "#003f63", "#8f5f00", "#5fd3ae", "#7d3260", "#a9d8f5", "#7a3000", "#c3aee8", "#4d4d12",
    "#3f9fd6", "#ffd27a", "#00523b", "#f0b9d6", "#1d6f94", "#f7a072", "#42277a", "#cfcf6b",
)  # fmt: skip
_GOLDEN = 0.6180339887


def palette(names: Sequence[str], *, start: int = 0) -> dict[str, str]:
    """Give each name a colour, in the order given; names that mean "unknown" are grey.

    Parameters
    ----------
    names
        Categories.
    start
        Where in the list to begin, so that two pictures side by side need not share colours.
    """
    known = [name for name in names if name.strip().lower() not in NO_LABEL]
    colours = {name: _colour(start + i) for i, name in enumerate(known)}
    return colours | {name: MISSING for name in names if name not in colours}


def _colour(position: int) -> str:
    """Return the colour at a position of the endless list."""
    if position < len(_COLOURS):
        return _COLOURS[position]
    beyond = position - len(_COLOURS)
    lightness = (0.42, 0.68, 0.28)[beyond % 3]
    rgb = colorsys.hls_to_rgb((0.05 + beyond * _GOLDEN) % 1.0, lightness, 0.5)
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)
