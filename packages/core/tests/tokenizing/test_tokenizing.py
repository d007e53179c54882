"""Patches, regions and several modalities against plain re-tellings of their rules."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, NotFittedError, StateMismatchError
from cellweave.records import ComponentState, Tokens, Vocabulary
from cellweave.testing import TokenizerSuite
from cellweave.tokenizing import (
    PatchTokenizer,
    RankTokenizer,
    RegionTokenizer,
    combine_tokens,
)
from cellweave.tokenizing.statistics import GroupedStatistics
from cellweave.tokenizing.table import table_from_ids


@pytest.fixture(scope="module")
def peaks():
    rng = np.random.default_rng(0)
    counts = sp.random(40, 230, density=0.2, format="csr", random_state=rng)
    counts.data = rng.integers(1, 4, counts.nnz).astype(np.float32)
    made = anndata.AnnData(sp.csr_matrix(counts, dtype=np.float32))
    made.obs_names = [f"c{i}" for i in range(40)]
    made.var_names = [f"p{i}" for i in range(230)]
    made.var["chrom"] = rng.choice(["chr2", "chr10", "chrX"], 230)
    made.var["chromStart"] = rng.permutation(230) * 100
    return made


class TestPatchContract(TokenizerSuite):
    def create(self, **arguments):
        return PatchTokenizer(width=16, **arguments)


class TestRegionContract(TokenizerSuite):
    def create(self, **arguments):
        return RegionTokenizer(**arguments)


@pytest.mark.parametrize("by_chromosome", [False, True])
@pytest.mark.parametrize("keep_empty", [False, True])
def test_patches_are_the_vector_cut_in_genomic_order(peaks, by_chromosome, keep_empty):
    tokenizer = PatchTokenizer(
        width=16, by_chromosome=by_chromosome, keep_empty=keep_empty, log1p=False
    ).fit(peaks)
    tokens = tokenizer.encode(peaks)
    rank = {"chr2": 0, "chr10": 1, "chrX": 2}
    order = sorted(
        range(230), key=lambda j: (rank[peaks.var.chrom.iloc[j]], peaks.var.chromStart.iloc[j])
    )
    runs = [order]
    if by_chromosome:
        runs = [[j for j in order if peaks.var.chrom.iloc[j] == c] for c in rank]
    patches = [run[i : i + 16] for run in runs for i in range(0, len(run), 16)]
    dense = peaks.X.toarray()
    for cell in range(40):
        rows = []
        for p, members in enumerate(patches):
            values = np.pad(dense[cell, members], (0, 16 - len(members)))
            if keep_empty or values.any():
                rows.append((p, values))
        mine = slice(tokens.offsets[cell], tokens.offsets[cell + 1])
        assert tokens.positions[mine].tolist() == [p for p, _ in rows]
        assert np.array_equal(tokens.values[mine], np.array([v for _, v in rows]))
    back = tokenizer.decode(tokens).toarray()
    assert np.array_equal(back, peaks[:, tokenizer.table.features].X.toarray())


def test_patches_need_coordinates(peaks):
    bare = anndata.AnnData(peaks.X, var=peaks.var[[]])
    with pytest.raises(DataError, match=r"missing: chrom, chromStart.*order='data'"):
        PatchTokenizer().fit(bare)


def test_regions_follow_the_published_tf_idf(peaks):
    tokenizer = RegionTokenizer(max_length=None).fit(peaks)
    tokens = tokenizer.encode(peaks)
    opened = (peaks.X.toarray() > 0).astype(float)
    frequency = opened.mean(axis=0)
    first = int(tokenizer.table.ids[0])
    for cell in range(40):
        score = np.log1p(1e4 * opened[cell] / opened[cell].sum() / frequency)
        expected = np.argsort(-np.round(score, 12), kind="stable")[: int(opened[cell].sum())]
        mine = tokens.ids[tokens.offsets[cell] : tokens.offsets[cell + 1]]
        special = tokenizer.vocabulary.special
        assert (mine[0], mine[-1]) == (special["cls"], special["eos"])
        assert np.array_equal(mine[1:-1] - first, expected)


def test_long_cells_are_sampled_in_order(peaks):
    whole = RegionTokenizer(max_length=None).fit(peaks).encode(peaks)
    few = RegionTokenizer(max_length=12).fit(peaks).encode(peaks)
    for cell in range(40):
        long = whole.ids[whole.offsets[cell] : whole.offsets[cell + 1]].tolist()
        short = few.ids[few.offsets[cell] : few.offsets[cell + 1]].tolist()
        assert len(short) == min(12, len(long))
        places = [long.index(token) for token in short]
        assert places == sorted(places)


def test_medians_of_a_stream_are_close_and_do_not_depend_on_chunks():
    rng = np.random.default_rng(0)
    features, values = rng.integers(0, 5, 4001), rng.lognormal(0, 2, 4001)
    whole, parts = GroupedStatistics(), GroupedStatistics()
    whole.add("g", features, values)
    for chunk in np.array_split(rng.permutation(4001), 7):
        parts.add("g", features[chunk], values[chunk])
    exact = np.array([np.quantile(values[features == f], 0.5, method="lower") for f in range(5)])
    assert np.array_equal(whole.median_values(6)["g"], parts.median_values(6)["g"], equal_nan=True)
    assert np.allclose(whole.median_values(6)["g"][:5], exact, rtol=0.003)
    assert np.isnan(whole.median_values(6)["g"][5])
    mean = [values[features == f].mean() for f in range(5)]
    assert np.allclose(whole.means(5)["g"], mean)


def test_factors_by_group_drop_what_a_group_never_measured(peaks):
    cells = peaks.copy()
    cells.obs["technology"] = np.where(np.arange(40) < 20, "one", "two")
    cells.X = sp.csr_matrix(
        cells.X.toarray() * np.where((np.arange(40) < 20)[:, None] & (np.arange(230) < 50), 0, 1)
    )
    tokenizer = RankTokenizer(scaling="mean", group_key="technology").fit(cells)
    assert np.isnan(tokenizer.factors("one")[:50]).all()
    lone = cells[20:].copy()
    lone.obs["technology"] = "one"
    assert not np.isin(tokenizer.encode(lone).ids, tokenizer.table.ids[:50]).any()
    lone.obs["technology"] = "three"
    with pytest.raises(DataError, match=r"no factors for 'three'"):
        tokenizer.encode(lone)


def test_context_tokens_lead_and_unknown_values_have_a_token(peaks):
    cells = peaks.copy()
    cells.obs["species"] = ["human", "mouse"] * 20
    tokenizer = RankTokenizer(context=("species",), start=True).fit(cells)
    cells.obs["species"] = ["human", None] + ["fly"] * 38
    tokens = tokenizer.encode(cells)
    names = np.array(tokenizer.vocabulary.names)
    lead = names[tokens.ids[tokens.offsets[:3, None] + np.arange(2)]]
    assert lead.tolist() == [
        ["<cls>", "<species=human>"],
        ["<cls>", "<species=<unknown>>"],
        ["<cls>", "<species=<unknown>>"],
    ]


def test_several_modalities_stand_in_one_sequence():
    def part(names, lengths, values=None):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        ids = np.arange(offsets[-1], dtype=np.int32) % 3
        return Tokens(offsets=offsets, ids=ids, obs_names=np.array(names), values=values)

    rna = part(["a", "b"], [2, 1], np.array([1, 2, 3], dtype=np.float32))
    atac = part(["c", "a"], [1, 3], np.ones((4, 5), dtype=np.float32))
    vocabularies = {m: Vocabulary(names=("x", "y", "z")) for m in ("rna", "atac")}
    made = combine_tokens({"rna": rna, "atac": atac}, vocabularies)
    names = np.array(made.vocabulary.names)
    tokens = made.tokens
    sequences = {
        str(cell): names[tokens.ids[i:j]].tolist()
        for cell, i, j in zip(tokens.obs_names, tokens.offsets, tokens.offsets[1:])
    }
    assert sequences == {
        "a": ["<modality:rna>", "rna:x", "rna:y", "<modality:atac>", "atac:y", "atac:z", "atac:x"],
        "b": ["<modality:rna>", "rna:z"],
        "c": ["<modality:atac>", "atac:x"],
    }
    assert tokens.values.shape == (len(tokens.ids), 5)
    assert tokens.values[1].tolist() == [1, 0, 0, 0, 0]
    assert tokens.context["has:atac"].tolist() == [True, False, True]
    assert tokens.modality.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1]


def test_a_cell_named_twice_cannot_be_matched():
    twice = Tokens(
        offsets=np.array([0, 1, 2]), ids=np.zeros(2, np.int32), obs_names=np.array(["a", "a"])
    )
    with pytest.raises(DataError, match=r"holds the cell 'a' more than once"):
        combine_tokens({"rna": twice}, {"rna": Vocabulary(names=("x",))})


def test_texts_of_refusals(peaks, tmp_path):
    with pytest.raises(ConfigError, match=r"max_length=1 leaves no room.*overflow='x'"):
        RankTokenizer(start=True, max_length=1, overflow="x")
    with pytest.raises(NotFittedError, match=r"'rank' is not fitted\. Call fit"):
        _ = RankTokenizer().vocabulary
    with pytest.raises(StateMismatchError, match=r"a state of 'other'. Expected one of 'rank'"):
        RankTokenizer.from_state(ComponentState(component="other", parameters={}))
    with pytest.raises(ConfigError, match=r"var has no column 'ensembl'"):
        RankTokenizer(names_from="ensembl").fit(peaks)
    bad = peaks.copy()
    bad.X.data[3] = -1
    with pytest.raises(DataError, match=r"X\[0, \d+\] = -1.*raw counts"):
        RankTokenizer().fit(peaks).encode(bad)
    with pytest.raises(DataError, match=r"ids are not 0 … 1 once each"):
        table_from_ids({"a": 0, "b": 2}, special={})


def test_duplicate_features_are_refused(peaks):
    tokenizer = RankTokenizer().fit(peaks)
    twice = anndata.AnnData(peaks.X, var=pd.DataFrame(index=["p0", *peaks.var_names[:-1]]))
    with pytest.raises(DataError, match=r"Two columns carry the same feature name"):
        tokenizer.encode(twice)
