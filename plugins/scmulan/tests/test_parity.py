"""The same numbers as a plain re-telling in float64 that reads everything again for each token."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave_nn.batch import TokenBatch
from cellweave_scmulan import ScmulanModel

from .conftest import (
    BINS,
    DEPTH,
    GENES,
    HEADS,
    TOKENS,
    TYPES,
    WIDTH,
    cells,
    publish,
    random_state,
)

TOLERANCE = 1e-5


def logged(data):
    counts = data.X.toarray().astype(np.float64)
    return np.log1p(counts / counts.sum(1, keepdims=True) * 1e4).astype(np.float32)


def prompt(values):
    """Ids and bins of one cell: genes in reverse, then the task."""
    genes = [i for i in range(len(GENES)) if values[i] > 0][::-1]
    found = values[genes]
    bins = np.digitize(found, np.linspace(0, found.max(), BINS + 1), right=True)
    ids = [TOKENS.index(GENES[i]) for i in genes]
    return [*ids, TOKENS.index("<PCT>")], [*bins.tolist(), 0]


def normed(x, s, stem):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / scale * s[f"{stem}.weight"] + s.get(f"{stem}.bias", 0)


def mapped(x, s, stem):
    return x @ s[f"{stem}.weight"].T + s.get(f"{stem}.bias", 0)


def read(s, ids, bins, depth=DEPTH):
    """States of a whole sentence."""
    x = s["transformer.wte.weight"][ids] + s["transformer.wee.weight"][bins]
    for i in range(depth):
        stem = f"transformer.h.{i}"
        qkv = mapped(normed(x, s, f"{stem}.ln_1"), s, f"{stem}.attn.c_attn")
        out = []
        for q, k, v in zip(*(np.split(t, HEADS, axis=1) for t in np.split(qkv, 3, axis=1))):
            scores = q @ k.T / np.sqrt(q.shape[1])
            scores[np.triu_indices(len(x), 1)] = -np.inf
            weights = np.exp(scores - scores.max(1, keepdims=True))
            out.append(weights / weights.sum(1, keepdims=True) @ v)
        x = x + mapped(np.hstack(out), s, f"{stem}.attn.c_proj")
        up = mapped(normed(x, s, f"{stem}.ln_2"), s, f"{stem}.mlp.c_fc")
        up = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        x = x + mapped(up, s, f"{stem}.mlp.c_proj")
    return normed(x, s, "transformer.ln_f") if depth == DEPTH else x


def written(s, ids, bins):
    """Read all again for each token; the state and the names that the authors' loop gives."""
    ids, bins, most, chances = list(ids), list(bins), len(ids) + 3, []
    while True:
        states = read(s, ids, bins)
        scores = s["lm_head.weight"] @ states[-1]
        scores[ids[:-1]] = -np.inf
        best = int(scores.argmax())
        weights = np.exp(scores - scores.max())
        chances.append(weights[best] / weights.sum())
        level = np.clip(np.round(s["epx_head.weight"][best] @ states[-1]), 0, 10)
        ids, bins = [*ids, best], [*bins, int(level)]
        if best == 0 or len(ids) >= most:
            break
    names = [TOKENS[i] for i in ids[-3:-1]]
    types = [name if name in TYPES else "Unclassified" for name in names]
    return states[-2], types, ids[most - 3 :], chances


def double(state):
    return {k: v.numpy().astype(np.float64) for k, v in state.items()}


def test_sentences(folder):
    model = ScmulanModel.load(folder)
    data = cells()
    tokens = model.tokenizer.encode(data)
    names = np.array(model.tokenizer.vocabulary.names)
    for i, values in enumerate(logged(data)):
        ids, bins = prompt(values)
        part = tokens.take([i])
        assert names[part.ids].tolist() == [TOKENS[j] for j in ids]
        assert part.values.tolist() == bins


