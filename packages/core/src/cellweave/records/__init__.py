"""The frozen, typed records that pass between the parts of cellweave.

Each is loaded when it is first asked for, so that a plugin's catalogue needs no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.records.component import (
        ComponentKind as ComponentKind,
    )
    from cellweave.records.component import (
        ComponentSpec as ComponentSpec,
    )
    from cellweave.records.embedding import Embedding as Embedding
    from cellweave.records.findings import Finding as Finding
    from cellweave.records.findings import FindingReport as FindingReport
    from cellweave.records.integration import Agreement as Agreement
    from cellweave.records.integration import (
        IntegrationResult as IntegrationResult,
    )
    from cellweave.records.integration import (
        Matches as Matches,
    )
    from cellweave.records.links import FeatureLinks as FeatureLinks
    from cellweave.records.links import LinkRequest as LinkRequest
    from cellweave.records.prediction import Prediction as Prediction
    from cellweave.records.preparation import (
        Preparation as Preparation,
    )
    from cellweave.records.preparation import (
        PreparationStep as PreparationStep,
    )
    from cellweave.records.preparation import (
        Prepared as Prepared,
    )
    from cellweave.records.progress import (
        Progress as Progress,
    )
    from cellweave.records.progress import (
        ProgressCallback as ProgressCallback,
    )
    from cellweave.records.provenance import Provenance as Provenance
    from cellweave.records.scores import Score as Score
    from cellweave.records.scores import Scores as Scores
    from cellweave.records.state import ComponentState as ComponentState
    from cellweave.records.tokens import Tokens as Tokens
    from cellweave.records.tokens import Vocabulary as Vocabulary

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Agreement": "cellweave.records.integration",
        "ComponentKind": "cellweave.records.component",
        "ComponentSpec": "cellweave.records.component",
        "Embedding": "cellweave.records.embedding",
        "Finding": "cellweave.records.findings",
        "FindingReport": "cellweave.records.findings",
        "IntegrationResult": "cellweave.records.integration",
        "Matches": "cellweave.records.integration",
        "FeatureLinks": "cellweave.records.links",
        "LinkRequest": "cellweave.records.links",
        "Prediction": "cellweave.records.prediction",
        "Preparation": "cellweave.records.preparation",
        "PreparationStep": "cellweave.records.preparation",
        "Prepared": "cellweave.records.preparation",
        "Progress": "cellweave.records.progress",
        "ProgressCallback": "cellweave.records.progress",
        "Provenance": "cellweave.records.provenance",
        "Score": "cellweave.records.scores",
        "Scores": "cellweave.records.scores",
        "ComponentState": "cellweave.records.state",
        "Tokens": "cellweave.records.tokens",
        "Vocabulary": "cellweave.records.tokens",
    },
)
