"""The same numbers as the authors' network, and as a plain re-telling in float64."""

import json
import os
import zlib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from scipy.special import erf

import cellweave
from cellweave.errors import ConfigError
from cellweave_tosica import TosicaModel

from .conftest import (
    DEPTH,
    HEADS,
    LABELS,
    N_PATHWAYS,
    PATHWAYS,
    WIDTH,
    cells,
    mask,
    publish,
    random_state,
    symbols,
)

TOLERANCE = 1e-5


def log_values(counts):
    return np.log1p(counts / counts.sum(1, keepdims=True) * 1e4)


def normed(x, state, stem):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / scale * state[f"{stem}.weight"] + state[f"{stem}.bias"]


def mapped(x, state, stem):
    return x @ state[f"{stem}.weight"].T + state[f"{stem}.bias"]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def token_rows(s, values, layout="upstream"):
    """Token c, channel w reads output w·P + c upstream, and c·W + w where it is aligned."""
    masked = s["feature_embed.fe.weight"] * s["feature_embed.fe.mask"]
    out = masked @ values + s["feature_embed.fe.bias"]
    c, w = np.meshgrid(np.arange(N_PATHWAYS), np.arange(WIDTH), indexing="ij")
    return out[w * N_PATHWAYS + c if layout == "upstream" else c * WIDTH + w]


def retold(state, values, layout="upstream"):
    """One cell through the network in float64: states and the rollout's CLS row."""
    s = {k: v.numpy().astype(np.float64) for k, v in state.items()}
    x = np.vstack([s["cls_token"][0], token_rows(s, values, layout)])
    total = np.eye(len(x))
    for i in range(DEPTH):
        stem, head_width = f"blocks.{i}", WIDTH // HEADS
        q, k, v = np.split(mapped(normed(x, s, f"{stem}.norm1"), s, f"{stem}.attn.qkv"), 3, axis=1)
        maps, out = [], []
        for h in range(HEADS):
            at = slice(h * head_width, (h + 1) * head_width)
            maps.append(softmax(q[:, at] @ k[:, at].T / np.sqrt(head_width)))
            out.append(maps[-1] @ v[:, at])
        mixed = np.mean(maps, axis=0) + np.eye(len(x))
        total = mixed / mixed.sum(1, keepdims=True) @ total
        x = x + mapped(np.hstack(out), s, f"{stem}.attn.proj")
        up = mapped(normed(x, s, f"{stem}.norm2"), s, f"{stem}.mlp.fc1")
        x = x + mapped(up * 0.5 * (1 + erf(up / np.sqrt(2))), s, f"{stem}.mlp.fc2")
    return normed(x, s, "norm"), total[0, 1:]


def test_equals_the_plain_telling(folder, tmp_path):
    state = random_state()
    model = cellweave.load(folder)
    assert isinstance(model, TosicaModel)
    data = cells()
    values = log_values(data.X.toarray().astype(np.float64))
    states, rolled = map(np.array, zip(*(retold(state, v) for v in values)))
    assert np.abs(model.embed(data).values - states[:, 0]).max() < TOLERANCE
    assert (
        np.abs(model.embed(data, pooling="mean").values - states[:, 1:].mean(1)).max() < TOLERANCE
    )
    assert np.abs(model.attention(data).values - rolled).max() < TOLERANCE
    scores = states[:, 0] @ state["head.weight"].numpy().T + state["head.bias"].numpy()
    assert np.abs(model.predict(data) - scores).max() < TOLERANCE
    labels, confidence = model.annotate(data)
    assert labels.tolist() == [LABELS[i] for i in scores.argmax(1)]
    assert np.abs(confidence - softmax(scores).max(1)).max() < TOLERANCE
    assert set(model.annotate(data, cutoff=1.1)[0]) == {"Unknown"}
    assert model.pathways.tolist() == PATHWAYS
    model.save(tmp_path / "saved")
    saved = cellweave.load(tmp_path / "saved")
    assert np.array_equal(saved.embed(data).values, model.embed(data).values)
    assert saved.annotate(data)[0].tolist() == labels.tolist()


def test_values_that_are_normalised_already(folder):
    model = TosicaModel.load(folder)
    data = cells()
    expected = model.embed(data).values
    data.layers["counts"] = data.X.copy()
    data.X = log_values(data.X.toarray()).astype(np.float32)
    found = model.embed(data, normalised=True).values
    assert np.abs(found - expected).max() < TOLERANCE
    assert np.array_equal(model.embed(data).values, expected)


