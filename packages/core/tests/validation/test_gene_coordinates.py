"""Genes with coordinates beside them stay genes."""

from __future__ import annotations

from cellweave.datasets import simulate
from cellweave.validation import validate


def test_gene_coordinates_do_not_make_a_peak_matrix():
    mdata = simulate(n_cells=40, modalities=("rna", "prot"), seed=0)
    assert {"chrom", "chromStart", "chromEnd"} <= set(mdata["rna"].var)
    assert "MODALITY_SWAPPED" not in validate(mdata).codes()


def test_peaks_under_the_key_of_genes_are_found():
    mdata = simulate(n_cells=40, modalities=("rna", "atac"), seed=0)
    swapped = type(mdata)({"rna": mdata["atac"].copy(), "atac": mdata["rna"].copy()})
    assert "MODALITY_SWAPPED" in validate(swapped).codes()
