from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave.joins import without_pulling
from cellweave.linking import DistanceRule, Regions, link, link_by_distance, link_pair
from cellweave.linking.distance import gene_intervals
from cellweave.records import LinkRequest


def nobody(_: LinkRequest) -> None:
    return None


def data(names, n=60, seed=0, **columns):
    x = np.random.default_rng(seed).poisson(2, (n, len(names))).astype(np.float32)
    return ad.AnnData(
        X=sp.csr_matrix(x),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n)]),
        var=pd.DataFrame(columns, index=list(names)),
    )


def made(source, target, **arguments):
    return link(source, target, source="rna", target="thing", hook=nobody, **arguments)


# -- distance --------------------------------------------------------------------------------


def places(*rows):
    chrom, starts, ends, strand = zip(*rows)
    return Regions(
        chrom=np.array(chrom, dtype=object),
        starts=np.array(starts),
        ends=np.array(ends),
        strand=np.array(strand, dtype=object),
    )


def test_combined_interval_grows_upstream_of_the_strand():
    genes = places(("1", 5000, 6000, "+"), ("1", 5000, 6000, "-"), ("1", 500, 600, "+"))
    got = gene_intervals(genes, DistanceRule(anchor="combined"))
    assert got.starts.tolist() == [3000, 5000, 0]
    assert got.ends.tolist() == [6000, 8000, 600]


def test_promoter_is_upstream_of_the_first_base():
    genes = places(("1", 5000, 6000, "+"), ("1", 5000, 6000, "-"))
    got = gene_intervals(genes, DistanceRule(anchor="promoter"))
    assert got.starts.tolist() == [3000, 5999]
    assert got.ends.tolist() == [5001, 8000]


def test_weights_fall_with_distance():
    genes = places(("1", 10_000, 11_000, "+"))
    regions = places(
        ("1", 11_000, 11_100, "."), ("1", 12_000, 12_100, "."), ("1", 10_500, 10_600, ".")
    )
    pairs = link_by_distance(genes, regions, DistanceRule(anchor="gene_body", reach=2000))
    assert pairs.distances.tolist() == [-1, -1001, 0]
    np.testing.assert_allclose(pairs.weights, [(1001 / 1000) ** -0.75, (2001 / 1000) ** -0.75, 1])


def test_different_genomes_are_refused():
    with pytest.raises(DataError, match="'1', regions on 'z': none is shared"):
        link_by_distance(places(("1", 1, 2, "+")), places(("z", 1, 2, "+")), DistanceRule())


# -- identity --------------------------------------------------------------------------------


def test_identity_matches_any_naming():
    left = data(["ENSG00000000001.3", "CD4", "Alone"], gene_ids=["", "ENSG00000000002", ""])
    right = data(["x", "ENSG00000000001", "Cd4"], symbol=["x", "", ""])
    links = made(left, right)
    assert links.to_frame()[["source", "target"]].to_numpy().tolist() == [
        ["ENSG00000000001.3", "ENSG00000000001"],
        ["CD4", "Cd4"],
    ]
    assert links.unmatched_source == {"Alone": "no feature of thing has this name"}
    assert links.weights.tolist() == [1, 1]


def test_exact_names_beat_other_case():
    links = made(data(["Cd4", "CD4"]), data(["CD4"]))
    assert links.to_frame()["source"].tolist() == ["CD4"]


# -- table -----------------------------------------------------------------------------------


def test_table_gives_weights_signs_and_evidence(tmp_path):
    path = tmp_path / "links.csv"
    path.write_text(
        "source,target,weight,sign,evidence\na,p,0.5,-1,eqtl\nb,q,1,1,hic\nzz,p,1,1,x\n"
    )
    links = made(data("ab"), data("pq"), table=path)
    assert links.matrix().toarray().tolist() == [[-0.5, 0], [0, 1]]
    assert links.evidence.tolist() == ["eqtl", "hic"]


