"""The same numbers as the authors' network and as torch's own encoder."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave.records import Tokens
from cellweave_nn.batch import TokenBatch
from cellweave_scgpt import ScgptModel

from .conftest import DEPTH, HEADS, HIDDEN, WIDTH, cells, publish, random_state, symbols

TOLERANCE = 1e-5


def layouts(state):
    """The three layouts of attention, by name."""

    def renamed(old, new):
        return {k.replace(old, new): v for k, v in state.items()}

    wrapped = {
        k.replace("self_attn.Wqkv", "self_attn._impl.Wqkv").replace(
            "self_attn.out_proj", "self_attn._impl.out_proj"
        ): v
        for k, v in state.items()
    }
    return {
        "flash": state,
        "wrapped": wrapped,
        "torch": renamed("self_attn.Wqkv.", "self_attn.in_proj_"),
    }


def torch_encoder(state):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, 0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, DEPTH).eval()
    named = layouts(state)["torch"]
    stem = "transformer_encoder."
    encoder.load_state_dict({k.removeprefix(stem): v for k, v in named.items() if stem in k})
    return encoder


def input_rows(state, ids, values):
    genes = F.layer_norm(
        state["encoder.embedding.weight"][ids],
        (WIDTH,),
        state["encoder.enc_norm.weight"],
        state["encoder.enc_norm.bias"],
    )
    x = values.clamp(max=512).unsqueeze(-1) @ state["value_encoder.linear1.weight"].T
    x = F.relu(x + state["value_encoder.linear1.bias"])
    x = x @ state["value_encoder.linear2.weight"].T + state["value_encoder.linear2.bias"]
    norm = [state[f"value_encoder.norm.{k}"] for k in ("weight", "bias")]
    return genes + F.layer_norm(x, (WIDTH,), *norm)


@pytest.mark.parametrize("layout", ["flash", "wrapped", "torch"])
@pytest.mark.parametrize("fast", [True, False])
def test_equals_torch_encoder(layout, fast, tmp_path):
    state = random_state()
    model = cellweave.load(publish(tmp_path / "weights", layouts(state)[layout]))
    assert isinstance(model, ScgptModel)
    data = cells()
    tokens = model.tokenizer.encode(data)
    assert tokens.lengths.max() == 30  # long cells are sampled
    assert tokens.lengths.min() < 30
    ids, values, is_token = tokens.padded(pad_id=70, pad_value=-2)
    padding = torch.from_numpy(~is_token)
    rows = input_rows(state, torch.from_numpy(ids).long(), torch.from_numpy(values))
    with torch.set_grad_enabled(not fast):
        out = torch_encoder(state)(rows, src_key_padding_mask=padding).detach()
    if fast:
        assert out[padding].abs().max() == 0  # the quirk: padded places are zeros
    with torch.no_grad():
        mine = model.network(TokenBatch.from_tokens(tokens))
    assert (mine - out[~padding]).abs().max() < TOLERANCE
    cls = F.normalize(out[:, 0]).numpy()
    assert np.abs(model.embed(data, batch_size=5).values - cls).max() < TOLERANCE
    plain = model.embed(data, batch_size=5, normalise=False).values
    assert np.abs(plain - out[:, 0].numpy()).max() < TOLERANCE
    if fast:  # the authors' average and weighted pools, on zeros at padding, then normalised
        average = F.normalize(out.mean(1)).numpy()
        assert np.abs(model.embed(data, pooling="mean").values - average).max() < TOLERANCE
        weighted = F.normalize((out * torch.from_numpy(values)[..., None]).sum(1)).numpy()
        assert np.abs(model.embed(data, pooling="weighted").values - weighted).max() < TOLERANCE


def golden_state(data):
    state = {}
    for name, shape, _, rule in json.loads((data / "golden/scgpt/weights.json").read_text()):
        z = np.random.default_rng([99, zlib.crc32(name.encode())]).standard_normal(shape)
        z = z.astype("float32")
        filled = {"n.02": 0.02 * z, "n.03": 0.03 * z, "1+n.05": 1 + 0.05 * z, "n1": z}[rule]
        state[name] = torch.from_numpy(np.asarray(filled, dtype=np.float32))
    return state


@pytest.mark.data
def test_equals_the_authors_network(tmp_path):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    data = Path(os.environ["CELLWEAVE_DATA"])
    golden = np.load(data / "golden/scgpt/reference.npz")
    torch.save(golden_state(data), tmp_path / "best_model.pt")
    vocabulary = (data / "vocab/scgpt_default_census_vocab.json").read_bytes()
    (tmp_path / "vocab.json").write_bytes(vocabulary)
    (tmp_path / "args.json").write_bytes((data / "golden/scgpt/args.json").read_bytes())
    model = ScgptModel.load(tmp_path)
    is_token = ~golden["padding_mask"]
    tokens = Tokens(
        offsets=np.concatenate([[0], is_token.sum(1).cumsum()]).astype(np.int64),
        ids=golden["gene_ids"][is_token].astype(np.int32),
        values=golden["values"][is_token],
        obs_names=np.array([f"c{i}" for i in range(4)]),
    )
    batch = TokenBatch.from_tokens(tokens)
    with torch.no_grad():
        states = model.network(batch)
        mine = {
            "encoder_output": states,
            "mlm_output": model.network.expression_values(states),
            "mvc_output": model.network.conditioned_values(states, batch),
        }
        cls = model.network.cells(states, batch)
        labels = model.network.label(cls)
    for name, found in mine.items():
        assert np.abs(found.numpy() - golden[name][is_token]).max() < TOLERANCE, name
    assert np.abs(cls.numpy() - golden["cls"]).max() < TOLERANCE
    assert np.abs(labels.numpy() - golden["cls_output"]).max() < TOLERANCE
    normalised = F.normalize(cls).numpy()
    assert np.abs(normalised - golden["cell_embedding"]).max() < TOLERANCE
    made = model.tokenizer.encode(golden_cells(golden))
    for i in range(4):
        mine_ids = made.ids[made.offsets[i] : made.offsets[i + 1]]
        assert mine_ids[0] == golden["gene_ids"][i, 0]
        assert set(mine_ids.tolist()) == set(golden["gene_ids"][i][is_token[i]].tolist())


def golden_cells(golden):
    import anndata
    import pandas as pd
    import scipy.sparse as sp

    names = pd.DataFrame(index=golden["gene_names"])
    return anndata.AnnData(sp.csr_matrix(golden["counts"]), var=names)


@pytest.mark.parametrize("norm", ["bn", "dsbn"])
def test_norms_before_the_blocks(norm, tmp_path):
    state = random_state(norm=norm, zero=True)
    model = ScgptModel.load(publish(tmp_path / "weights", state))
    data = cells()
    data.obs["domain"] = np.arange(12) % 2
    tokens = model.tokenizer.encode(data)
    rows = input_rows(state, torch.from_numpy(tokens.ids).long(), torch.from_numpy(tokens.values))
    of_cell = np.repeat(np.arange(12) % 2, tokens.lengths)
    stems = ["bn", "bn"] if norm == "bn" else ["dsbn.bns.0", "dsbn.bns.1"]
    for code, stem in enumerate(stems):
        at = torch.from_numpy(of_cell == code)
        mean, var = state[f"{stem}.running_mean"], state[f"{stem}.running_var"]
        weight, bias = state.get(f"{stem}.weight", 1), state.get(f"{stem}.bias", 0)
        rows[at] = (rows[at] - mean) / (var + 6.1e-5).sqrt() * weight + bias
    encoder = torch_encoder(state)
    expected = [encoder(cell[None])[0, 0] for cell in rows.split(tokens.lengths.tolist())]
    expected = F.normalize(torch.stack(expected)).detach().numpy()
    key = None if norm == "bn" else "domain"
    assert np.abs(model.embed(data, domain_key=key).values - expected).max() < TOLERANCE
    if norm == "dsbn":
        with pytest.raises(ConfigError, match="a norm for each of 2 domains"):
            model.embed(data)


def test_values_as_rows_of_a_table(tmp_path):
    state = random_state(values="category")
    folder = publish(tmp_path / "weights", state, pad_value=51)
    model = ScgptModel.load(folder)
    data = cells()
    tokens = model.tokenizer.encode(data)
    assert tokens.values[tokens.offsets[0]] == 51
    genes = state["encoder.embedding.weight"][torch.from_numpy(tokens.ids).long()]
    norms = [state[f"encoder.enc_norm.{k}"] for k in ("weight", "bias")]
    table = state["value_encoder.embedding.weight"][torch.from_numpy(tokens.values).long()]
    others = [state[f"value_encoder.enc_norm.{k}"] for k in ("weight", "bias")]
    rows = F.layer_norm(genes, (WIDTH,), *norms) + F.layer_norm(table, (WIDTH,), *others)
    with torch.no_grad():
        mine = model.network.embedded(TokenBatch.from_tokens(tokens))
    assert (mine - rows).abs().max() < TOLERANCE


def test_genes_attention_and_labels(tmp_path):
    state = random_state(labels=3)
    model = ScgptModel.load(publish(tmp_path / "weights", state))
    data = cells(3)
    genes = model.gene_embeddings()
    assert genes.names.tolist() == symbols()
    ids = torch.arange(70)
    norms = [state[f"encoder.enc_norm.{k}"] for k in ("weight", "bias")]
    expected = F.layer_norm(state["encoder.embedding.weight"][ids], (WIDTH,), *norms)
    assert np.abs(genes.values - expected.numpy()).max() < TOLERANCE
    names, widths = [], []
    for name, tokens, weights in model.attention(data):
        names.append(name)
        widths.append({w.shape for w in weights} == {(HEADS, len(tokens), len(tokens))})
        assert all(np.allclose(w.sum(-1), 1, atol=1e-5) for w in weights)
    assert names == ["c0", "c1", "c2"]
    assert all(widths)
    found = model.contextual_gene_embeddings(data)
    assert set(found.names) <= set(symbols())
    assert model.predict(data).shape == (3, 3)
    with pytest.raises(ConfigError, match="no classifier"):
        ScgptModel.load(publish(tmp_path / "other")).predict(data)


def test_untrained(tmp_path):
    data = cells(20)
    sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 16, "max_length": 30}
    model = ScgptModel.untrained(data, **sizes)
    tokens = model.tokenizer.encode(data)
    assert set(tokens.values[tokens.offsets[:-1]]) == {-2.0}
    found = model.embed(data).values
    assert np.array_equal(found, ScgptModel.untrained(data, **sizes).embed(data).values)
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)


def test_layers_by_name(folder):
    model = ScgptModel.load(folder)
    data = cells(4)
    tokens = model.tokenizer.encode(data)
    with torch.no_grad():
        rows = model.network.embedded(TokenBatch.from_tokens(tokens)).numpy()
    found = model.embed(data, layer=-DEPTH, normalise=False).values
    assert np.abs(found - rows[tokens.offsets[:-1]]).max() < TOLERANCE
    for wrong in ({"layer": 1}, {"pooling": "avg-pool"}):
        with pytest.raises(ConfigError):
            model.embed(data, **wrong)


def test_symbols_in_a_column(folder):
    model = ScgptModel.load(folder)
    data = cells(4)
    expected = model.embed(data).values
    data.var["feature_name"] = list(data.var_names)
    data.var_names = [f"ENSG{i}" for i in range(70)]
    assert np.array_equal(model.embed(data).values, expected)
    del data.var["feature_name"]
    with pytest.raises(DataError, match="human symbols"):
        model.embed(data)
