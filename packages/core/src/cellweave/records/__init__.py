"""The frozen, typed records that pass between the parts of cellweave."""

from __future__ import annotations

from cellweave.records.component import ComponentKind, ComponentSpec
from cellweave.records.embedding import Embedding
from cellweave.records.findings import Finding, FindingReport
from cellweave.records.integration import IntegrationResult, Matches
from cellweave.records.links import FeatureLinks, LinkRequest
from cellweave.records.prediction import Prediction
from cellweave.records.preparation import Preparation, PreparationStep, Prepared
from cellweave.records.progress import Progress, ProgressCallback
from cellweave.records.provenance import Provenance
from cellweave.records.scores import Score, Scores
from cellweave.records.state import ComponentState
from cellweave.records.tokens import Tokens, Vocabulary

__all__ = [
    "ComponentKind",
    "ComponentSpec",
    "ComponentState",
    "Embedding",
    "FeatureLinks",
    "Finding",
    "FindingReport",
    "IntegrationResult",
    "LinkRequest",
    "Matches",
    "Prediction",
    "Preparation",
    "PreparationStep",
    "Prepared",
    "Progress",
    "ProgressCallback",
    "Provenance",
    "Score",
    "Scores",
    "Tokens",
    "Vocabulary",
]
