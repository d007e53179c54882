"""What the modalities' preparations share: raw values checked, steps recorded, components turned.

No modality is known here; each package says what its steps are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.preparing.blocks import is_lazy as is_lazy
    from cellweave.preparing.blocks import keep_rows as keep_rows
    from cellweave.preparing.blocks import map_rows as map_rows
    from cellweave.preparing.blocks import rows_to_values as rows_to_values
    from cellweave.preparing.blocks import sum_over_blocks as sum_over_blocks
    from cellweave.preparing.components import principal_components as principal_components
    from cellweave.preparing.components import scaled_components as scaled_components
    from cellweave.preparing.components import signed_components as signed_components
    from cellweave.preparing.components import standardized as standardized
    from cellweave.preparing.raw import raw_values as raw_values
    from cellweave.preparing.record import Recipe as Recipe
    from cellweave.preparing.record import settings_from as settings_from
    from cellweave.preparing.values import ExpressionValues as ExpressionValues
    from cellweave.preparing.values import without_counts as without_counts

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ExpressionValues": "cellweave.preparing.values",
        "Recipe": "cellweave.preparing.record",
        "is_lazy": "cellweave.preparing.blocks",
        "keep_rows": "cellweave.preparing.blocks",
        "map_rows": "cellweave.preparing.blocks",
        "principal_components": "cellweave.preparing.components",
        "raw_values": "cellweave.preparing.raw",
        "rows_to_values": "cellweave.preparing.blocks",
        "scaled_components": "cellweave.preparing.components",
        "settings_from": "cellweave.preparing.record",
        "signed_components": "cellweave.preparing.components",
        "standardized": "cellweave.preparing.components",
        "sum_over_blocks": "cellweave.preparing.blocks",
        "without_counts": "cellweave.preparing.values",
    },
)
