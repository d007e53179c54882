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
from scipy.special import erf, expit

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave_cellplm import CellplmModel

from .conftest import CLUSTERS, DEPTH, HEADS, WIDTH, cells, ensembl, random_state

TOLERANCE = 1e-5
EPS = 1e-6


def mapped(x, s, stem):
    return x @ s[f"{stem}.weight"].T + s[f"{stem}.bias"]


def normed(x, s, stem, groups=1):
    parts = x.reshape(len(x), groups, -1)
    centred = parts - parts.mean(-1, keepdims=True)
    parts = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return parts.reshape(x.shape) * s[f"{stem}.weight"] + s[f"{stem}.bias"]


def flow(q, k, v):
    """One head, cell by cell, as the formulas stand."""
    q, k = expit(q), expit(k)
    n = len(q)
    incoming = np.array([1 / ((q[i] + EPS) @ (k.sum(0) + EPS)) for i in range(n)])
    outgoing = np.array([1 / ((k[j] + EPS) @ (q.sum(0) + EPS)) for j in range(n)])
    in_kept = np.array([(q[i] + EPS) @ ((k * outgoing[:, None]).sum(0) + EPS) for i in range(n)])
    out_kept = np.array([(k[j] + EPS) @ ((q * incoming[:, None]).sum(0) + EPS) for j in range(n)])
    weights = np.exp(np.clip(out_kept, -1, 1))
    weights = weights / weights.sum() * n
    memory = sum(np.outer(k[j], v[j] * weights[j]) for j in range(n))
    return np.array([expit(in_kept[i]) * ((q[i] * incoming[i]) @ memory) for i in range(n)])


def retold(state, counts, depth=DEPTH, *, noise=0.0):
    """All cells of a sequence in float64: states of the encoder, chances, and the latent."""
    s = {k: v.numpy().astype(np.float64) for k, v in state.items()}
    x = np.log1p(counts) @ s["embedder.feat_enc.emb"]
    x = np.maximum(mapped(x, s, "embedder.extra_linear.0"), 0)
    x = normed(x, s, "embedder.extra_linear.3", groups=4)
    for i in range(depth):
        stem = f"encoder.layers.{i}"
        seen = normed(x, s, f"{stem}.norm1")
        q, k, v = (
            mapped(seen, s, f"{stem}.self_attn.{n}_projection") for n in ("query", "key", "value")
        )
        heads = [np.split(t, HEADS, axis=1) for t in (q, k, v)]
        out = np.hstack([flow(*parts) for parts in zip(*heads)])
        x = x + mapped(out, s, f"{stem}.self_attn.out_projection")
        up = mapped(normed(x, s, f"{stem}.norm2"), s, f"{stem}._ff_block.0")
        x = x + mapped(up * 0.5 * (1 + erf(up / np.sqrt(2))), s, f"{stem}._ff_block.3")
    h = normed(x, s, "pre_latent_norm.norm")
    stem = "latent.layers.1.inference"
    scores = mapped(h, s, f"{stem}.inference_qyx.0.logits")
    chosen = np.eye(CLUSTERS)[(scores + noise).argmax(1)]
    z = np.maximum(mapped(np.hstack([h, chosen]), s, f"{stem}.inference_qzyx.0"), 0)
    chances = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return x, chances, mapped(z, s, f"{stem}.inference_qzyx.2.mu")


def test_equals_the_plain_telling(folder, tmp_path):
    model = cellweave.load(folder)
    assert isinstance(model, CellplmModel)
    data = cells()
    counts = data.X.toarray().astype(np.float64)
    states, chances, latent = retold(random_state(), counts)
    assert np.abs(model.embed(data).values - latent).max() < TOLERANCE
    assert np.abs(model.embed(data, pooling="encoder").values - states).max() < TOLERANCE
    assert np.abs(model.clusters(data) - chances).max() < TOLERANCE
    first = retold(random_state(), counts, depth=0)[0]
    found = model.embed(data, pooling="encoder", layer=-DEPTH).values
    assert np.abs(found - first).max() < TOLERANCE
    model.save(tmp_path / "saved")
    saved = cellweave.load(tmp_path / "saved")
    assert np.array_equal(saved.embed(data).values, model.embed(data).values)


