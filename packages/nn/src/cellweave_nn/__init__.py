"""Everything that needs torch and is not one published model.

Ragged batches, layers, encoders, objectives, training that resumes to the bit, model folders.
Importing this package imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from cellweave.lazy import lazy_exports

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Corrupted": "cellweave_nn.outputs",
        "EncoderOutput": "cellweave_nn.outputs",
        "TokenBatch": "cellweave_nn.batch",
    },
)
