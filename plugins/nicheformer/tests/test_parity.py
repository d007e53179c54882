"""The same tokens and numbers as the authors' code, and as a plain retelling in float64."""

import json
import os
import shutil
import zlib
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave.records import Tokens
from cellweave_nicheformer import NicheformerModel, NicheformerTokenizer
from cellweave_nn.batch import TokenBatch

from . import retelling
from .conftest import (
    DEPTH,
    HEADS,
    N_GENES,
    PLACES,
    WIDTH,
    cells,
    fine_tuned,
    genes,
    means,
    publish,
    random_state,
)

TOLERANCE = 1e-5


def dense(adata):
    return adata.X.toarray().astype(np.float64)


def context(i):
    """Return the tokens of species, assay and modality of a cell of :func:`cells`."""
    return [5 if i % 3 else 6, 7 if i % 2 else 11, 4 if i % 2 else 3]


def sequence(counts, i, mode="raw"):
    mean = means()["merfish" if i % 2 else "dissociated"]
    return retelling.padded(retelling.tokens(counts, mean, context(i), mode=mode), PLACES)


def values_of(counts, mean, ids):
    """Return what ``ids`` were sorted by, when means are rounded."""
    whole = np.floor(np.nan_to_num(mean) + 0.5)
    return (counts / np.where(whole == 0, 1, whole))[ids - 30]


@pytest.mark.parametrize("mode", ["raw", "filled", "rounded"])
def test_tokens(mode, published):
    model, data = NicheformerModel.load(published), cells(30)
    tokens = model.tokenizer.changed(mean_mode=mode).encode(data)
    assert tokens.lengths.max() == PLACES
    assert tokens.lengths.min() < PLACES
    for i, counts in enumerate(dense(data)):
        ids = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]]
        expected = sequence(counts, i, mode)
        expected = expected[expected != 1]
        if mode == "rounded":  # 3/6 and 1/2: which comes first is a matter of rounding
            mean = means()["merfish" if i % 2 else "dissociated"]
            found, other = (values_of(counts, mean, x[3:]) for x in (ids, expected))
            assert np.allclose(found, other)
            assert ids[:3].tolist() == expected[:3].tolist()
        else:
            assert ids.tolist() == expected.tolist()


def test_genes_with_negative_means_stand_last():
    names, mean = genes(6), np.array([1.0, -2, 4, -1, np.nan, 0])
    made = NicheformerTokenizer.from_order(names, {"merfish": mean}, context=())
    counts = sp.csr_matrix(np.array([[1, 4, 8, 1, 5, 3], [0, 0, 0, 2, 1, 0]], dtype=np.float32))
    data = anndata.AnnData(counts, var=pd.DataFrame(index=names))
    tokens = made.encode(data)
    # 3/1, 8/4, 1/1, then -1 and -2; the gap has no token.
    assert tokens.ids.tolist() == [35, 32, 30, 33, 31, 33]
    assert tokens.offsets.tolist() == [0, 5, 6]
    short = made.changed(max_length=4).encode(data)
    assert short.ids.tolist() == [35, 32, 30, 33, 33]


def test_embedding_averages_padding_too(published):
    model = cellweave.load(published)
    assert isinstance(model, NicheformerModel)
    data, w = cells(), retelling.numbers(random_state())
    found = {
        how: model.embed(data, pooling=how, batch_size=5).values
        for how in ("auto", "mean_with_context", "mean_unpadded")
    }
    before = model.embed(data, layer=-1).values
    for i, counts in enumerate(dense(data)):
        ids = sequence(counts, i)
        states, _ = retelling.states(w, ids, HEADS)
        assert np.abs(found["auto"][i] - states[-1][3:].mean(0)).max() < TOLERANCE
        assert np.abs(found["mean_with_context"][i] - states[-1].mean(0)).max() < TOLERANCE
        real = states[-1][3 : (ids != 1).sum()].mean(0)
        assert np.abs(found["mean_unpadded"][i] - real).max() < TOLERANCE
        assert np.abs(before[i] - states[-2][3:].mean(0)).max() < TOLERANCE
    with pytest.raises(ConfigError, match="pooling='cls' is unknown"):
        model.embed(data, pooling="cls")


def test_equals_torch_layers(published):
    """The authors loop over torch's layers with gradients off and a padding mask."""
    model, data, state = NicheformerModel.load(published), cells(4), random_state()
    layer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 48, 0.0, batch_first=True, layer_norm_eps=1e-12
    )
    encoder = torch.nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False).eval()
    stem = "encoder."
    encoder.load_state_dict({k.removeprefix(stem): v for k, v in state.items() if stem in k})
    ids = torch.from_numpy(np.stack([sequence(c, i) for i, c in enumerate(dense(data))]))
    x = state["embeddings.weight"][ids] + state["positional_embedding.weight"]
    with torch.no_grad():
        for block in encoder.layers:
            x = block(x, src_key_padding_mask=ids == 1, is_causal=False)
        batch = TokenBatch.from_tokens(model.tokenizer.encode(data))
        mine = model.network.padded(batch, [DEPTH])[0]
    assert (mine - x).abs().max() < TOLERANCE


