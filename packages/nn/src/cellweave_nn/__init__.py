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
        "CellModel": "cellweave_nn.models.cell_model",
        "Corrupted": "cellweave_nn.outputs",
        "EncoderOutput": "cellweave_nn.outputs",
        "FinetuneConfig": "cellweave_nn.adapt.finetune",
        "PretrainConfig": "cellweave_nn.training.settings",
        "TokenBatch": "cellweave_nn.batch",
        "TrainingSettings": "cellweave_nn.training.settings",
        "build_encoder": "cellweave_nn.models.build",
        "compare_runs": "cellweave_nn.training.runs",
        "cost_of": "cellweave_nn.adapt.cost",
        "distil": "cellweave_nn.adapt.distil",
        "estimate": "cellweave_nn.training.estimate",
        "finetune": "cellweave_nn.adapt.finetune",
        "list_runs": "cellweave_nn.training.runs",
        "load_model": "cellweave_nn.models.cell_model",
        "pretrain": "cellweave_nn.training.pretrain",
        "prune_heads": "cellweave_nn.adapt.prune",
        "quantise": "cellweave_nn.adapt.quantise",
    },
)
