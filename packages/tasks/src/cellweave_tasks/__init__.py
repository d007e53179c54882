"""Tasks: what biologists ask of an embedding, each beside its baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_tasks.annotation import AnnotationTask as AnnotationTask
    from cellweave_tasks.cross_modality import CrossModalityTask as CrossModalityTask
    from cellweave_tasks.cross_modality import with_target as with_target
    from cellweave_tasks.drug import DrugTask as DrugTask
    from cellweave_tasks.drug_data import drug_pairs as drug_pairs
    from cellweave_tasks.drug_data import morgan_fingerprints as morgan_fingerprints
    from cellweave_tasks.gene_sets import enrichment as enrichment
    from cellweave_tasks.gene_sets import gene_sets_on as gene_sets_on
    from cellweave_tasks.gene_sets import online_gene_sets as online_gene_sets
    from cellweave_tasks.generation import GenerationTask as GenerationTask
    from cellweave_tasks.genes import GeneTask as GeneTask
    from cellweave_tasks.genes import gene_folds as gene_folds
    from cellweave_tasks.genesets import GeneSetTask as GeneSetTask
    from cellweave_tasks.imputation import ImputationTask as ImputationTask
    from cellweave_tasks.imputation import thinned as thinned
    from cellweave_tasks.insilico import InSilicoTask as InSilicoTask
    from cellweave_tasks.integration import IntegrationTask as IntegrationTask
    from cellweave_tasks.looping import closed_loop as closed_loop
    from cellweave_tasks.neighbourhood import NeighbourhoodTask as NeighbourhoodTask
    from cellweave_tasks.networks import NetworkTask as NetworkTask
    from cellweave_tasks.ontology import Ontology as Ontology
    from cellweave_tasks.perturbation import PerturbationTask as PerturbationTask
    from cellweave_tasks.perturbation_similarity import similarity_sweep as similarity_sweep
    from cellweave_tasks.perturbation_splits import unseen_context as unseen_context
    from cellweave_tasks.perturbation_splits import unseen_pairs as unseen_pairs
    from cellweave_tasks.perturbation_splits import unseen_perturbations as unseen_perturbations
    from cellweave_tasks.screens import simulate_screen as simulate_screen
    from cellweave_tasks.spatial import SpatialTask as SpatialTask
    from cellweave_tasks.splits import Split as Split
    from cellweave_tasks.splits import by_fraction as by_fraction
    from cellweave_tasks.splits import by_group as by_group
    from cellweave_tasks.splits import by_tiles as by_tiles
    from cellweave_tasks.splits import by_unseen as by_unseen
    from cellweave_tasks.splits import grouped_folds as grouped_folds
    from cellweave_tasks.zeroshot import zero_shot as zero_shot

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AnnotationTask": "cellweave_tasks.annotation",
        "CrossModalityTask": "cellweave_tasks.cross_modality",
        "DrugTask": "cellweave_tasks.drug",
        "GeneSetTask": "cellweave_tasks.genesets",
        "GeneTask": "cellweave_tasks.genes",
        "GenerationTask": "cellweave_tasks.generation",
        "ImputationTask": "cellweave_tasks.imputation",
        "InSilicoTask": "cellweave_tasks.insilico",
        "IntegrationTask": "cellweave_tasks.integration",
        "NeighbourhoodTask": "cellweave_tasks.neighbourhood",
        "NetworkTask": "cellweave_tasks.networks",
        "Ontology": "cellweave_tasks.ontology",
        "PerturbationTask": "cellweave_tasks.perturbation",
        "SpatialTask": "cellweave_tasks.spatial",
        "Split": "cellweave_tasks.splits",
        "by_fraction": "cellweave_tasks.splits",
        "by_group": "cellweave_tasks.splits",
        "by_tiles": "cellweave_tasks.splits",
        "by_unseen": "cellweave_tasks.splits",
        "closed_loop": "cellweave_tasks.looping",
        "drug_pairs": "cellweave_tasks.drug_data",
        "enrichment": "cellweave_tasks.gene_sets",
        "gene_folds": "cellweave_tasks.genes",
        "gene_sets_on": "cellweave_tasks.gene_sets",
        "grouped_folds": "cellweave_tasks.splits",
        "morgan_fingerprints": "cellweave_tasks.drug_data",
        "online_gene_sets": "cellweave_tasks.gene_sets",
        "similarity_sweep": "cellweave_tasks.perturbation_similarity",
        "simulate_screen": "cellweave_tasks.screens",
        "thinned": "cellweave_tasks.imputation",
        "unseen_context": "cellweave_tasks.perturbation_splits",
        "unseen_pairs": "cellweave_tasks.perturbation_splits",
        "unseen_perturbations": "cellweave_tasks.perturbation_splits",
        "with_target": "cellweave_tasks.cross_modality",
        "zero_shot": "cellweave_tasks.zeroshot",
    },
)
