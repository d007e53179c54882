"""Chromatin accessibility for cellweave: read, prepare, link and tokenize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_atac.activity import gene_activity as gene_activity
    from cellweave_atac.fragments import Fragments as Fragments
    from cellweave_atac.fragments import bin_counts as bin_counts
    from cellweave_atac.fragments import fragments_near as fragments_near
    from cellweave_atac.fragments import peak_counts as peak_counts
    from cellweave_atac.links import link_features as link_features
    from cellweave_atac.modality import AtacModality as AtacModality
    from cellweave_atac.preparation import AtacSettings as AtacSettings
    from cellweave_atac.preparation import lsi as lsi
    from cellweave_atac.preparation import tf_idf as tf_idf
    from cellweave_atac.quality import fragment_quality as fragment_quality

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "AtacModality": "cellweave_atac.modality",
        "AtacSettings": "cellweave_atac.preparation",
        "Fragments": "cellweave_atac.fragments",
        "bin_counts": "cellweave_atac.fragments",
        "fragment_quality": "cellweave_atac.quality",
        "fragments_near": "cellweave_atac.fragments",
        "gene_activity": "cellweave_atac.activity",
        "link_features": "cellweave_atac.links",
        "lsi": "cellweave_atac.preparation",
        "peak_counts": "cellweave_atac.fragments",
        "tf_idf": "cellweave_atac.preparation",
    },
)
