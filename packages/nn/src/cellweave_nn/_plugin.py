"""What cellweave-nn offers."""

from __future__ import annotations

from collections.abc import Iterable

from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec

cellweave_api_version = 1

_ENCODERS = {
    "transformer": ("transformer:TransformerEncoder", "Transformer over packed tokens."),
    "generative": ("generative:generative_encoder", "Generative attention of scGPT, no mask."),
    "causal": ("causal:causal_encoder", "Causal GPT for generating cells (scMulan)."),
    "favor": ("linear_attention:favor_encoder", "Performer, linear in length (scBERT)."),
    "flow": ("linear_attention:flow_encoder", "Flow attention, linear in length (CellPLM)."),
    "asymmetric": (
        "asymmetric:AsymmetricEncoder",
        "Encodes what is there, decodes all (scFoundation).",
    ),
    "state_space": ("statespace:StateSpaceEncoder", "Bidirectional Mamba-2 (GeneMamba)."),
    "pathway": ("pathway:PathwayEncoder", "Pathway tokens by masked linear maps (TOSICA)."),
    "patch": ("patch:PatchEncoder", "Patches of neighbouring features."),
    "multiomic": ("multiomic:multiomic_encoder", "Several modalities, full or mosaic."),
    "spatial": ("spatial:SpatialEncoder", "Cells of one sample see each other."),
}

_OBJECTIVES = {
    "masked_token": ("masked_token:MaskedToken", "Predict hidden tokens (Geneformer)."),
    "masked_value": ("masked_value:MaskedValue", "Predict hidden values (GEP)."),
    "cell_conditioned": (
        "cell_conditioned:CellConditioned",
        "Predict values from the cell's state (GEPC, MVC).",
    ),
    "generative_value": (
        "generative_value:GenerativeValue",
        "Generate values from perceived genes, two passes (scGPT).",
    ),
    "read_depth": ("read_depth:ReadDepthAware", "Deep profile from a shallow one (RDA)."),
    "zero_inflated": ("zero_inflated:ZeroInflated", "Is the gene expressed at all."),
    "programmes": ("programmes:ProgrammeMasking", "Mask whole gene programmes."),
    "two_views": ("views:TwoViews", "Contrast two subsets of a cell's genes (SimCLR)."),
    "alignment": ("alignment:ModalityAlignment", "Bring a cell's modalities together (CLIP)."),
    "elastic": ("elastic:ElasticSimilarity", "Elastic cell similarity (ECS)."),
    "adversarial": ("adversarial:AdversarialBatch", "Forget the batch (DAR)."),
    "labels": ("ontology:LabelSupervision", "Predict a label from the cell's state."),
    "ontology": ("ontology:OntologyContrast", "Place types as their ontology does (scCello)."),
    "next_gene": ("next_gene:NextGene", "Predict the next gene and its bin (scMulan)."),
    "denoising": ("denoising:Denoising", "Give back the values of a noisy cell."),
}


@hookimpl
def cellweave_encoders() -> Iterable[ComponentSpec]:
    """Offer the encoders."""
    for name, (target, summary) in _ENCODERS.items():
        yield ComponentSpec(
            name=f"nn.{name}",
            target=f"cellweave_nn.encoders.{target}",
            summary=summary,
            requires=("torch",),
        )


@hookimpl
def cellweave_objectives() -> Iterable[ComponentSpec]:
    """Offer the objectives."""
    for name, (target, summary) in _OBJECTIVES.items():
        yield ComponentSpec(
            name=f"nn.{name}",
            target=f"cellweave_nn.objectives.{target}",
            summary=summary,
            requires=("torch",),
        )


@hookimpl
def cellweave_tokenizers() -> Iterable[ComponentSpec]:
    """Offer the plain tokenizer, and the one that joins others."""
    yield ComponentSpec(
        name="nn.nonzero",
        target="cellweave_nn.tokenizers:NonzeroTokenizer",
        summary="One token a feature that is not zero, for any modality.",
    )
    yield ComponentSpec(
        name="nn.joined",
        target="cellweave_nn.joined_tokenizer:JoinedTokenizer",
        summary="Tokens of several modalities of a MuData in one sequence a cell.",
        tags=frozenset({"several"}),
    )


@hookimpl
def cellweave_models() -> Iterable[ComponentSpec]:
    """Offer the reader of our own model folders."""
    yield ComponentSpec(
        name="nn.model",
        target="cellweave_nn.models.cell_model:CellModel",
        summary="Model folders that `cellweave pretrain` writes.",
        requires=("torch", "safetensors"),
    )
