"""What cellweave-tasks offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1


@hookimpl
def cellweave_tasks() -> Iterable[ComponentSpec]:
    """Offer the tasks."""
    yield ComponentSpec(
        name="tasks.annotation",
        target="cellweave_tasks.annotation:AnnotationTask",
        summary="Cell types from a labelled reference; unseen types flagged as unknown.",
        tags=frozenset({"labels"}),
    )
    yield ComponentSpec(
        name="tasks.perturbation",
        target="cellweave_tasks.perturbation:PerturbationTask",
        summary="Responses to unseen perturbations, pairs and cell types, beside four baselines.",
        tags=frozenset({"features", "needs_truth"}),
    )
    yield ComponentSpec(
        name="tasks.cross_modality",
        target="cellweave_tasks.cross_modality:CrossModalityTask",
        summary="One modality from another: proteins or accessibility from RNA.",
    )
    yield ComponentSpec(
        name="tasks.integration",
        target="cellweave_tasks.integration:IntegrationTask",
        summary="Do batches mix and types stay apart: any embedding beside HVG, PCA and Harmony.",
        tags=frozenset({"transductive"}),
    )
    yield ComponentSpec(
        name="tasks.imputation",
        target="cellweave_tasks.imputation:ImputationTask",
        summary="Expression from few counts, scored on counts held out by thinning.",
    )
    yield ComponentSpec(
        name="tasks.spatial",
        target="cellweave_tasks.spatial:SpatialTask",
        summary="Regions and niches of a tissue, with and without the neighbourhood.",
        tags=frozenset({"labels"}),
    )
    yield ComponentSpec(
        name="tasks.genes",
        target="cellweave_tasks.genes:GeneTask",
        summary="Classes of genes from gene embeddings, beside what expression alone tells.",
        tags=frozenset({"features"}),
    )
    yield ComponentSpec(
        name="tasks.generation",
        target="cellweave_tasks.generation:GenerationTask",
        summary="Cells drawn for a label, scored by MMD and a classifier against held-out cells.",
        tags=frozenset({"features", "needs_truth"}),
    )
    yield ComponentSpec(
        name="tasks.neighbourhood",
        target="cellweave_tasks.neighbourhood:NeighbourhoodTask",
        summary="Which types surround a cell and how densely, from the cell alone.",
    )
    yield ComponentSpec(
        name="tasks.networks",
        target="cellweave_tasks.networks:NetworkTask",
        summary="Gene networks from embeddings, attention, deletion or expression; programmes.",
        tags=frozenset({"features"}),
    )
    yield ComponentSpec(
        name="tasks.genesets",
        target="cellweave_tasks.genesets:GeneSetTask",
        summary="Labels from few gene sets: a kernel a set and a group lasso, or attention.",
        tags=frozenset({"labels"}),
    )
    yield ComponentSpec(
        name="tasks.drug",
        target="cellweave_tasks.drug:DrugTask",
        summary="Response of cells to drugs; new drugs, new cells, or both.",
    )
    yield ComponentSpec(
        name="tasks.insilico",
        target="cellweave_tasks.insilico:InSilicoTask",
        summary="Genes lost or switched on in a model of tokens, towards a goal state.",
        tags=frozenset({"features", "needs_truth"}),
    )