def test_cells_of_a_sample_meet(folder):
    model = CellplmModel.load(folder)
    data = cells()
    counts = data.X.toarray().astype(np.float64)
    found = model.embed(data, sample_key="batch").values
    for rows in (np.arange(0, 12, 2), np.arange(1, 12, 2)):
        assert np.abs(found[rows] - retold(random_state(), counts[rows])[2]).max() < TOLERANCE
    found = model.embed(data, at_most=5).values
    for rows in (np.arange(5), np.arange(5, 10), np.arange(10, 12)):
        assert np.abs(found[rows] - retold(random_state(), counts[rows])[2]).max() < TOLERANCE
    assert np.abs(found - model.embed(data).values).max() > 1e-4
    for wrong in ({"sample_key": "batches"}, {"at_most": 0}):
        with pytest.raises(ConfigError):
            model.embed(data, **wrong)


def test_noise_as_published(folder):
    """The published code adds Gumbel noise to the scores, then takes the largest."""
    model = CellplmModel.load(folder)
    data = cells(80)
    counts = data.X.toarray().astype(np.float64)
    found = model.embed(data, noise=True, seed=3).values
    assert np.array_equal(found, model.embed(data, noise=True, seed=3).values)
    uniform = torch.rand((80, CLUSTERS), generator=torch.Generator().manual_seed(3)).double()
    noise = -np.log(-np.log(uniform.numpy()))
    assert np.abs(found - retold(random_state(), counts, noise=noise)[2]).max() < TOLERANCE
    # Noise of this kind chooses each cluster with its chance.
    chances = retold(random_state(), counts)[1]
    plain = model.embed(data).values
    others = [model.embed(data, noise=True, seed=s).values for s in range(12)]
    drawn = [np.abs(other - plain).max(1) > 1e-6 for other in others]
    assert abs(np.mean(drawn) - (1 - chances.max(1)).mean()) < 0.06


def test_genes(folder):
    found = CellplmModel.load(folder).gene_embeddings()
    assert found.names.tolist() == ensembl()
    assert np.array_equal(found.values, random_state()["embedder.feat_enc.emb"].numpy())


def golden_state(folder):
    state = {}
    for name, shape, kind, rule in json.loads((folder / "weights.json").read_text()):
        z = np.random.default_rng([99, zlib.crc32(name.encode())]).standard_normal(shape)
        z = np.asarray(z, dtype="float32")
        filled = {"n.02": 0.02 * z, "n.03": 0.03 * z, "1+n.05": 1 + 0.05 * z, "keep": 0 * z}
        state[name] = torch.from_numpy(np.asarray(filled[rule], dtype=kind))
    return state


@pytest.mark.data
def test_equals_the_authors_network(tmp_path):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    source = Path(os.environ["CELLWEAVE_DATA"]) / "golden/cellplm"
    golden = np.load(source / "reference.npz")
    torch.save({"model_state_dict": golden_state(source)}, tmp_path / "rand.best.ckpt")
    (tmp_path / "rand.config.json").write_bytes((source / "rand.config.json").read_bytes())
    model = CellplmModel.load(tmp_path)
    data = anndata.AnnData(golden["values"], var=pd.DataFrame(index=golden["gene_list"]))
    found = {
        "embedder_output": model.embed(data, pooling="encoder", layer=-2).values,
        "encoder_output": model.embed(data, pooling="encoder").values,
    }
    for name, values in found.items():
        assert np.abs(values - golden[name]).max() < TOLERANCE, name
    assert {r for r in model.key_report.ignored if r.startswith("decoder.")}


def test_untrained(tmp_path):
    data = cells()
    sizes = {"width": WIDTH, "depth": 1, "heads": 2, "latent_width": 8}
    model = CellplmModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, CellplmModel.untrained(data, **sizes).embed(data).values)
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)
    with pytest.raises(ConfigError, match="4 groups"):
        CellplmModel.untrained(data, width=18)


def test_layers_and_pools_by_name(folder):
    model = CellplmModel.load(folder)
    for wrong in ({"layer": -1}, {"pooling": "encoder", "layer": 1}, {"pooling": "mean"}):
        with pytest.raises(ConfigError):
            model.embed(cells(3), **wrong)


def test_symbols_and_versions(folder, tmp_path):
    names = tmp_path / "symbols.json"
    names.write_text(json.dumps({f"GENE{i}": g for i, g in enumerate(ensembl())}))
    data = cells()
    expected = CellplmModel.load(folder).embed(data).values
    data.var_names = [f"{g}.{i}" for i, g in enumerate(ensembl())]
    assert np.array_equal(CellplmModel.load(folder).embed(data).values, expected)
    data.var_names = [f"GENE{i}" for i in range(30)]
    model = CellplmModel.load(folder, symbols=names)
    assert np.array_equal(model.embed(data).values, expected)
    model.save(tmp_path / "saved")
    assert np.array_equal(cellweave.load(tmp_path / "saved").embed(data).values, expected)
    with pytest.raises(DataError, match="human Ensembl ids"):
        CellplmModel.load(folder).embed(data)