@pytest.mark.parametrize(("bias", "seed"), [(True, 7), (True, 1), (False, 4)])
def test_equals_the_plain_telling(bias, seed, tmp_path):
    state = random_state(seed, bias=bias)  # seeds with cells that end early
    model = cellweave.load(publish(tmp_path / "weights", state, bias=bias))
    assert isinstance(model, ScmulanModel)
    data, s = cells(60), double(state)
    prompts = [prompt(values) for values in logged(data)]
    told = [written(s, *p) for p in prompts]
    lengths = {len(ids) for _, _, ids, _ in told}
    assert lengths == {1, 2, 3}  # ended at once, after one type, and after both
    expected = np.array([cell for cell, *_ in told])
    assert np.abs(model.embed(data).values - expected).max() < TOLERANCE
    types = model.annotate(data)
    assert types.coarse.tolist() == [t[0] for _, t, *_ in told]
    assert types.fine.tolist() == [t[1] for _, t, *_ in told]
    assert len(set(types.fine)) > 3
    whole = [i for i, (_, _, ids, _) in enumerate(told) if len(ids) == 3]
    assert np.abs(types.coarse_confidence - [c[0] for *_, c in told]).max() < TOLERANCE
    second = [told[i][3][1] for i in whole]
    assert np.abs(types.fine_confidence[whole] - second).max() < TOLERANCE
    states = [read(s, *p) for p in prompts]
    tasks, means = [x[-1] for x in states], [x[:-1].mean(0) for x in states]
    assert np.abs(model.embed(data, pooling="task").values - tasks).max() < TOLERANCE
    assert np.abs(model.embed(data, pooling="mean").values - means).max() < TOLERANCE
    firsts = [read(s, *p, depth=0)[-1] for p in prompts]
    found = model.embed(data, pooling="task", layer=-DEPTH).values
    assert np.abs(found - firsts).max() < TOLERANCE
    model.save(tmp_path / "saved")
    saved = cellweave.load(tmp_path / "saved")
    assert np.array_equal(saved.embed(data).values, model.embed(data).values)
    assert saved.annotate(data).fine.tolist() == types.fine.tolist()


def test_attention_is_that_of_torch(folder):
    """The first block's weights give what torch's causal attention gives."""
    model = ScmulanModel.load(folder)
    data = cells(3)
    block = model.network.blocks[0]
    for name, ids, weights in model.attention(data):
        part = model.tokenizer.encode(data[[name]].copy())
        assert np.array_equal(part.ids, ids)
        with torch.no_grad():
            x = model.network.embedded(TokenBatch.from_tokens(part))
            q, k, v = (t.transpose(0, 1) for t in block.attention.project(block.norm1(x)))
            expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            found = torch.from_numpy(weights[0]) @ v
        assert (found - expected).abs().max() < TOLERANCE
        assert {w.shape for w in weights} == {(HEADS, len(ids), len(ids))}


def test_genes(folder):
    model = ScmulanModel.load(folder)
    state, data = random_state(), cells(10)
    found = model.gene_embeddings()
    assert sorted(found.names) == sorted(GENES)
    rows = state["transformer.wte.weight"][[TOKENS.index(n) for n in found.names]]
    assert np.array_equal(found.values, rows.numpy())
    context = model.contextual_gene_embeddings(data)
    prompts = [prompt(values) for values in logged(data)]
    states = [read(double(state), *p) for p in prompts]
    at = [
        (x, ids.index(TOKENS.index("GENE5")))
        for x, (ids, _) in zip(states, prompts)
        if TOKENS.index("GENE5") in ids
    ]
    expected = np.mean([x[i] for x, i in at], axis=0)
    row = context.names.tolist().index("GENE5")
    assert np.abs(context.values[row] - expected).max() < TOLERANCE


def test_values_that_are_normalised_already(folder):
    model = ScmulanModel.load(folder)
    data = cells()
    expected = model.embed(data).values
    data.layers["counts"] = data.X.copy()
    data.X = logged(data)
    assert np.abs(model.embed(data, normalised=True).values - expected).max() < TOLERANCE
    data.X = data.layers["counts"] * 50
    with pytest.raises(DataError, match="normalised to 10 000 and logged"):
        model.embed(data, normalised=True)


def test_little_is_kept_at_a_time(folder, monkeypatch):
    from cellweave_scmulan import model as module

    model = ScmulanModel.load(folder)
    expected = model.embed(cells()).values
    monkeypatch.setattr(module, "_KEPT_BYTES", 1)
    assert np.abs(model.embed(cells()).values - expected).max() < TOLERANCE


def test_untrained(tmp_path):
    data = cells()
    sizes = {"width": WIDTH, "depth": 1, "heads": 2, "cell_types": ["a", "b"]}
    model = ScmulanModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, ScmulanModel.untrained(data, **sizes).embed(data).values)
    assert set(model.annotate(data).fine) <= {"a", "b", "Unclassified"}
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)


def test_layers_and_pools_by_name(folder):
    model = ScmulanModel.load(folder)
    for wrong in ({"layer": -1}, {"pooling": "task", "layer": 1}, {"pooling": "cls"}):
        with pytest.raises(ConfigError):
            model.embed(cells(3), **wrong)
