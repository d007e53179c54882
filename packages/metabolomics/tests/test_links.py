from __future__ import annotations

from dataclasses import replace

import anndata as ad
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import DataError, UnreadableFileError
from cellweave.records import LinkRequest
from cellweave_metabolomics import link_features
from cellweave_metabolomics._plugin import cellweave_link_features


def empty(names, **columns):
    var = pd.DataFrame(columns, index=names)
    return ad.AnnData(sp.csr_matrix((3, len(names)), dtype="f4"), var=var)


@pytest.fixture
def request_(tmp_path):
    return LinkRequest(
        source="metab",
        target="rna",
        source_data=empty(["mz-203.052609", "mz-500.5"], name=["Glucose;Fructose", ""]),
        target_data=empty(["HK1", "Pfkl"]),
        table=tmp_path / "table.csv",
    )


def linked(links):
    frame = links.to_frame()
    return {(s, t): round(w * g, 4) for s, t, w, g in frame.iloc[:, :4].itertuples(index=False)}


def test_pairs_by_name(request_):
    request_.table.write_text(
        "metabolite,gene,weight,sign\nfructose,PFKL,0.5,-1\nlactate,LDHA,1,1\n"
    )
    links = link_features(request_)
    assert linked(links) == {("mz-203.052609", "Pfkl"): -0.5}
    assert "none of its names meets a gene of rna" in links.unmatched_source["mz-500.5"]


def test_reactions_join_members(request_):
    request_.table.write_text(
        "reaction,member,kind\nr1,glucose,metabolite\nr1,ATP,metabolite\nr1,HK1,gene\n"
        "r2,glucose,metabolite\nr2,HK1,gene\nr2,PFKL,gene\nr2,GAPDH,gene\n"
    )
    assert linked(link_features(request_)) == {
        ("mz-203.052609", "HK1"): round(2 / 3, 4),
        ("mz-203.052609", "Pfkl"): 0.5,
    }


def test_masses_where_names_fail(request_):
    request_.table.write_text("metabolite,formula,gene\nhexose,C6H12O6,HK1\nother,C9H9,HK1\n")
    assert linked(link_features(request_)) == {("mz-203.052609", "HK1"): 1.0}
    none = replace(request_, parameters={"adducts": "[M+H]+"})
    with pytest.raises(DataError, match="of 2 pairs 0 have their metabolite and 2 their gene"):
        link_features(none)


def test_both_orders(request_):
    request_.table.write_text("metabolite,gene\nglucose,HK1\n")
    back = link_features(
        replace(
            request_,
            source="rna",
            target="metab",
            source_data=request_.target_data,
            target_data=request_.source_data,
        )
    )
    assert (back.matrix() != link_features(request_).matrix().T).nnz == 0


def test_refusals(request_):
    with pytest.raises(DataError, match="no table of them was given"):
        link_features(replace(request_, table=None))
    request_.table.write_text("a,b\n1,2\n")
    with pytest.raises(UnreadableFileError, match="Expected metabolite and gene, or reaction"):
        link_features(request_)
    request_.table.write_text("metabolite,gene,weight\nglucose,HK1,5\n")
    with pytest.raises(DataError, match="weights from 5 to 5"):
        link_features(request_)
    assert cellweave_link_features(replace(request_, target="atac")) is None
    assert link_features(replace(request_, method="table")) is None