def test_attention_genes_and_logits(published):
    model, data, w = NicheformerModel.load(published), cells(4), retelling.numbers(random_state())
    sums, counts = np.zeros((N_GENES, WIDTH)), np.zeros(N_GENES)
    for i, (name, ids, weights) in enumerate(model.attention(data)):
        assert name == f"c{i}"
        whole = sequence(dense(data)[i], i)
        states, maps = retelling.states(w, whole, HEADS)
        for mine, other in zip(weights, maps):
            assert np.abs(mine - other[:, : len(ids), : len(ids)]).max() < TOLERANCE
        sums[ids[3:] - 30] += states[-1][3 : len(ids)]
        counts[ids[3:] - 30] += 1
    found = model.gene_embeddings(data)
    at = [genes().index(name) for name in found.names]
    assert np.abs(found.values - sums[at] / counts[at, None]).max() < TOLERANCE
    last = torch.tensor(states[-1][: len(ids)], dtype=torch.float32)
    with torch.no_grad():
        logits = model.network.logits(last).numpy()
    expected = states[-1][: len(ids)] @ w["classifier_head.weight"].T + w["classifier_head.bias"]
    assert np.abs(logits - expected).max() < TOLERANCE


HEADS_OF_TASKS = {
    "composition": ("niche_regression", 5, {"regress_distribution": True}),
    "density": ("density_regression", 1, {"extractor": True}),
    "label": ("niche_classification", 6, {"n_classes": 6, "without_context": False}),
    "labels": ("niche_multiclass_classification", 12, {"n_classes": 4, "dim_prediction": 3}),
    "summed": ("niche_regression", 4, {"extract_layers": [0, 2], "function_layers": "sum"}),
    "joined": ("niche_regression", 4, {"extract_layers": [0, 2], "function_layers": "concat"}),
    "averaged": ("niche_regression", 4, {"extract_layers": [1, 2], "function_layers": "mean"}),
}


@pytest.mark.parametrize("name", HEADS_OF_TASKS)
def test_spatial_heads(name, tmp_path):
    task, n_out, settings = HEADS_OF_TASKS[name]
    content = fine_tuned(task, n_out, **settings)
    model = cellweave.load(publish(tmp_path / "fine", content, "niche.ckpt"))
    w, data = retelling.numbers(content["state_dict"]), cells(8)
    said = content["hyper_parameters"]
    expected = []
    for i, counts in enumerate(dense(data)):
        states, _ = retelling.states(w, sequence(counts, i), HEADS, "backbone.")
        layers = [states[k + 1] for k in said["extract_layers"]]
        combine = {
            "mean": lambda s: np.mean(s, axis=0),
            "sum": lambda s: np.sum(s, axis=0),
            "concat": lambda s: np.concatenate(s, axis=1),
        }[said["function_layers"]]
        cell = combine(layers)[3 if said["without_context"] else 0 :].mean(0)
        if "pooler_head.weight" in w:
            cell = np.tanh(w["pooler_head.weight"] @ cell + w["pooler_head.bias"])
        scores = w["linear_head.weight"] @ cell
        expected.append(retelling.softmax(scores) if name == "composition" else scores)
    expected = np.array(expected)
    scale = max(1.0, np.abs(expected).max())
    assert np.abs(model.predict(data, batch_size=3) - expected).max() < TOLERANCE * scale
    if task == "niche_regression":
        assert model.composition(data).shape == (8, n_out)
    if name == "density":
        assert np.abs(model.density(data) - expected[:, 0]).max() < TOLERANCE * scale
    if name == "label":
        assert model.spatial_labels(data).tolist() == expected.argmax(1).tolist()
    if name == "labels":
        assert np.array_equal(model.spatial_labels(data), expected.reshape(8, 4, 3).argmax(1))
    if name != "density":
        with pytest.raises(ConfigError, match="fine-tuned for density_regression"):
            model.density(data)


def test_fine_tuned_with_a_first_token(tmp_path):
    content = fine_tuned("niche_regression", 3, pool="cls")
    model, data = NicheformerModel.load(publish(tmp_path, content)), cells(3)
    tokens = model.tokenizer.encode(data)
    assert [tokens.ids[s : s + 4].tolist() for s in tokens.offsets[:-1]] == [
        [2, *context(i)] for i in range(3)
    ]
    w = retelling.numbers(content["state_dict"])
    ids = retelling.tokens(dense(data)[1], means()["merfish"], [2, *context(1)])
    states, _ = retelling.states(w, retelling.padded(ids, PLACES), HEADS, "backbone.")
    expected = w["linear_head.weight"] @ states[-1][3:].mean(0)
    assert np.abs(model.predict(data)[1] - expected).max() < TOLERANCE * 10
    with pytest.raises(ConfigError, match="no fine-tuned head"):
        NicheformerModel.load(publish(tmp_path / "plain")).predict(data)


