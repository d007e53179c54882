"""Tokens of the published models' own code, from the data folder in ``CELLWEAVE_DATA``."""

import json
import os
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave_rna import tables
from cellweave_rna.tokenizers import BinTokenizer, FixedTokenizer, RankTokenizer, ValueTokenizer

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def data():
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    return Path(os.environ["CELLWEAVE_DATA"])


@pytest.mark.parametrize("tie_break", ["stable", "numpy"])
def test_geneformer_v1(data, tie_break):
    golden = np.load(data / "golden/geneformer/tokenized.npz")
    ids = tables.read_json_table(data / "vocab/geneformer_v1_token_dictionary.json")
    medians = tables.read_json_table(data / "vocab/geneformer_v1_gene_median_dictionary.json")
    names = json.loads((data / "vocab/geneformer_v1_gene_name_id.json").read_text())
    counts = sp.csr_matrix(
        (golden["counts_data"], golden["counts_indices"], golden["counts_indptr"]),
        shape=golden["counts_shape"],
    )
    cells = anndata.AnnData(counts)
    cells.obs_names = [f"cell{i}" for i in range(300)]
    cells.obs["n_counts"] = golden["n_counts"]
    cells.var["ensembl_id"] = [names.get(g, g) for g in golden["gene_names"]]
    tokenizer = RankTokenizer.from_tables(
        ids, medians, special={"pad": "<pad>", "mask": "<mask>"},
        names_from="ensembl_id", total="n_counts", max_length=None, tie_break=tie_break,
    )  # fmt: skip
    tokens = tokenizer.encode(cells)
    assert np.array_equal(tokens.offsets, golden["offsets"])
    assert np.array_equal(tokens.ids, golden["ids"])


def test_nicheformer(data):
    golden = np.load(data / "golden/nicheformer/reference.npz")
    genes = tables.read_gene_order(data / "vocab/nicheformer_model.h5ad")
    auxiliary = [f"<aux:{i}>" for i in range(30)]
    means = golden["technology_mean"].astype(float)
    factors = dict(zip(genes, np.where(means == 0, 1.0, means).tolist()))
    tokenizer = RankTokenizer.from_tables(
        tables.ids_of_order(genes, before=auxiliary), factors,
        special={"mask": auxiliary[0], "pad": auxiliary[1], "cls": auxiliary[2]},
        not_features=auxiliary, max_length=4096,
    )  # fmt: skip
    cells = anndata.AnnData(sp.csr_matrix(golden["counts"]), var=pd.DataFrame(index=genes))
    tokens = tokenizer.encode(cells)
    for i in range(3):
        expected = golden["tokens"][i][golden["tokens"][i] > 1]
        assert np.array_equal(tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]], expected)


def test_nicheformer_means_by_technology(data):
    genes = tables.read_gene_order(data / "vocab/nicheformer_model.h5ad")
    found = {
        name: tables.read_factors(data / f"vocab/nicheformer_{name}_mean.npy", genes)
        for name in ("dissociated", "merfish")
    }
    tokenizer = RankTokenizer.from_tables(
        tables.ids_of_order(genes, before=["<pad>"]), found, special={"pad": "<pad>"},
        group_key="technology",
    )  # fmt: skip
    counts = sp.random(4, len(genes), density=0.05, format="csr", random_state=0)
    counts.data = np.ceil(counts.data * 9).astype(np.float32)
    cells = anndata.AnnData(sp.csr_matrix(counts, dtype=np.float32), var=pd.DataFrame(index=genes))
    cells.obs["technology"] = ["dissociated", "merfish"] * 2
    tokens = tokenizer.encode(cells)
    merfish = np.array(list(found["merfish"].values()))
    measured = np.isfinite(merfish) & (merfish > 0)
    second = tokens.ids[tokens.offsets[1] : tokens.offsets[2]] - 1
    assert measured[second].all()
    assert len(second) == measured[counts[1].indices].sum()


def test_scfoundation(data):
    golden = np.load(data / "golden/scfoundation/reference.npz")
    genes = tables.read_gene_order(data / "vocab/scfoundation_OS_scRNA_gene_index.19264.tsv")
    assert genes == golden["gene_names"].tolist()
    tokenizer = ValueTokenizer.from_tables(
        tables.ids_of_order([*genes, "<T>", "<S>"]),
        special={"target_depth": "<T>", "source_depth": "<S>"}, depth="fixed", depth_value=4,
    )  # fmt: skip
    cells = anndata.AnnData(sp.csr_matrix(golden["counts"]), var=pd.DataFrame(index=genes))
    tokens = tokenizer.encode(cells)
    for i in range(3):
        mine, real = slice(tokens.offsets[i], tokens.offsets[i + 1]), ~golden["padding_mask"][i]
        assert np.array_equal(tokens.ids[mine], golden["position_ids"][i][real])
        assert np.allclose(tokens.values[mine], golden["values"][i][real], atol=2e-6)


def test_scbert(data):
    golden = np.load(data / "golden/scbert/reference.npz")
    # The reference holds log2(1 + CP10K); undo it, and let the tokenizer do it.
    scaled = np.exp2(golden["values"].astype(float)) - 1
    genes = [f"g{i}" for i in range(scaled.shape[1])]
    cells = anndata.AnnData(sp.csr_matrix(scaled, dtype=np.float32), var=pd.DataFrame(index=genes))
    tokens = FixedTokenizer(rule="log2", n_bins=5).fit(cells).encode(cells)
    found = tokens.values.reshape(3, -1)
    # Rounding of the undone logarithm may move a value that stands on an edge.
    raw = golden["values"]
    clear = np.abs(raw - np.rint(raw)) > 1e-4
    clear |= raw == 0
    assert np.array_equal(found[clear], golden["input_ids"][:, :-1][clear])


def test_scgpt_bins_are_admissible(data):
    golden = np.load(data / "golden/scgpt/reference.npz")
    ids = tables.read_json_table(data / "vocab/scgpt_default_census_vocab.json")
    for name in ("<pad>", "<cls>", "<eoc>"):
        ids.setdefault(name, len(ids))
    cells = anndata.AnnData(
        sp.csr_matrix(golden["counts"]), var=pd.DataFrame(index=golden["gene_names"])
    )
    special = {"pad": "<pad>", "cls": "<cls>", "eoc": "<eoc>"}
    made = {
        ties: BinTokenizer.from_tables(
            ids, special=special, start=True, start_value=-2.0, ties=ties
        ).encode(cells)
        for ties in ("lowest", "highest", "random")
    }
    for i in range(4):
        real = ~golden["padding_mask"][i]
        expected = dict(zip(golden["gene_ids"][i][real].tolist(), golden["values"][i][real]))
        mine = slice(made["lowest"].offsets[i], made["lowest"].offsets[i + 1])
        order = made["lowest"].ids[mine].tolist()
        assert set(order) == set(expected)
        target = np.array([expected[g] for g in order])
        low, high, drawn = (made[t].values[mine] for t in ("lowest", "highest", "random"))
        assert np.all((low <= target) & (target <= high))
        assert np.all((low <= drawn) & (drawn <= high))
        assert np.array_equal(low[low == high], target[low == high])
