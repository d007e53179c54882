"""scMulan for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_scmulan.config import ScmulanConfig as ScmulanConfig
    from cellweave_scmulan.model import ScmulanModel as ScmulanModel
    from cellweave_scmulan.network import ScmulanNetwork as ScmulanNetwork
    from cellweave_scmulan.tokenizer import ScmulanTokenizer as ScmulanTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ScmulanConfig": "cellweave_scmulan.config",
        "ScmulanModel": "cellweave_scmulan.model",
        "ScmulanNetwork": "cellweave_scmulan.network",
        "ScmulanTokenizer": "cellweave_scmulan.tokenizer",
    },
)
