"""The core's metrics, as the catalogue that the hook ``cellweave_metrics`` offers."""

from __future__ import annotations

from cellweave.records.component import ComponentSpec

__all__ = ["SPECS"]


def _spec(name: str, target: str, summary: str, *tags: str) -> ComponentSpec:
    return ComponentSpec(
        name=f"core.{name}",
        target=f"cellweave.evaluation.{target}",
        summary=summary,
        tags=frozenset(tags),
    )


SPECS: tuple[ComponentSpec, ...] = (
    _spec("foscttm", "pairs:Foscttm", "Cells closer than the true partner, both directions."),
    _spec("partner_rank", "pairs:PartnerRank", "Matching accuracy and rank of the true partner."),
    _spec("label_transfer", "transfer:LabelTransfer", "1-NN and k-NN label transfer, per type."),
    _spec("clusters", "clusters:ClusterAgreement", "ARI and NMI at the best Leiden resolution."),
    _spec("silhouette", "silhouettes:Silhouette", "ASW by type, and by modality within types."),
    _spec("silhouette_batch", "silhouettes:BatchSilhouette", "ASW by batch within types."),
    _spec("map", "neighbourhoods:MeanAveragePrecision", "Mean average precision of types."),
    _spec(
        "graph_connectivity", "neighbourhoods:GraphConnectivity", "Does each type hang together."
    ),
    _spec(
        "neighbour_conservation",
        "neighbourhoods:NeighbourConservation",
        "Neighbours that each modality keeps.",
    ),
    _spec("seurat_alignment", "mixing:SeuratAlignment", "Seurat alignment score of modalities."),
    _spec("entropy_mixing", "mixing:EntropyMixing", "Omics entropy mixing, base 2 throughout."),
    _spec("linked_agreement", "linked:LinkedAgreement", "Do linked features of neighbours agree."),
    _spec("lisi", "lisi:Lisi", "Labels around a cell: iLISI by modality and batch, cLISI by type."),
    ComponentSpec(
        name="core.kbet",
        target="cellweave.evaluation.scib:Kbet",
        summary="kBET acceptance by modality and batch, through scib-metrics.",
        requires=("scib_metrics",),
        install="cellweave-core[scib]",
    ),
)
