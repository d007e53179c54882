"""GeneMamba for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_genemamba.config import GenemambaConfig as GenemambaConfig
    from cellweave_genemamba.model import GenemambaModel as GenemambaModel
    from cellweave_genemamba.network import GenemambaNetwork as GenemambaNetwork
    from cellweave_genemamba.tokenizer import GenemambaTokenizer as GenemambaTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "GenemambaConfig": "cellweave_genemamba.config",
        "GenemambaModel": "cellweave_genemamba.model",
        "GenemambaNetwork": "cellweave_genemamba.network",
        "GenemambaTokenizer": "cellweave_genemamba.tokenizer",
    },
)