def test_genes_in_another_order_and_absent(folder):
    model = TosicaModel.load(folder)
    data = cells()
    other = data[:, ::-1].copy()
    assert np.abs(model.embed(other).values - model.embed(data).values).max() < TOLERANCE
    dropped = data.copy()
    dropped.X = sp.csr_matrix(data.X.toarray() * (np.arange(30) != 4))
    without = data[:, [i for i in range(30) if i != 4]].copy()
    found, expected = model.embed(without).values, model.embed(dropped).values
    assert np.abs(found - expected).max() < TOLERANCE


def test_weights_of_genes(folder):
    state = random_state()
    found = TosicaModel.load(folder).gene_embeddings()
    rows = state["feature_embed.fe.weight"].abs().view(N_PATHWAYS, WIDTH, -1).amax(1).numpy()
    assert found.names.tolist() == symbols()
    assert np.array_equal(found.values, rows.T * mask().astype(np.float32))


@pytest.mark.parametrize("layout", ["aligned", "upstream"])
def test_untrained(layout, tmp_path):
    data = cells()
    sets = {
        f"s{i}": [g for g, m in zip(symbols(), row) if m] for i, row in enumerate(mask().T[:-1])
    }
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("\n".join("\t".join([k, "-", *v]) for k, v in sets.items()))
    sizes = {"gmt": gmt, "labels": LABELS, "width": WIDTH, "layout": layout}
    model = TosicaModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, TosicaModel.untrained(data, **sizes).embed(data).values)
    for name, row in zip(model.pathways[:-1], model.network.tokens.mask):
        assert sorted(np.array(symbols())[row.numpy()]) == sorted(sets[str(name)])
    state = {
        "cls_token": model.network.cls.detach()[None, None],
        "feature_embed.fe.mask": model.network.tokens.mask.repeat_interleave(WIDTH, 0),
        "feature_embed.fe.weight": model.network.tokens.weight.detach(),
        "feature_embed.fe.bias": model.network.tokens.bias.detach(),
    }
    for key in random_state():
        if key not in state:
            name = key.replace("attn.qkv", "attention.qkv").replace("attn.proj", "attention.out")
            name = name.replace("mlp.fc1", "feedforward.up").replace("mlp.fc2", "feedforward.down")
            state[key] = model.network.state_dict()[name.replace("head.", "label.")]
    values = log_values(data.X.toarray().astype(np.float64))
    expected = np.array([retold(state, v, layout)[0][0] for v in values])
    assert np.abs(found - expected).max() < TOLERANCE
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)


def test_what_does_not_fit_is_told(folder, tmp_path):
    model = TosicaModel.load(folder)
    for wrong in ({"layer": 1}, {"pooling": "max"}):
        with pytest.raises(ConfigError):
            model.embed(cells(), **wrong)
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("\t".join(["s", "-", *symbols(9)]))
    with pytest.raises(ConfigError, match="no classifier"):
        TosicaModel.untrained(cells(), gmt=gmt).predict(cells())


def golden_state(folder):
    state = {}
    saved = np.load(folder / "mask.npy")
    for name, shape, kind, rule in json.loads((folder / "weights.json").read_text()):
        z = np.random.default_rng([99, zlib.crc32(name.encode())]).standard_normal(shape)
        z = np.asarray(z, dtype="float32")
        filled = {"n.02": 0.02 * z, "n.03": 0.03 * z, "1+n.05": 1 + 0.05 * z}
        keep = np.repeat(saved.T, 48, axis=0) if rule == "keep" else filled[rule]
        state[name] = torch.from_numpy(np.asarray(keep, dtype=kind))
    return state


@pytest.mark.data
def test_equals_the_authors_network(tmp_path):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    source = Path(os.environ["CELLWEAVE_DATA"]) / "golden/tosica"
    golden = np.load(source / "reference.npz")
    genes = [f"G{i}" for i in range(golden["values"].shape[1])]
    publish(tmp_path, golden_state(source))
    (tmp_path / "mask.npy").write_bytes((source / "mask.npy").read_bytes())
    (tmp_path / "gene2token_weights.csv").unlink()
    (tmp_path / "genes.txt").write_text("\n".join(genes))
    pd.DataFrame([f"p{i}" for i in range(24)]).to_csv(tmp_path / "pathway.csv")
    pd.DataFrame([f"l{i}" for i in range(10)]).to_csv(tmp_path / "label_dictionary.csv")
    model = TosicaModel.load(tmp_path / "model-10.pth")
    data = anndata.AnnData(golden["values"], var=pd.DataFrame(index=genes))
    found = {
        "latent": model.embed(data, normalised=True).values,
        "prediction": model.predict(data, normalised=True),
        "attention": model.attention(data, normalised=True).values,
    }
    for name, values in found.items():
        assert np.abs(values - golden[name]).max() < TOLERANCE, name
