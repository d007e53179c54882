"""The contracts: one Protocol a file, what a plugin's component must offer."""

from __future__ import annotations

from cellweave.contracts.batch import Corrupted, EncoderOutput, TokenBatch
from cellweave.contracts.encoder import Encoder
from cellweave.contracts.integrator import (
    Estimate,
    Integrator,
    SavableIntegrator,
    TransformingIntegrator,
)
from cellweave.contracts.metric import Metric, MetricInput
from cellweave.contracts.modality import Modality
from cellweave.contracts.model import Model
from cellweave.contracts.objective import Objective
from cellweave.contracts.task import Task
from cellweave.contracts.tokenizer import Tokenizer

__all__ = [
    "Corrupted",
    "Encoder",
    "EncoderOutput",
    "Estimate",
    "Integrator",
    "Metric",
    "MetricInput",
    "Modality",
    "Model",
    "Objective",
    "SavableIntegrator",
    "Task",
    "TokenBatch",
    "Tokenizer",
    "TransformingIntegrator",
]
