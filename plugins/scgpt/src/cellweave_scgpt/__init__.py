"""scGPT for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_scgpt.config import ScgptConfig as ScgptConfig
    from cellweave_scgpt.generator import PerturbationGenerator as PerturbationGenerator
    from cellweave_scgpt.model import ScgptModel as ScgptModel
    from cellweave_scgpt.network import ScgptNetwork as ScgptNetwork
    from cellweave_scgpt.tokenizer import ScgptTokenizer as ScgptTokenizer

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "PerturbationGenerator": "cellweave_scgpt.generator",
        "ScgptConfig": "cellweave_scgpt.config",
        "ScgptModel": "cellweave_scgpt.model",
        "ScgptNetwork": "cellweave_scgpt.network",
        "ScgptTokenizer": "cellweave_scgpt.tokenizer",
    },
)
