"""The rules of the tokenizers, each re-told slowly and plainly."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave_rna import tokenizers as made
from cellweave_rna.tokenizers.geneset import read_gmt


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    counts = sp.random(30, 90, density=0.4, format="csr", random_state=rng)
    counts.data = rng.integers(1, 30, counts.nnz).astype(np.float32)
    adata = anndata.AnnData(sp.csr_matrix(counts, dtype=np.float32))
    adata.obs_names = [f"c{i}" for i in range(30)]
    adata.var_names = [f"Gene{i}" for i in range(90)]
    adata.var["chrom"] = rng.choice(["1", "2", "X"], 90)
    adata.var["chromStart"] = rng.permutation(90)
    adata.obs["sample"] = np.repeat(["s1", "s2"], 15)
    return adata


def row_of(tokens, i):
    return slice(tokens.offsets[i], tokens.offsets[i + 1])


def test_rank_tokens_by_a_plain_loop(cells):
    tokenizer = made.RankTokenizer(max_length=25, end=True).fit(cells)
    tokens, dense = tokenizer.encode(cells), cells.X.toarray().astype(float)
    factors, first = tokenizer.factors(), tokenizer.table.ids[0]
    for i, counts in enumerate(dense):
        part = (counts / counts.sum()).astype("f4")
        scaled = (part * np.float32(1e4)).astype("f4").astype(float)
        order = sorted(np.flatnonzero(counts), key=lambda g, s=scaled: (-s[g] / factors[g], g))
        mine = tokens.ids[row_of(tokens, i)]
        assert mine[-1] == tokenizer.vocabulary.special["eos"]
        assert (mine[:-1] - first).tolist() == [int(g) for g in order][:24]


def test_numpy_ties_come_in_the_order_of_the_data(cells):
    flat = anndata.AnnData((cells.X > 0).astype(np.float32), obs=cells.obs, var=cells.var)
    tokenizer = made.RankTokenizer(scaling="none", tie_break="numpy", max_length=None).fit(flat)
    tokens = tokenizer.encode(flat)
    for i in range(30):
        values = (flat.X[i].data / np.float32(flat.X[i].sum())) * np.float32(1e4)
        expected = flat.X[i].indices[np.argsort(-values.astype(float))]
        assert np.array_equal(tokens.ids[row_of(tokens, i)] - tokenizer.table.ids[0], expected)


def test_kept_values_fall_with_the_rank(cells):
    tokens = made.RankTokenizer(scaling="none", keep_values=True).fit(cells).encode(cells)
    for i in range(30):
        values = tokens.values[row_of(tokens, i)]
        assert np.all(np.diff(values) <= 0)
        assert np.isclose(values.sum(), 1e4, rtol=1e-5)


def test_bins_of_a_cell_do_not_change_when_it_is_cut(cells):
    whole = made.BinTokenizer(n_bins=11).fit(cells).encode(cells)
    few = made.BinTokenizer(n_bins=11, max_length=10, overflow="sample").fit(cells).encode(cells)
    for i in range(30):
        known = dict(zip(whole.ids[row_of(whole, i)], whole.values[row_of(whole, i)]))
        cut = few.ids[row_of(few, i)]
        assert len(cut) == 10
        assert all(known[g] == v for g, v in zip(cut, few.values[row_of(few, i)]))


@pytest.mark.parametrize(("kind", "value"), [("fixed", 4.0), ("times", 5.0), ("plus", 1.0)])
def test_values_and_depth(cells, kind, value):
    tokenizer = made.ValueTokenizer(depth=kind, depth_value=value, start=True).fit(cells)
    tokens = tokenizer.encode(cells)
    total = cells.X[3].sum()
    expected = {"fixed": 4.0, "times": np.log10(total * 5), "plus": np.log10(total) + 1}[kind]
    values = tokens.values[row_of(tokens, 3)]
    assert np.allclose(values[-2:], [expected, np.log10(total)])
    assert np.allclose(values[1:-2], np.log1p(cells.X[3].data / total * 1e4), rtol=1e-5)
    back = tokenizer.decode(tokens)
    assert np.array_equal(back.indices, cells.X.indices)


def test_total_in_a_column(cells):
    data = cells.copy()
    data.obs["raw_total"] = np.arange(100, 100 + data.n_obs)
    tokenizer = made.ValueTokenizer(
        depth="fixed", target_sum=0, log1p=False, total="raw_total"
    ).fit(data)
    tokens = tokenizer.encode(data)
    assert np.allclose(tokens.values[tokens.offsets[1:] - 1], np.log10(data.obs["raw_total"]))
    data.obs["raw_total"] = data.obs["raw_total"].astype(float).where(data.obs_names != "c1")
    with pytest.raises(DataError, match="Expected the cell's total"):
        tokenizer.encode(data)
    del data.obs["raw_total"]
    with pytest.raises(ConfigError, match="needs obs"):
        tokenizer.encode(data)


def test_fixed_order_has_every_gene(cells):
    tokens = made.FixedTokenizer(end=True).fit(cells).encode(cells)
    dense = cells.X.toarray().astype(float)
    scaled = dense / dense.sum(axis=1, keepdims=True) * 1e4
    expected = np.minimum(np.floor(np.log2(1 + scaled)), 5)
    assert np.array_equal(tokens.values.reshape(30, 91)[:, :-1], expected)
    assert np.array_equal(tokens.positions.reshape(30, 91)[7, :-1], np.arange(90))


@pytest.mark.parametrize("keep_empty", [True, False])
def test_gene_sets_are_means_over_members(cells, tmp_path, keep_empty):
    sets = {f"S{k}": [f"Gene{j}" for j in range(k, k + 5 + k)] for k in range(4)} | {
        "FOREIGN": ["A", "B", "C"], "SMALL": ["Gene1", "Gene2"],
    }  # fmt: skip
    path = tmp_path / "sets.gmt"
    path.write_text("".join(f"{n}\tabout\t" + "\t".join(g) + "\n" for n, g in sets.items()))
    tokenizer = made.GeneSetTokenizer(gmt=str(path), max_sets=3, keep_empty=keep_empty).fit(cells)
    tokens, names = tokenizer.encode(cells), np.array(tokenizer.vocabulary.names)
    assert list(names[-4:]) == ["S3", "S2", "S1", "<all_genes>"]
    dense = np.log1p(cells.X.toarray() / cells.X.sum(axis=1) * 1e4)
    dense = np.asarray(dense)
    for i in range(30):
        found = dict(zip(names[tokens.ids[row_of(tokens, i)]], tokens.values[row_of(tokens, i)]))
        for name in ("S3", "S2", "S1"):
            members = [int(g[4:]) for g in sets[name]]
            assert np.isclose(found.get(name, 0), dense[i, members].mean(), rtol=1e-4)
        assert np.isclose(found["<all_genes>"], dense[i].mean(), rtol=1e-4)
    assert tokenizer.membership().toarray()[:, 0].sum() == 8


def test_gmt_is_checked(cells, tmp_path):
    path = tmp_path / "bad.gmt"
    path.write_text("A\td\tx\nA\td\ty\n")
    with pytest.raises(UnreadableFileError, match=r"Line 2 of .* names 'A' again"):
        read_gmt(path)
    path.write_text("A\td\tother1\tother2\tother3\tother4\tother5\n")
    with pytest.raises(DataError, match=r"No set of .* holds 5 of the 90 measured genes"):
        made.GeneSetTokenizer(gmt=str(path)).fit(cells).encode(cells)


def test_sentences_and_back(cells):
    tokenizer = made.SentenceTokenizer(max_length=None).fit(cells)
    tokens = tokenizer.encode(cells)
    words = tokenizer.to_text(tokens)[5].split()
    counts = dict(zip((n.upper() for n in cells.var_names), cells.X[5].toarray().ravel()))
    values = [counts[w] for w in words]
    assert values == sorted(values, reverse=True)
    assert len(words) == cells.X[5].nnz
    stable = made.SentenceTokenizer(max_length=None, ties="vocabulary").fit(cells).encode(cells)
    assert not np.array_equal(tokens.ids, stable.ids)
    back = tokenizer.decode(tokens).toarray()
    scaled = np.asarray(cells.X.toarray() / np.asarray(cells.X.sum(axis=1)) * 1e4)
    mask = scaled > 0
    # Decoded logs lie on the least-squares line over log rank, so they agree with the truth as
    # well as log rank does, and no better. Ties have one value: their order moves no sum.
    ranks = [np.log10(1 + np.arange(len(r.data))) for r in cells.X]
    logs = [np.sort(np.log10(1 + row[row > 0]))[::-1] for row in scaled]
    slope, intercept = np.polyfit(np.concatenate(ranks), np.concatenate(logs), 1)
    assert np.allclose(
        [tokenizer.table.facts[k] for k in ("slope", "intercept")], [slope, intercept], rtol=1e-5
    )
    for i in range(30):
        line = 10 ** (intercept + slope * ranks[i]) - 1
        assert np.allclose(np.sort(back[i][back[i] > 0])[::-1], line, rtol=1e-4)
    best = -np.corrcoef(np.concatenate(ranks), np.concatenate(logs))[0, 1]
    found = np.corrcoef(np.log1p(back[mask]), np.log1p(scaled[mask]))[0, 1]
    assert abs(found - best) < 1e-4


def test_cells_of_one_sample_form_a_sequence(cells):
    tokens = made.CellTokenizer(sample_key="sample").fit(cells).encode(cells)
    assert tokens.context["sequence"].tolist() == [0] * 15 + [1] * 15
    assert np.allclose(tokens.values, np.log1p(cells.X.data))


def test_chromosomes_are_blocks_in_genomic_order(cells):
    tokenizer = made.ChromosomeTokenizer(n_draws=200).fit(cells)
    tokens, names = tokenizer.encode(cells), np.array(tokenizer.vocabulary.names)
    orders = set()
    for i in range(30):
        text = names[tokens.ids[row_of(tokens, i)]].tolist()
        assert text[0] == "<cls>"
        blocks, seen = " ".join(text[1:]).split(" <end>"), []
        for block in filter(None, (b.split() for b in blocks)):
            chromosome, genes = block[0].split(":")[1].rstrip(">"), block[1:]
            assert set(cells.var.loc[genes, "chrom"]) == {chromosome}
            starts = cells.var.loc[genes, "chromStart"].to_numpy()
            assert np.all(np.diff(starts) >= 0)
            assert np.all(cells[i, genes].X.toarray() > 0)
            seen.append(chromosome)
        assert len(seen) == len(set(seen))
        orders.add(tuple(seen))
        assert sum(w.startswith("Gene") for w in text) == 200
    assert len(orders) > 3


def test_genes_are_drawn_by_log_counts(cells):
    one = anndata.AnnData(
        sp.csr_matrix(np.array([[1, 3, 15.0]], dtype=np.float32)), var=cells.var.iloc[:3]
    )
    tokenizer = made.ChromosomeTokenizer(n_draws=20_000, max_length=None).fit(one)
    ids = tokenizer.encode(one).ids
    names = np.array(tokenizer.vocabulary.names)[ids]
    share = [np.mean(names[np.char.startswith(names, "Gene")] == f"Gene{j}") for j in range(3)]
    expected = np.array([1, 2, 4]) / 7
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 20_000))


def test_unique_genes_are_those_few_cells_express(cells):
    tokenizer = made.UniqueTokenizer(max_length=8).fit(cells)
    tokens, first = tokenizer.encode(cells), tokenizer.table.ids[0]
    share = np.asarray((cells.X > 0).mean(axis=0)).ravel()
    for i in range(30):
        expressed = cells.X[i].indices
        expected = sorted(expressed.tolist(), key=lambda g: (share[g], g))[:8]
        assert (tokens.ids[row_of(tokens, i)] - first).tolist() == expected
        counts = cells.X[i].toarray().ravel()
        values = np.log1p(counts[expected] / counts.sum() * 1e4)
        assert np.allclose(tokens.values[row_of(tokens, i)], values, rtol=1e-5)


def test_two_views_are_two_subsets(cells):
    views = [
        made.UniqueTokenizer(max_length=8, overflow="sample", view=v).fit(cells).encode(cells).ids
        for v in (0, 1, 0)
    ]
    assert np.array_equal(views[0], views[2])
    assert not np.array_equal(views[0], views[1])
