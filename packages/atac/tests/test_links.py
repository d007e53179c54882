from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.joins import without_pulling
from cellweave.records import LinkRequest
from cellweave_atac import gene_activity, link_features
from cellweave_atac._plugin import cellweave_link_features


def empty(names, **columns):
    return ad.AnnData(
        sp.csr_matrix((3, len(names)), dtype="f4"), var=pd.DataFrame(columns, index=names)
    )


@pytest.fixture
def request_(tmp_path):
    table = tmp_path / "genes.tsv"
    table.write_text(
        "chrom\tstart\tend\tid\tsymbol\tstrand\n"
        "chr1\t10001\t20000\tENSG00000000001\tPLUS\t+\n"
        "chr1\t30001\t40000\tENSG00000000002\tMINUS\t-\n"
        "chr9\t1\t500\tENSG00000000003\tFAR\t+\n"
    )
    return LinkRequest(
        source="rna",
        target="atac",
        source_data=empty(["ENSG00000000001.4", "MINUS", "FAR", "NOPE"]),
        target_data=empty(
            ["chr1:8500-8600", "chr1:20100-20200", "chr1:41500-41600", "chr1:170000-170100", "junk"]
        ),
        genes=table,
    )


def pairs(links):
    return set(zip(links.rows.tolist(), links.cols.tolist()))


# PLUS: body 10000-20000, first base 10000; MINUS: body 30000-40000, first base 39999.
# Peaks: 8500-8600, 20100-20200, 41500-41600, 170000-170100.
@pytest.mark.parametrize(
    ("method", "parameters", "expected"),
    [
        (None, {}, {(0, 0), (1, 2)}),
        ("gene_body", {}, set()),
        ("gene_body", {"window": 100}, set()),
        ("gene_body", {"window": 101}, {(0, 1)}),
        ("promoter", {"promoter_length": 1400}, set()),
        ("promoter", {"promoter_length": 1401}, {(0, 0)}),
        ("promoter", {"promoter_length": 1501}, {(0, 0), (1, 2)}),
        ("window", {}, {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3)}),
        ("window", {"window": 160_000}, {(i, j) for i in (0, 1) for j in range(4)}),
    ],
)
def test_methods(request_, method, parameters, expected):
    links = link_features(replace(request_, method=method, parameters=parameters))
    assert pairs(links) == expected


def test_both_orders(request_):
    swapped = replace(
        request_,
        source="atac",
        target="rna",
        source_data=request_.target_data,
        target_data=request_.source_data,
    )
    forward, back = link_features(request_), link_features(swapped)
    assert (back.source, back.target) == ("atac", "rna")
    assert (back.matrix() != forward.matrix().T).nnz == 0
    assert back.unmatched_target == forward.unmatched_source


def test_unmatched_say_why(request_):
    links = link_features(request_)
    assert links.unmatched_source == {
        "FAR": "no region lies on chromosome 9",
        "NOPE": "NOPE is not in the gene table genes.tsv",
    }
    assert "junk has no coordinates" in links.unmatched_target["junk"]
    assert "no gene with a combined interval" in links.unmatched_target["chr1:20100-20200"]


def test_sign_and_decay(request_):
    links = link_features(replace(request_, method="window", parameters={"sign": -1, "power": 0}))
    assert set(links.signs) == {-1}
    assert set(links.weights) == {1.0}


def test_refusals(request_):
    with pytest.raises(DataError, match="give genes=PATH"):
        link_features(replace(request_, genes=None))
    with pytest.raises(ConfigError, match=r"Unknown method 'promotor'.*Did you mean 'promoter'"):
        link_features(replace(request_, method="promotor"))
    with pytest.raises(ConfigError, match=r"Unknown parameter 'windw'.*Did you mean 'window'"):
        link_features(replace(request_, parameters={"windw": 1}))
    with pytest.raises(ConfigError, match="sign=2"):
        link_features(replace(request_, parameters={"sign": 2}))


def test_others_pairs_are_not_ours(request_, tmp_path):
    assert cellweave_link_features(replace(request_, target="prot")) is None
    assert cellweave_link_features(replace(request_, source="metab")) is None
    assert link_features(replace(request_, method="table")) is None
    assert link_features(replace(request_, table=tmp_path / "own.csv")) is None


def test_gene_activities_meet_genes_by_name(request_):
    atac = ad.AnnData(
        sp.csr_matrix(np.ones((3, 3), "f4")),
        var=pd.DataFrame(index=["chr1:8500-8600", "chr1:20100-20200", "chr1:41500-41600"]),
    )
    activity = gene_activity(atac, request_.genes, window=0)
    links = link_features(replace(request_, target_data=activity, genes=None))
    assert set(zip(*(links.to_frame()[c] for c in ("source", "target")))) == {
        ("ENSG00000000001.4", "PLUS"),
        ("MINUS", "MINUS"),
    }
    with pytest.raises(DataError, match="neither peaks nor genes"):
        link_features(replace(request_, method="gene_activity"))


@pytest.mark.data
def test_snare_links_agree_with_the_sources():
    root = os.environ.get("CELLWEAVE_DATA")
    if not root:
        pytest.skip("CELLWEAVE_DATA is not set: no real data to link")
    import mudata

    folder = Path(root) / "snare_mouse_cortex"
    with without_pulling():
        mdata = mudata.read_h5mu(folder / "snare_mouse_cortex.h5mu")
    stored = np.load(folder / "gene_x_region_links.npz")
    theirs = sp.csr_matrix((stored["data"], stored["indices"], stored["indptr"]), stored["shape"])
    links = link_features(
        LinkRequest(
            source="rna",
            target="atac",
            source_data=mdata["rna"],
            target_data=mdata["atac"],
            genes=Path(root) / "vocab" / "GRCm38_ensembl_gene_coords.tsv.gz",
        )
    )
    shared = (links.matrix() > 0).multiply(theirs > 0).nnz
    assert shared / theirs.nnz > 0.99
    assert shared / len(links) > 0.99