def test_table_is_read_either_way_round(tmp_path):
    path = tmp_path / "links.tsv"
    path.write_text("thing\trna\np\ta\n")
    assert made(data("ab"), data("pq"), table=path).rows.tolist() == [0]
    path.write_text("source\ttarget\np\ta\n")
    assert made(data("ab"), data("pq"), table=path).cols.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("a,b\n1,2\n", UnreadableFileError, "without source, target"),
        ("source,target,weight\na,p,7\n", DataError, r"weights reach from 7 to 7, not in \(0, 1\]"),
        ("source,target,weight\na,p,much\n", DataError, "Line 2 .* weight 'much'"),
        ("source,target,sign\na,p,3\n", DataError, r"signs hold \[3.0\]"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, error, match):
    path = tmp_path / "links.csv"
    path.write_text(text)
    with pytest.raises(error, match=match):
        made(data("ab"), data("pq"), table=path)


def test_doubled_pairs_keep_the_heavier(tmp_path):
    path = tmp_path / "links.csv"
    path.write_text("source,target,weight\na,p,0.2\na,p,0.9\n")
    assert made(data("ab"), data("pq"), table=path).weights.tolist() == pytest.approx([0.9])


# -- correlation -----------------------------------------------------------------------------


def test_correlation_equals_numpy():
    left, right = data([f"g{i}" for i in range(15)], n=80), data([f"p{i}" for i in range(9)], 80, 1)
    links = made(left, right, method="correlation", parameters={"threshold": 1e-6, "max_links": 9})

    def logs(adata):
        x = adata.X.toarray().astype(float)
        return np.log1p(x / x.sum(1, keepdims=True) * 1e4)

    expected = np.corrcoef(logs(left).T, logs(right).T)[:15, 15:]
    np.testing.assert_allclose(links.matrix().toarray(), expected, atol=1e-4)


def test_correlation_keeps_the_strongest_and_pairs_by_name():
    left = data([f"g{i}" for i in range(5)], n=80)
    right = left[np.random.default_rng(0).permutation(80)].copy()
    links = made(left, right, method="correlation", parameters={"max_links": 1})
    assert links.rows.tolist() == links.cols.tolist() == [0, 1, 2, 3, 4]
    assert links.weights.min() > 0.999


def test_correlation_needs_paired_cells():
    right = data("pq")
    right.obs_names = [f"other{i}" for i in range(60)]
    with pytest.raises(DataError, match=r"share 0 cell names.*need 30 paired cells"):
        made(data("ab"), right, method="correlation")


def test_constant_features_have_no_links():
    left = data("ab")
    left.X[:, 0] = 0
    links = made(left, data("pq", seed=3), method="correlation", parameters={"threshold": 1e-9})
    assert 0 not in links.rows


# -- the verb --------------------------------------------------------------------------------


def test_the_hook_is_asked_first():
    def hook(request: LinkRequest):
        return made(request.source_data, request.source_data)

    links = link(data("ab"), data("pq"), source="rna", target="thing", hook=hook)
    assert len(links) == 2


def test_nobody_knows_says_what_to_install_or_give():
    with pytest.raises(
        DataError, match=r"'a' and 'p'.*pip install cellweave-rna\. Or give your own"
    ):
        made(data("ab"), data("pq"))


def test_unknown_methods_and_parameters_are_told():
    with pytest.raises(ConfigError, match=r"by 'magic'. Always there: correlation"):
        made(data("ab"), data("ab"), method="magic")
    with pytest.raises(ConfigError, match=r"parameter 'treshold'. Did you mean 'threshold'"):
        made(data("ab"), data("ab"), method="correlation", parameters={"treshold": 1})


def test_link_pair_takes_a_mudata():
    import mudata

    with without_pulling():
        mdata = mudata.MuData({"rna": data("ab"), "thing": data("bc")})
    links = link_pair(mdata, "rna", "thing", ask=nobody)
    assert links.to_frame()["source"].tolist() == ["b"]
    with pytest.raises(DataError, match=r"no modality 'thinq'. Did you mean 'thing'"):
        link_pair(mdata, "rna", "thinq", ask=nobody)


def test_reversing_exchanges_the_sides(tmp_path: Path):
    links = made(data("abc"), data("bcd"))
    back = made(data("bcd"), data("abc"))
    assert (links.reversed().matrix() != back.matrix()).nnz == 0


def test_data_without_features_are_refused_in_words():
    import anndata
    import numpy as np

    from cellweave.linking import link

    some = anndata.AnnData(np.ones((3, 2), dtype="f4"))
    with pytest.raises(DataError, match=r"e\.g\. none and .0."):
        link(some[:, :0].copy(), some, source="a", target="b", hook=lambda request: None)
