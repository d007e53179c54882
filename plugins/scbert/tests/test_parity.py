"""The same numbers as the authors' network, and as a plain re-telling in float64."""

import json
import os
import zlib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import erf

import cellweave
from cellweave.errors import ConfigError
from cellweave_nn.batch import TokenBatch
from cellweave_scbert import ScbertModel

from .conftest import DEPTH, HEAD_WIDTH, HEADS, N_GENES, cells, publish, random_state, symbols

TOLERANCE = 1e-5


def bins_of(counts):
    """log2(1 + CP10K), cut to a whole number, 5 at most; one zero more."""
    values = np.log2(1 + counts / counts.sum(1, keepdims=True) * 1e4)
    bins = np.minimum(np.floor(values), 5).astype(int)
    return np.hstack([bins, np.zeros((len(bins), 1), dtype=int)])


def normed(x, state, stem):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / scale * state[f"{stem}.weight"] + state[f"{stem}.bias"]


def implied_attention(q, k, features, top):
    """One head's attention map, written out: rows sum to 1; ``top`` is of the keys of all heads."""
    scale = q.shape[1] ** -0.25
    half_q, half_k = (0.5 * scale**2 * (x**2).sum(1, keepdims=True) for x in (q, k))
    in_q, in_k = scale * q @ features.T, scale * k @ features.T
    root = len(features) ** -0.5
    f_q = root * (np.exp(in_q - half_q - in_q.max(1, keepdims=True)) + 1e-4)
    f_k = root * (np.exp(in_k - half_k - top) + 1e-4)
    return f_q @ f_k.T / (f_q @ f_k.sum(0))[:, None]


def retold(state, bins, depth=DEPTH, *, heads=HEADS, head_width=HEAD_WIDTH):
    """One cell through the network in float64; returns states and the attention received."""
    s = {k: v.numpy().astype(np.float64) for k, v in state.items()}
    x = s["token_emb.weight"][bins] + s["pos_emb.emb.weight"]
    received = []
    for i in range(depth):
        stem = f"performer.net.layers.{i}"
        seen = normed(x, s, f"{stem}.0.norm")
        q, k, v = (seen @ s[f"{stem}.0.fn.to_{c}.weight"].T for c in "qkv")
        out = []
        features = s[f"{stem}.0.fn.fast_attention.projection_matrix"]
        top = (k.reshape(-1, head_width) * head_width**-0.25 @ features.T).max()
        for h in range(heads):
            at = slice(h * head_width, (h + 1) * head_width)
            weights = implied_attention(q[:, at], k[:, at], features, top)
            received.append(weights.sum(0))
            out.append(weights @ v[:, at])
        x = x + np.hstack(out) @ s[f"{stem}.0.fn.to_out.weight"].T + s[f"{stem}.0.fn.to_out.bias"]
        up = normed(x, s, f"{stem}.1.norm") @ s[f"{stem}.1.fn.fn.w1.weight"].T
        up = up + s[f"{stem}.1.fn.fn.w1.bias"]
        up = up * 0.5 * (1 + erf(up / np.sqrt(2)))
        x = x + up @ s[f"{stem}.1.fn.fn.w2.weight"].T + s[f"{stem}.1.fn.fn.w2.bias"]
    return normed(x, s, "norm"), np.mean(received, axis=0)


def test_tokens_are_bins_of_all_genes(folder):
    model = ScbertModel.load(folder)
    data = cells()
    tokens = model.tokenizer.encode(data)
    expected = bins_of(data.X.toarray().astype(np.float64))
    assert np.array_equal(tokens.values.reshape(8, -1), expected)
    assert np.array_equal(tokens.ids.reshape(8, -1), np.tile(np.arange(N_GENES + 1), (8, 1)))
    shuffled = data[:, ::-1].copy()
    shuffled = shuffled[:, shuffled.var_names != "GENE7"].copy()
    assert (model.tokenizer.encode(shuffled).values.reshape(8, -1)[:, 7] == 0).all()


@pytest.mark.parametrize("double", [False, True])
def test_equals_the_plain_telling(double, tmp_path):
    state = random_state(double=double)
    model = cellweave.load(publish(tmp_path / "weights", state))
    assert isinstance(model, ScbertModel)
    assert model.network.genes.weight.dtype == (torch.float64 if double else torch.float32)
    data = cells()
    bins = bins_of(data.X.toarray().astype(np.float64))
    states, received = map(np.array, zip(*(retold(state, b) for b in bins)))
    pools = {"cls": states[:, -1], "mean": states.mean(1), "sum": states.sum(1)}
    for how, expected in pools.items():
        gap = np.abs(model.embed(data, pooling=how).values - expected).max()
        assert gap < TOLERANCE * (N_GENES if how == "sum" else 1), how
    assert np.array_equal(model.embed(data).values, model.embed(data, pooling="cls").values)
    assert np.abs(model.attention(data).values - received[:, :N_GENES]).max() < TOLERANCE
    genes = model.contextual_gene_embeddings(data)
    assert genes.names.tolist() == symbols()
    assert np.abs(genes.values - states.mean(0)[:N_GENES]).max() < TOLERANCE
    with torch.no_grad():
        batch = TokenBatch.from_tokens(model.tokenizer.encode(data))
        logits = model.network.logits(model.network(batch)).numpy()
    weight, bias = (state[f"to_out.{k}"].numpy() for k in ("weight", "bias"))
    assert np.abs(logits - (states @ weight.T + bias).reshape(-1, 7)).max() < TOLERANCE
    model.save(tmp_path / "saved")
    found = cellweave.load(tmp_path / "saved").embed(data).values
    assert np.array_equal(found, model.embed(data).values)


