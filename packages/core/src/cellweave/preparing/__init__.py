"""What the modalities' preparations share: raw values checked, steps recorded, components turned.

No modality is known here; each package says what its steps are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.preparing.components import principal_components as principal_components
    from cellweave.preparing.components import signed_components as signed_components
    from cellweave.preparing.components import standardized as standardized
    from cellweave.preparing.raw import raw_values as raw_values
    from cellweave.preparing.record import Recipe as Recipe
    from cellweave.preparing.record import settings_from as settings_from

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Recipe": "cellweave.preparing.record",
        "principal_components": "cellweave.preparing.components",
        "raw_values": "cellweave.preparing.raw",
        "settings_from": "cellweave.preparing.record",
        "signed_components": "cellweave.preparing.components",
        "standardized": "cellweave.preparing.components",
    },
)
