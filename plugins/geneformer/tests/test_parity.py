"""The same numbers as transformers' BERT, the same tokens as the official tokenizer."""

import json
import os
from pathlib import Path

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
import torch

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave_geneformer import GeneformerModel, GeneformerTokenizer
from cellweave_nn.batch import TokenBatch

from .conftest import cells, dictionaries, genes, publish

TOLERANCE = 1e-5


def theirs(model, tokens):
    ids, _, is_token = tokens.padded(pad_id=0)
    mask = torch.from_numpy(is_token.astype(np.int64))
    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=mask,
            output_hidden_states=True,
        )
    return out, is_token


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("pickled", [False, True])
def test_states_logits_and_embeddings(version, pickled, tmp_path):
    reference = publish(tmp_path / "weights", version, pickled=pickled)
    model = cellweave.load(tmp_path / "weights")
    assert isinstance(model, GeneformerModel)
    assert model.tokenizer.version == version
    data = cells()
    tokens = model.tokenizer.encode(data)
    assert tokens.lengths.min() < tokens.lengths.max()
    out, is_token = theirs(reference, tokens)
    batch = TokenBatch.from_tokens(tokens)
    with torch.no_grad():
        for depth, hidden in enumerate(out.hidden_states):
            states = model.network(batch, depth=depth)
            assert (states - hidden[torch.from_numpy(is_token)]).abs().max() < TOLERANCE
        logits = model.network.logits(states)
    assert (logits - out.logits[torch.from_numpy(is_token)]).abs().max() < TOLERANCE
    before_last = out.hidden_states[-2].numpy()
    if version == "V2":
        assert np.abs(model.embed(data).values - before_last[:, 0]).max() < TOLERANCE
        inner = is_token.copy()
        inner[:, 0] = False
        inner[np.arange(len(inner)), tokens.lengths - 1] = False
    else:
        inner = is_token
    mean = (before_last * inner[..., None]).sum(1) / inner.sum(1)[:, None]
    found = model.embed(data, pooling="cell", batch_size=5).values
    assert np.abs(found - mean).max() < TOLERANCE
    over_all = (before_last * is_token[..., None]).sum(1) / is_token.sum(1)[:, None]
    found = model.embed(data, pooling="mean", batch_size=5).values
    assert np.abs(found - over_all).max() < TOLERANCE


def test_layers_and_poolings_by_name(published):
    folder, reference = published
    model = GeneformerModel.load(folder)
    data = cells()
    out, _ = theirs(reference, model.tokenizer.encode(data))
    last = model.embed(data, layer=0).values
    assert np.abs(last - out.hidden_states[-1][:, 0].numpy()).max() < TOLERANCE
    with pytest.raises(ConfigError, match="layer=1 is none"):
        model.embed(data, layer=1)
    with pytest.raises(ConfigError, match="pooling='first' does not go with V2"):
        model.embed(data, pooling="first")


def test_the_small_epsilon_is_kept(published):
    model = GeneformerModel.load(published[0])
    norms = [m for m in model.network.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert {n.eps for n in norms} == {1e-12}
    assert len(norms) == 2 + 2 * 3


def test_untrained_learns_a_vocabulary(tmp_path):
    data = cells(20)
    model = GeneformerModel.untrained(data, width=16, depth=1, heads=2, hidden=16, max_length=30)
    again = GeneformerModel.untrained(data, width=16, depth=1, heads=2, hidden=16, max_length=30)
    found = model.embed(data).values
    assert np.array_equal(found, again.embed(data).values)
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)


def test_attention_and_genes(published):
    folder, reference = published
    reference.set_attn_implementation("eager")
    model = GeneformerModel.load(folder)
    data = cells(4)
    tokens = model.tokenizer.encode(data)
    for i, (name, ids, weights) in enumerate(model.attention(data)):
        assert name == f"c{i}"
        with torch.no_grad():
            out = reference(torch.from_numpy(ids[None].astype(np.int64)), output_attentions=True)
        for mine, other in zip(weights, out.attentions):
            assert np.abs(mine - other[0].numpy()).max() < TOLERANCE
    hidden, is_token = theirs(reference, tokens)
    states = hidden.hidden_states[-2].numpy()[is_token]
    found = model.gene_embeddings(data)
    gene = found.names[0]
    expected = states[tokens.ids == dictionaries("V2")[0][gene]].mean(0)
    assert np.abs(found.values[0] - expected).max() < TOLERANCE


