from __future__ import annotations

from dataclasses import replace

import anndata as ad
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.records import LinkRequest
from cellweave_protein import link_features
from cellweave_protein._plugin import cellweave_link_features


def empty(names, **columns):
    var = pd.DataFrame(columns, index=names)
    return ad.AnnData(sp.csr_matrix((3, len(names)), dtype="f4"), var=var)


def request_for(proteins, others, **arguments):
    values = {"source": "prot", "target": "rna"} | arguments
    return LinkRequest(source_data=empty(proteins), target_data=others, **values)


def linked(links):
    return [tuple(r) for r in links.to_frame()[["source", "target"]].to_numpy()]


def test_complexes_meet_every_chain():
    links = link_features(
        request_for(["CD3_TotalSeqB", "IgG1_control", "Blob"], empty(["CD3E", "X", "CD3D"]))
    )
    assert linked(links) == [("CD3_TotalSeqB", "CD3E"), ("CD3_TotalSeqB", "CD3D")]
    assert links.unmatched_source == {
        "IgG1_control": "IgG1_control is an isotype control, it binds no gene product",
        "Blob": "Blob is in no name or alias of the marker table",
    }
    assert links.unmatched_target == {"X": "no protein of the panel is made by it"}


def test_absent_genes_are_named():
    links = link_features(request_for(["CD4", "CD127"], empty(["CD4"])))
    assert links.unmatched_source == {"CD127": "CD127: IL7R not among the genes of rna"}


def test_mouse_symbols_and_identifiers():
    genes = empty(["ENSMUSG00000032093", "Cd8a", "Klrb1c"], symbol=["Cd3e", "Cd8a", "Klrb1c"])
    links = link_features(request_for(["CD3e", "CD8a", "NK-1.1"], genes))
    assert linked(links) == [
        ("CD3e", "ENSMUSG00000032093"),
        ("CD8a", "Cd8a"),
        ("NK-1.1", "Klrb1c"),
    ]


def test_both_orders_and_spatial():
    forward = link_features(request_for(["CD4", "CD19"], empty(["CD19", "CD4"])))
    request = LinkRequest(
        source="spatial",
        target="prot",
        source_data=empty(["CD19", "CD4"]),
        target_data=empty(["CD4", "CD19"]),
    )
    back = link_features(request)
    assert (back.matrix() != forward.matrix().T).nnz == 0


@pytest.fixture
def coordinates(tmp_path):
    path = tmp_path / "genes.tsv"
    path.write_text(
        "chrom\tstart\tend\tid\tsymbol\tstrand\n"
        "chr11\t5001\t6000\tENSG1\tCD3E\t+\nchr11\t9001\t9500\tENSG2\tCD3D\t-\n"
    )
    return path


def test_proteins_meet_regions_through_their_genes(coordinates):
    peaks = empty(["chr11:5500-5600", "chr11:11000-11100", "chr11:90000-90100"])
    request = request_for(["CD3", "CD4"], peaks, target="atac", genes=coordinates)
    links = link_features(request)
    assert linked(links) == [("CD3", "chr11:5500-5600"), ("CD3", "chr11:11000-11100")]
    assert "CD4: CD4 not among the regions" in links.unmatched_source["CD4"]
    far = link_features(replace(request, method="window"))
    assert len(far) == 3
    with pytest.raises(DataError, match="Give genes=PATH"):
        link_features(replace(request, genes=None))


def test_the_nearer_gene_of_a_complex_counts(coordinates):
    peaks = empty(["chr11:6500-6600"])
    request = request_for(["CD3"], peaks, target="atac", genes=coordinates, method="gene_body")
    links = link_features(replace(request, parameters={"window": 5000}))
    assert links.weights.tolist() == pytest.approx([(1501 / 1000) ** -0.75])


def test_refusals(tmp_path):
    with pytest.raises(DataError, match="1 of 1 names are known markers; their genes are not"):
        link_features(request_for(["CD4"], empty(["GAPDH"])))
    with pytest.raises(ConfigError, match=r"Unknown method 'marcer'.*'marker'"):
        link_features(request_for(["CD4"], empty(["CD4"]), method="marcer"))
    with pytest.raises(ConfigError, match="Unknown parameter 'window'"):
        link_features(request_for(["CD4"], empty(["CD4"]), parameters={"window": 1}))
    assert cellweave_link_features(request_for(["CD4"], empty(["CD4"]), target="metab")) is None
    own = request_for(["CD4"], empty(["CD4"]), table=tmp_path / "own.csv")
    assert link_features(own) is None


def test_own_marker_table(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("marker,genes\nBlob,GENE9\n")
    request = request_for(["Blob"], empty(["GENE9"]), method="marker", table=path)
    assert linked(link_features(request)) == [("Blob", "GENE9")]
