"""scBERT for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_scbert.config import ScbertConfig as ScbertConfig
    from cellweave_scbert.model import ScbertModel as ScbertModel
    from cellweave_scbert.network import ScbertNetwork as ScbertNetwork
    from cellweave_scbert.tokenizer import ScbertTokenizer as ScbertTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ScbertConfig": "cellweave_scbert.config",
        "ScbertModel": "cellweave_scbert.model",
        "ScbertNetwork": "cellweave_scbert.network",
        "ScbertTokenizer": "cellweave_scbert.tokenizer",
    },
)
