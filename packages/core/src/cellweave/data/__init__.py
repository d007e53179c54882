"""The doorway for data: read anything into a MuData, write only whole files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.data.reading import read as read
    from cellweave.data.writing import write as write
    from cellweave.storage import Verification as Verification
    from cellweave.storage import inspect as inspect
    from cellweave.storage import verify as verify

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Verification": "cellweave.storage",
        "inspect": "cellweave.storage",
        "read": "cellweave.data.reading",
        "verify": "cellweave.storage",
        "write": "cellweave.data.writing",
    },
)
