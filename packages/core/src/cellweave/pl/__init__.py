"""Pictures: every function takes ``ax`` and returns it; none touches pyplot or its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.pl.colours import palette as palette
    from cellweave.pl.curves import losses as losses
    from cellweave.pl.curves import match_scores as match_scores
    from cellweave.pl.curves import worst_types as worst_types
    from cellweave.pl.genome import links_on_genome as links_on_genome
    from cellweave.pl.matrices import confusion as confusion
    from cellweave.pl.matrices import metrics_table as metrics_table
    from cellweave.pl.plane import layout as layout
    from cellweave.pl.quality import qc_violins as qc_violins
    from cellweave.pl.scatter import umap as umap
    from cellweave.pl.spatial import ion_image as ion_image
    from cellweave.pl.spatial import spatial_map as spatial_map

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "confusion": "cellweave.pl.matrices",
        "ion_image": "cellweave.pl.spatial",
        "layout": "cellweave.pl.plane",
        "links_on_genome": "cellweave.pl.genome",
        "losses": "cellweave.pl.curves",
        "match_scores": "cellweave.pl.curves",
        "metrics_table": "cellweave.pl.matrices",
        "palette": "cellweave.pl.colours",
        "qc_violins": "cellweave.pl.quality",
        "spatial_map": "cellweave.pl.spatial",
        "umap": "cellweave.pl.scatter",
        "worst_types": "cellweave.pl.curves",
    },
)
