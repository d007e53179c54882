"""scFoundation for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_scfoundation.config import ScfoundationConfig as ScfoundationConfig
    from cellweave_scfoundation.model import ScfoundationModel as ScfoundationModel
    from cellweave_scfoundation.network import ScfoundationNetwork as ScfoundationNetwork
    from cellweave_scfoundation.tokenizer import ScfoundationTokenizer as ScfoundationTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ScfoundationConfig": "cellweave_scfoundation.config",
        "ScfoundationModel": "cellweave_scfoundation.model",
        "ScfoundationNetwork": "cellweave_scfoundation.network",
        "ScfoundationTokenizer": "cellweave_scfoundation.tokenizer",
    },
)
