"""TOSICA for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_tosica.config import TosicaConfig as TosicaConfig
    from cellweave_tosica.model import TosicaModel as TosicaModel
    from cellweave_tosica.network import TosicaNetwork as TosicaNetwork
    from cellweave_tosica.tokenizer import TosicaTokenizer as TosicaTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "TosicaConfig": "cellweave_tosica.config",
        "TosicaModel": "cellweave_tosica.model",
        "TosicaNetwork": "cellweave_tosica.network",
        "TosicaTokenizer": "cellweave_tosica.tokenizer",
    },
)