def test_context_by_name(published):
    model, data = NicheformerModel.load(published), cells(6)
    expected = model.embed(data).values
    named = data.copy()
    named.obs["species"] = [5.0 if i % 3 else 6.0 for i in range(6)]
    named.obs["assay"] = [7 if i % 2 else 11 for i in range(6)]
    assert np.array_equal(model.embed(named).values, expected)
    bare = data[1::2].copy()
    bare.obs = bare.obs[["species"]]
    with pytest.raises(DataError, match=r"no obs\['assay'\]; there is no obs\['modality'\]"):
        model.embed(bare)
    found = model.embed(bare, assay="merfish", modality="Spatial").values
    assert np.abs(found - expected[1::2]).max() < TOLERANCE
    with pytest.raises(DataError, match="assay '10x 3 v3' is unknown"):
        model.embed(data, assay="10x 3 v3")
    with pytest.raises(ConfigError, match="no mean expression for the technology 'visium'"):
        model.embed(data, technology="visium")
    with pytest.raises(ConfigError, match="'max_length' cannot be set here"):
        model.embed(data, max_length=9)
    other = model.embed(data, technology="xenium").values
    assert np.abs(other - expected).max() > TOLERANCE


def test_genes_that_are_missing_or_unknown(published):
    model, data = NicheformerModel.load(published), cells(6)
    part = data[:, 5:].copy()
    part.var_names = [*(f"{g}.7" for g in part.var_names[:-1]), "NOT_A_GENE"]
    counts = np.zeros((6, N_GENES))
    counts[:, 5:-1] = dense(part)[:, :-1]
    tokens = model.tokenizer.encode(part)
    for i in range(6):
        ids = tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]]
        expected = sequence(counts[i], i)
        assert ids.tolist() == expected[expected != 1].tolist()
    empty = cells(3)
    empty = empty[:, 2:].copy()
    empty.X = sp.csr_matrix(empty.shape, dtype=np.float32)
    with pytest.raises(DataError, match="no feature that the model knows"):
        model.embed(empty)


def test_untrained(tmp_path):
    data = cells(20)
    sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 16, "max_length": 30}
    model = NicheformerModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, NicheformerModel.untrained(data, **sizes).embed(data).values)
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)
    framed = NicheformerModel.untrained(data, **sizes, context=("specie", "assay", "modality"))
    assert framed.embed(data).values.shape == (20, 16)


def test_tokenizer_keeps_its_state(published):
    made = NicheformerModel.load(published).tokenizer.changed(mean_mode="filled", species="mouse")
    again, data = NicheformerTokenizer.from_state(made.state()), cells(5)
    assert np.array_equal(made.encode(data).ids, again.encode(data).ids)
    assert again.parameters() == made.parameters()


def golden_state(data):
    state = {}
    for name, shape, _, rule in json.loads((data / "golden/nicheformer/weights.json").read_text()):
        z = np.random.default_rng([99, zlib.crc32(name.encode())]).standard_normal(shape)
        z = z.astype("float32")
        filled = {"n.02": 0.02 * z, "n.03": 0.03 * z, "1+n.05": 1 + 0.05 * z}[rule]
        state[name] = torch.from_numpy(np.asarray(filled, dtype=np.float32))
    return state


@pytest.mark.data
def test_equals_the_authors_code(tmp_path):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    data = Path(os.environ["CELLWEAVE_DATA"])
    golden = np.load(data / "golden/nicheformer/reference.npz")
    settings = json.loads((data / "golden/nicheformer/hparams.json").read_text())
    content = {"state_dict": golden_state(data), "hyper_parameters": settings}
    torch.save(content, tmp_path / "nicheformer.ckpt")
    for file in (data / "vocab").glob("nicheformer_*"):
        shutil.copy(file, tmp_path / file.name)
    model = NicheformerModel.load(tmp_path)
    assert set(model.tokenizer.technologies) == {
        "dissociated",
        "cosmx",
        "iss",
        "merfish",
        "xenium",
    }
    names = model.tokenizer.table.features
    adata = anndata.AnnData(sp.csr_matrix(golden["counts"]), var=pd.DataFrame(index=names))
    tokenizer = model.tokenizer.changed(
        mean_mode="filled", technology="dissociated", context=(), max_length=4096
    )
    tokens = tokenizer.encode(adata)
    for i in range(3):
        expected = golden["tokens"][i][golden["tokens"][i] > 1]
        assert np.array_equal(tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]], expected)
    is_token = ~golden["padding_mask"]
    given = Tokens(
        offsets=np.concatenate([[0], is_token.sum(1).cumsum()]).astype(np.int64),
        ids=golden["input_ids"][is_token].astype(np.int32),
        obs_names=np.array(["a", "b", "c"]),
    )
    with torch.no_grad():
        states = model.network.padded(TokenBatch.from_tokens(given), [2])[0].numpy()
    assert np.abs(states[0] - golden["transformer_output_cell0"]).max() < TOLERANCE
    mean = states[:, 3:].mean(1)
    assert np.abs(mean - golden["mean_embedding"]).max() < TOLERANCE
