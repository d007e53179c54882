"""Spatial transcriptomics for cellweave: read, prepare, and know who sits next to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_spatial.coordinates import coordinates_of as coordinates_of
    from cellweave_spatial.graphs import SpatialGraph as SpatialGraph
    from cellweave_spatial.graphs import spatial_graph as spatial_graph
    from cellweave_spatial.links import link_features as link_features
    from cellweave_spatial.modality import SpatialModality as SpatialModality
    from cellweave_spatial.neighbourhood import local_density as local_density
    from cellweave_spatial.neighbourhood import (
        neighbourhood_composition as neighbourhood_composition,
    )
    from cellweave_spatial.patches import image_patches as image_patches
    from cellweave_spatial.preparation import SpatialSettings as SpatialSettings
    from cellweave_spatial.technology import technology_label as technology_label
    from cellweave_spatial.through_spatialdata import (
        read_through_spatialdata as read_through_spatialdata,
    )

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "SpatialGraph": "cellweave_spatial.graphs",
        "SpatialModality": "cellweave_spatial.modality",
        "SpatialSettings": "cellweave_spatial.preparation",
        "coordinates_of": "cellweave_spatial.coordinates",
        "image_patches": "cellweave_spatial.patches",
        "link_features": "cellweave_spatial.links",
        "local_density": "cellweave_spatial.neighbourhood",
        "neighbourhood_composition": "cellweave_spatial.neighbourhood",
        "read_through_spatialdata": "cellweave_spatial.through_spatialdata",
        "spatial_graph": "cellweave_spatial.graphs",
        "technology_label": "cellweave_spatial.technology",
    },
)
