"""Names that simulated features carry: a few real ones, so that rules about names can be tried.

Only the names are real. Coordinates, levels and links of simulated features are drawn at random.
"""

from __future__ import annotations

__all__ = ["CHROMOSOMES", "ISOTYPES", "METABOLITES", "PROTEINS", "TYPES", "feature_names"]

# Leaves of the tree of cell types, neighbours in the list being neighbours in the tree,
# with the genes that mark them.
TYPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("CD4 T", ("CD3E", "CD3D", "CD4", "IL7R", "CCR7", "CD27", "CD28", "ICOS")),
    ("CD8 T", ("CD3E", "CD3D", "CD8A", "CD8B", "GZMK", "PDCD1", "TIGIT")),
    ("NK", ("NCAM1", "GNLY", "NKG7", "KLRB1", "FCGR3A", "KLRD1")),
    ("B", ("MS4A1", "CD19", "CD79A", "CD22", "CR2", "FCER2")),
    ("Plasma", ("CD38", "SDC1", "MZB1", "TNFRSF17", "CD27")),
    ("Monocyte", ("CD14", "LYZ", "S100A8", "ITGAM", "CD33", "FCGR1A")),
    ("Dendritic", ("CD1C", "FCER1A", "CLEC10A", "ITGAX", "HLA-DRA", "CD86")),
    ("Plasmacytoid", ("IL3RA", "CLEC4C", "NRP1", "LILRA4")),
    ("Megakaryocyte", ("ITGA2B", "GP9", "PF4", "CD9")),
    ("Erythroid", ("HBB", "GYPA", "TFRC", "CD36")),
    ("Progenitor", ("CD34", "KIT", "THY1", "PROM1", "FLT3")),
    ("Stromal", ("ENG", "NT5E", "PECAM1", "VCAM1", "COL1A1")),
)

# Antibody name and the gene that codes for its target.
PROTEINS: tuple[tuple[str, str], ...] = (
    ("CD3", "CD3E"), ("CD4", "CD4"), ("CD8", "CD8A"), ("CD19", "CD19"), ("CD20", "MS4A1"),
    ("CD56", "NCAM1"), ("CD16", "FCGR3A"), ("CD14", "CD14"), ("CD1c", "CD1C"),
    ("CD123", "IL3RA"), ("CD38", "CD38"), ("CD127", "IL7R"), ("CD197", "CCR7"),
    ("CD27", "CD27"), ("CD28", "CD28"), ("CD278", "ICOS"), ("CD279", "PDCD1"),
    ("TIGIT", "TIGIT"), ("CD161", "KLRB1"), ("CD22", "CD22"), ("CD21", "CR2"),
    ("CD138", "SDC1"), ("CD11b", "ITGAM"), ("CD11c", "ITGAX"), ("CD33", "CD33"),
    ("CD64", "FCGR1A"), ("HLA-DR", "HLA-DRA"), ("CD86", "CD86"), ("CD303", "CLEC4C"),
    ("CD41", "ITGA2B"), ("CD235a", "GYPA"), ("CD71", "TFRC"), ("CD34", "CD34"),
    ("CD117", "KIT"), ("CD90", "THY1"), ("CD105", "ENG"), ("CD73", "NT5E"), ("CD31", "PECAM1"),
)  # fmt: skip

ISOTYPES: tuple[str, ...] = ("IgG1_isotype", "IgG2a_isotype", "IgG2b_isotype")

# Name and m/z of the [M-H]- ion.
METABOLITES: tuple[tuple[str, float], ...] = (
    ("pyruvate", 87.0088), ("lactate", 89.0244), ("alanine", 88.0404), ("serine", 104.0353),
    ("fumarate", 115.0037), ("succinate", 117.0193), ("aspartate", 132.0302),
    ("malate", 133.0142), ("alpha-ketoglutarate", 145.0142), ("glutamine", 145.0619),
    ("glutamate", 146.0459), ("ascorbate", 175.0248), ("citrate", 191.0197),
    ("palmitate", 255.2330), ("oleate", 281.2486), ("stearate", 283.2643),
    ("arachidonate", 303.2330), ("glutathione", 306.0765), ("UMP", 323.0286),
    ("AMP", 346.0558), ("ADP", 426.0221), ("ATP", 505.9885),
)  # fmt: skip

# Lengths in megabases, rounded.
CHROMOSOMES: tuple[tuple[str, int], ...] = (
    ("chr1", 249), ("chr2", 242), ("chr3", 198), ("chr4", 190), ("chr5", 182), ("chr6", 171),
    ("chr7", 159), ("chr8", 145), ("chr9", 138), ("chr10", 134), ("chr11", 135), ("chr12", 133),
    ("chr13", 114), ("chr14", 107), ("chr15", 102), ("chr16", 90), ("chr17", 83), ("chr18", 80),
    ("chr19", 59), ("chr20", 64), ("chr21", 47), ("chr22", 51), ("chrX", 156),
)  # fmt: skip


def feature_names(known: tuple[str, ...], count: int, prefix: str) -> list[str]:
    """Return ``count`` names: the known ones first, then ``prefix`` with a running number."""
    made_up = [f"{prefix}{i:05d}" for i in range(1, max(count - len(known), 0) + 1)]
    return [*known[:count], *made_up]
