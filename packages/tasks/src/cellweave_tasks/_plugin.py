"""What cellweave-tasks offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


# Name → class, what it answers, and what conformance has to know of it.
_TASKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "annotation": (
        "annotation:AnnotationTask",
        "Cell types from a labelled reference; unseen types flagged as unknown.",
        ("labels",),
    ),
    "perturbation": (
        "perturbation:PerturbationTask",
        "Responses to unseen perturbations, pairs and cell types, beside four baselines.",
        (
            "features",
            "needs_truth",
        ),
    ),
    "cross_modality": (
        "cross_modality:CrossModalityTask",
        "One modality from another: proteins or accessibility from RNA.",
        (),
    ),
    "integration": (
        "integration:IntegrationTask",
        "Do batches mix and types stay apart: any embedding beside HVG, PCA and Harmony.",
        ("transductive",),
    ),
    "imputation": (
        "imputation:ImputationTask",
        "Expression from few counts, scored on counts held out by thinning.",
        (),
    ),
    "spatial": (
        "spatial:SpatialTask",
        "Regions and niches of a tissue, with and without the neighbourhood.",
        ("labels",),
    ),
    "genes": (
        "genes:GeneTask",
        "Classes of genes from gene embeddings, beside what expression alone tells.",
        ("features",),
    ),
    "generation": (
        "generation:GenerationTask",
        "Cells drawn for a label, scored by MMD and a classifier against held-out cells.",
        (
            "features",
            "needs_truth",
        ),
    ),
    "neighbourhood": (
        "neighbourhood:NeighbourhoodTask",
        "Which types surround a cell and how densely, from the cell alone.",
        (),
    ),
    "networks": (
        "networks:NetworkTask",
        "Gene networks from embeddings, attention, deletion or expression; programmes.",
        ("features",),
    ),
    "genesets": (
        "genesets:GeneSetTask",
        "Labels from few gene sets: a kernel a set and a group lasso, or attention.",
        ("labels",),
    ),
    "drug": (
        "drug:DrugTask",
        "Response of cells to drugs; new drugs, new cells, or both.",
        (),
    ),
    "insilico": (
        "insilico:InSilicoTask",
        "Genes lost or switched on in a model of tokens, towards a goal state.",
        (
            "features",
            "needs_truth",
        ),
    ),
}


@hookimpl
def cellweave_tasks() -> Iterable[ComponentSpec]:
    """Offer the tasks."""
    for name, (target, summary, tags) in _TASKS.items():
        yield ComponentSpec(
            name=f"tasks.{name}",
            target=f"cellweave_tasks.{target}",
            summary=summary,
            tags=frozenset(tags),
        )
