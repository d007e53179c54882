"""Read what model authors publish: every container they use, no code run, every key accounted for.

Importing this imports no torch; each name is loaded when it is first asked for.
"""

from __future__ import annotations

from cellweave.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "cellweave_nn.checkpoints.reading",
        "KeyReport": "cellweave_nn.checkpoints.matching",
        "Limits": "cellweave_nn.checkpoints.limits",
        "PublishedFolder": "cellweave_nn.checkpoints.published",
        "embed_by_length": "cellweave_nn.checkpoints.embedding",
        "find_companions": "cellweave_nn.checkpoints.companions",
        "fill": "cellweave_nn.checkpoints.matching",
        "find_companion": "cellweave_nn.checkpoints.companions",
        "find_weights": "cellweave_nn.checkpoints.reading",
        "is_published_folder": "cellweave_nn.checkpoints.published",
        "merge_lora": "cellweave_nn.checkpoints.lora",
        "read_checkpoint": "cellweave_nn.checkpoints.reading",
        "read_json": "cellweave_nn.checkpoints.companions",
        "read_pickled_table": "cellweave_nn.checkpoints.pickled",
        "read_published": "cellweave_nn.checkpoints.published",
        "read_table": "cellweave_nn.checkpoints.companions",
        "take": "cellweave_nn.checkpoints.matching",
        "write_published": "cellweave_nn.checkpoints.published",
    },
)