def test_labels_of_a_fine_tuned_model(tmp_path):
    state = random_state(labels=3)
    model = ScbertModel.load(publish(tmp_path / "weights", state))
    data = cells(4)
    s = {k: v.numpy().astype(np.float64) for k, v in state.items() if k.startswith("to_out")}
    expected, hidden = [], []
    for bins in bins_of(data.X.toarray().astype(np.float64)):
        x = retold(state, bins)[0] @ s["to_out.conv1.weight"][0, 0, 0] + s["to_out.conv1.bias"]
        for n in (1, 2):
            x = np.maximum(x, 0) @ s[f"to_out.fc{n}.weight"].T + s[f"to_out.fc{n}.bias"]
        hidden.append(np.maximum(x, 0))
        expected.append(hidden[-1] @ s["to_out.fc3.weight"].T + s["to_out.fc3.bias"])
    assert np.abs(model.predict(data) - expected).max() < TOLERANCE
    assert np.abs(model.embed(data, pooling="label").values - hidden).max() < TOLERANCE
    with pytest.raises(ConfigError, match="needs weights with a classifier"):
        ScbertModel.load(publish(tmp_path / "other")).embed(data, pooling="label")
    with pytest.raises(ConfigError, match="no classifier"):
        ScbertModel.load(tmp_path / "other").predict(data)


def golden_state(data):
    state = {}
    for name, shape, kind, rule in json.loads((data / "golden/scbert/weights.json").read_text()):
        z = np.random.default_rng([99, zlib.crc32(name.encode())]).standard_normal(shape)
        z = np.asarray(z, dtype="float32")
        keep = np.zeros(shape, dtype=kind)
        filled = {"n.02": 0.02 * z, "n.03": 0.03 * z, "1+n.05": 1 + 0.05 * z, "n1": z, "keep": keep}
        state[name] = torch.from_numpy(np.asarray(filled[rule], dtype=kind))
    return state


@pytest.mark.data
def test_equals_the_authors_network(tmp_path):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    data = Path(os.environ["CELLWEAVE_DATA"])
    golden = np.load(data / "golden/scbert/reference.npz")
    torch.save({"model_state_dict": golden_state(data)}, tmp_path / "panglao_pretrain.pth")
    genes = [f"G{i}" for i in range(16_906)]
    (tmp_path / "genes.txt").write_text("\n".join(genes))
    model = ScbertModel.load(tmp_path)
    # The reference holds log2 values; counts that give them back are 2^v - 1.
    counts = anndata.AnnData(2 ** golden["values"] - 1, var=pd.DataFrame(index=genes))
    made = model.tokenizer.encode(counts).values.reshape(3, -1)
    totals = counts.X.sum(1)
    assert np.allclose(totals, 1e4, rtol=1e-3)
    assert (made != golden["input_ids"]).mean() < 1e-4  # a value on an edge, rounded back and forth
    tokens = model.tokenizer.encode(counts).take([0])
    batch = TokenBatch.from_tokens(tokens)
    exact = torch.from_numpy(golden["input_ids"][0]).float()
    with torch.no_grad():
        states = model.network(batch.with_(values=exact))
        logits = model.network.logits(states).numpy()
    assert np.abs(states.numpy()[::50] - golden["encodings_cell0"]).max() < TOLERANCE
    assert np.abs(logits[::50] - golden["logits"][0]).max() < TOLERANCE


def test_untrained(tmp_path):
    data = cells(6)
    sizes = {"width": 16, "depth": 1, "heads": 2, "head_width": 8}
    model = ScbertModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, ScbertModel.untrained(data, **sizes).embed(data).values)
    assert not np.array_equal(
        found, ScbertModel.untrained(data, seed=1, **sizes).embed(data).values
    )
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)


def test_the_last_token_alone_is_what_all_give(folder):
    model = ScbertModel.load(folder)
    batch = model._batch(model.tokenizer.encode(cells()), "cpu")
    with torch.inference_mode():
        for depth in range(DEPTH + 1):
            whole = model.network(batch, depth=depth)[batch.offsets[1:] - 1]
            assert (model.network.last(batch, depth=depth) - whole).abs().max() < TOLERANCE, depth


def test_layers_and_pools_by_name(folder):
    model = ScbertModel.load(folder)
    data = cells(3)
    bins = bins_of(data.X.toarray().astype(np.float64))
    state = random_state()
    first = (state["token_emb.weight"][bins] + state["pos_emb.emb.weight"]).numpy()
    found = model.embed(data, layer=-DEPTH, pooling="mean").values
    assert np.abs(found - first.mean(1)).max() < TOLERANCE
    for wrong in ({"layer": 1}, {"pooling": "conv"}):
        with pytest.raises(ConfigError):
            model.embed(data, **wrong)
    assert np.array_equal(model.gene_embeddings().values, state["pos_emb.emb.weight"][:-1].numpy())
