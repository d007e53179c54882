"""Geneformer for cellweave: its tokens, its network, its published checkpoints.

Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from cellweave.lazy import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "GeneformerConfig": "cellweave_geneformer.config",
        "GeneformerModel": "cellweave_geneformer.model",
        "GeneformerNetwork": "cellweave_geneformer.network",
        "GeneformerTokenizer": "cellweave_geneformer.tokenizer",
    },
)
