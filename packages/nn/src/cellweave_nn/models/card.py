"""The model card: a README filled from the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]

_UNSAID = "not stated"


def model_card(
    *,
    card: Mapping[str, str],
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> str:
    """Return Markdown; what nobody said is said to be not stated."""
    licence = card.get("licence") or _UNSAID
    lines = [
        "---",
        "library_name: cellweave",
        "tags: [single-cell, cellweave]",
        "---",
        "",
        f"# {card.get('title') or 'Untitled model'}",
        "",
        card.get("description") or "A cell encoder trained with cellweave.",
        "",
        "```python",
        "import cellweave",
        "",
        'model = cellweave.load("path/to/this/folder")',
        "embedding = model.embed(adata)",
        "```",
        "",
        f"- Intended use: {card.get('intended_use') or _UNSAID}",
        f"- Licence of the weights: {licence}",
        f"- Licence of the data: {card.get('data_licence') or _UNSAID}",
        "",
        *_section("Model", config),
        *_section("Data", data),
        *_section("Training", training),
        *_section("Metrics at the end", {k: f"{v:.6g}" for k, v in metrics.items()}),
    ]
    return "\n".join(lines)


def _section(title: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {_cell(k)} | {_cell(v)} |" for k, v in values.items()]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _cell(value: Any) -> str:
    text = str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
    return text if len(text) <= 200 else text[:199] + "…"
