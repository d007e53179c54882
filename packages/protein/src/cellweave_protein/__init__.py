"""Surface proteins for cellweave: read, prepare, name and link them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_protein.background import dsb as dsb
    from cellweave_protein.hashtags import assign_hashtags as assign_hashtags
    from cellweave_protein.links import link_features as link_features
    from cellweave_protein.markers import MarkerTable as MarkerTable
    from cellweave_protein.markers import is_hashtag as is_hashtag
    from cellweave_protein.markers import is_isotype as is_isotype
    from cellweave_protein.markers import match_markers as match_markers
    from cellweave_protein.modality import ProteinModality as ProteinModality
    from cellweave_protein.preparation import ProteinSettings as ProteinSettings
    from cellweave_protein.preparation import clr as clr

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "MarkerTable": "cellweave_protein.markers",
        "ProteinModality": "cellweave_protein.modality",
        "ProteinSettings": "cellweave_protein.preparation",
        "assign_hashtags": "cellweave_protein.hashtags",
        "clr": "cellweave_protein.preparation",
        "dsb": "cellweave_protein.background",
        "is_hashtag": "cellweave_protein.markers",
        "is_isotype": "cellweave_protein.markers",
        "link_features": "cellweave_protein.links",
        "match_markers": "cellweave_protein.markers",
    },
)