def test_classifier_of_cells(tmp_path):
    labels = {0: "a", 1: "b", 2: "c"}
    reference = publish(tmp_path / "w", kind="BertForSequenceClassification", id2label=labels)
    model = GeneformerModel.load(tmp_path / "w")
    assert model.config.labels == ("a", "b", "c")
    data = cells()
    out, _ = theirs(reference, model.tokenizer.encode(data))
    assert np.abs(model.predict(data) - out.logits.numpy()).max() < TOLERANCE


def test_tokens_by_hand():
    ids, medians = dictionaries("V2")
    renamed = {g: g for g in genes()} | {"ENSG99999999999": genes()[1]}
    tokenizer = GeneformerTokenizer.from_dictionaries(ids, medians, mapping=renamed, max_length=5)
    counts = np.array([[4, 2, 3, 100], [0, 0, 1, 0]], dtype=np.float32)
    adata = anndata.AnnData(sp.csr_matrix(counts))
    # the same gene twice (one id is retired), a version suffix, and an unknown gene
    adata.var["ensembl_id"] = [genes()[1], "ensg99999999999", genes()[50] + ".7", "ENSG_NO"]
    tokens = tokenizer.encode(adata)
    a, b = (6 / medians[genes()[1]], 3 / medians[genes()[50]])
    assert a > b
    assert tokens.ids.tolist() == [2, ids[genes()[1]], ids[genes()[50]], 3, 2, ids[genes()[50]], 3]
    adata.obs["n_counts"] = [109, -1]
    with pytest.raises(DataError, match="n_counts"):
        tokenizer.encode(adata)


def test_symbols_and_truncation():
    ids, medians = dictionaries("V2")
    symbols = {f"GENE{i}": g for i, g in enumerate(genes())}
    tokenizer = GeneformerTokenizer.from_dictionaries(ids, medians, symbols=symbols, max_length=9)
    data = cells()
    by_id = tokenizer.encode(data)
    assert by_id.lengths.max() == 9
    assert set(by_id.ids[by_id.offsets[1:] - 1]) == {3}
    data.var_names = list(symbols)
    assert np.array_equal(tokenizer.encode(data).ids, by_id.ids)
    again = GeneformerTokenizer.from_state(tokenizer.state())
    assert np.array_equal(again.encode(data).ids, by_id.ids)


@pytest.mark.data
@pytest.mark.parametrize("tie_break", ["stable", "numpy"])
def test_official_tokens(tie_break):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    data = Path(os.environ["CELLWEAVE_DATA"])
    golden = np.load(data / "golden/geneformer/tokenized.npz")
    read = {
        k: json.loads((data / f"vocab/geneformer_v1_{k}.json").read_text())
        for k in ("token_dictionary", "gene_median_dictionary", "gene_name_id")
    }
    tokenizer = GeneformerTokenizer.from_dictionaries(
        read["token_dictionary"],
        read["gene_median_dictionary"],
        symbols=read["gene_name_id"],
        max_length=10**6,
        tie_break=tie_break,
    )
    counts = sp.csr_matrix(
        (golden["counts_data"], golden["counts_indices"], golden["counts_indptr"]),
        shape=golden["counts_shape"],
    )
    adata = anndata.AnnData(counts)
    adata.var["ensembl_id"] = [read["gene_name_id"].get(g, g) for g in golden["gene_names"]]
    adata.obs["n_counts"] = golden["n_counts"]
    tokens = tokenizer.encode(adata)
    assert np.array_equal(tokens.offsets, golden["offsets"])
    assert np.array_equal(tokens.ids, golden["ids"])
