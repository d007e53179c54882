"""The same tokens and numbers as a plain retelling in float64, token by token."""

import json

import numpy as np
import pytest
import torch

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave_genemamba import GenemambaModel, GenemambaTokenizer

from . import retelling
from .conftest import (
    CONV,
    HEADS,
    INNER,
    LENGTH,
    N_GENES,
    N_IDS,
    STATE,
    WIDTH,
    cells,
    genes,
    publish,
    random_state,
    write_tokenizer,
)

TOLERANCE = 1e-5


def dense(adata):
    return adata.X.toarray().astype(np.float64)


def expressed(counts, *, first=(), length=LENGTH):
    order = np.argsort(-counts, kind="stable")
    ids = [*first, *(order[counts[order] > 0] + 2)]
    return np.array(ids[:length])


@pytest.mark.parametrize("fuse", ["mean", "sum", "concat", "gate"])
def test_embeddings(fuse, tmp_path):
    model = cellweave.load(publish(tmp_path / "weights", fuse=fuse))
    assert isinstance(model, GenemambaModel)
    assert model.config.fuse == fuse
    data, w = cells(), retelling.numbers(random_state(fuse=fuse))
    tokens = model.tokenizer.encode(data)
    assert tokens.lengths.max() == LENGTH
    assert tokens.lengths.min() < LENGTH
    found = {
        how: model.embed(data, pooling=how, batch_size=5).values
        for how in ("auto", "first", "mean_padded")
    }
    before = model.embed(data, layer=-1).values
    for i, counts in enumerate(dense(data)):
        ids = expressed(counts)
        assert tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() == ids.tolist()
        states = retelling.states(w, ids, fuse)
        scale = max(1.0, np.abs(states[-2]).max())
        assert np.abs(found["auto"][i] - states[-1].mean(0)).max() < TOLERANCE
        assert np.abs(found["first"][i] - states[-1][0]).max() < TOLERANCE
        assert np.abs(before[i] - states[-2].mean(0)).max() < TOLERANCE * scale
        whole = np.full(LENGTH, 1)
        whole[: len(ids)] = ids
        padded = retelling.states(w, whole, fuse)[-1]
        assert np.abs(found["mean_padded"][i] - padded.mean(0)).max() < TOLERANCE
        # With the authors' mask, padding does not matter to the tokens before it.
        masked = retelling.states(w, whole, fuse, n_real=len(ids))[-1][: len(ids)]
        assert np.abs(masked - states[-1]).max() < 1e-9


def test_equals_the_mixer_of_transformers(folder):
    """Another independent Mamba-2: the plain torch path of transformers, same tensors."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=WIDTH, expand=2, num_heads=HEADS, head_dim=INNER // HEADS, state_size=STATE,
        n_groups=1, conv_kernel=CONV, chunk_size=8, use_bias=False, use_conv_bias=True,
    )  # fmt: skip
    stem = "mamba_mixer.layers.1.mamba."
    mixer = Mamba2Mixer(config, layer_idx=0).eval()
    state = random_state()
    mixer.load_state_dict({k.removeprefix(stem): v for k, v in state.items() if stem in k})
    block = GenemambaModel.load(folder).network.blocks[1]
    x = torch.randn(3, 19, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (block.mamba(x) - mixer(x)).abs().max() < TOLERANCE


def test_genes_and_scores_of_the_next(folder):
    model, data, w = GenemambaModel.load(folder), cells(5), retelling.numbers(random_state())
    rows = model.gene_embeddings()
    assert rows.names.tolist() == genes()
    assert np.abs(rows.values - w["embeddings.weight"][2:]).max() < 1e-7
    sums, counts = np.zeros((N_IDS, 24)), np.zeros(N_IDS)
    for cell in dense(data):
        ids = expressed(cell)
        states = retelling.states(w, ids, "mean")[-1]
        sums[ids] += states
        counts[ids] += 1
    found = model.contextual_gene_embeddings(data, batch_size=2)
    at = [genes().index(name) + 2 for name in found.names]
    assert np.abs(found.values - sums[at] / counts[at, None]).max() < TOLERANCE
    with torch.no_grad():
        logits = model.network.logits(torch.tensor(states, dtype=torch.float32)).numpy()
    expected = states @ w["lm_head.weight"].T + w["lm_head.bias"]
    assert np.abs(logits - expected).max() < TOLERANCE


def test_classifier_on_the_first_token(tmp_path):
    state = random_state(labels=3, cls=True)
    inner = {f"model.{k}": v for k, v in state.items() if not k.startswith("classifier")}
    inner |= {k: v for k, v in state.items() if k.startswith("classifier")}
    folder = publish(tmp_path / "fine", inner)
    model, data, w = cellweave.load(folder), cells(6), retelling.numbers(state)
    assert model.tokenizer.vocabulary.names[-1] == "[CLS]"
    expected = [retelling.states(w, expressed(c, first=[N_IDS]), "mean")[-1] for c in dense(data)]
    first = np.array([retelling.classifier(w, s[0]) for s in expected])
    assert np.abs(model.predict(data, batch_size=4) - first).max() < TOLERANCE
    mean = np.array([retelling.classifier(w, s.mean(0)) for s in expected])
    assert np.abs(model.predict(data, pooling="mean") - mean).max() < TOLERANCE
    write_tokenizer(folder, cls=True)
    assert np.abs(cellweave.load(folder).predict(data) - first).max() < TOLERANCE
    with pytest.raises(ConfigError, match="no classifier"):
        GenemambaModel.load(publish(tmp_path / "plain")).predict(data)


def test_unexpressed_genes_follow(folder):
    model, data = GenemambaModel.load(folder), cells(8)
    order = np.random.default_rng(1).permutation(N_GENES)
    shuffled = data[:, order].copy()
    tokens = model.tokenizer.changed(unexpressed="append").encode(shuffled)
    assert set(tokens.lengths) == {LENGTH}
    for i, counts in enumerate(dense(shuffled)):
        ranks = np.argsort(-counts, kind="stable")[:LENGTH]
        assert tokens.ids[i * LENGTH : (i + 1) * LENGTH].tolist() == (order[ranks] + 2).tolist()
    found = model.embed(shuffled, unexpressed="append").values
    padded = model.embed(shuffled, unexpressed="append", pooling="mean_padded").values
    assert np.abs(found - padded).max() < TOLERANCE  # no padding, no difference
    assert np.abs(found - model.embed(shuffled).values).max() > 1e-3


def test_ranks_over_medians(folder, tmp_path):
    medians = {g: float(v) for g, v in zip(genes(), np.linspace(0.5, 3, N_GENES))}
    (tmp_path / "medians.json").write_text(json.dumps(medians))
    model = GenemambaModel.load(folder, medians=tmp_path / "medians.json")
    data = cells(5)
    tokens = model.tokenizer.encode(data)
    for i, counts in enumerate(dense(data)):
        ids = expressed(counts / counts.sum() * 1e4 / np.array(list(medians.values())))
        assert tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist() == ids.tolist()
    again = GenemambaTokenizer.from_state(model.tokenizer.state())
    assert np.array_equal(again.encode(data).ids, tokens.ids)


def test_names_of_genes(folder):
    symbols = {f"G{i}": g for i, g in enumerate(genes())}
    (folder / "symbol2id.json").write_text(json.dumps(symbols))
    model, data = GenemambaModel.load(folder), cells(4)
    expected = model.embed(data).values
    data.var_names = [f"{g}.3" for g in genes()]
    assert np.array_equal(model.embed(data).values, expected)
    data.var_names = list(symbols)
    assert np.array_equal(model.embed(data).values, expected)
    data.var_names = [f"x{i}" for i in range(N_GENES)]
    with pytest.raises(DataError, match="human Ensembl ids"):
        model.embed(data)
    data.var["gene_name"] = list(symbols)
    assert np.array_equal(model.embed(data).values, expected)


def test_untrained(tmp_path):
    data = cells(20)
    sizes = {"width": 16, "depth": 1, "head_width": 8, "state": 4, "max_length": 30}
    model = GenemambaModel.untrained(data, **sizes, fuse="gate")
    found = model.embed(data).values
    again = GenemambaModel.untrained(data, **sizes, fuse="gate")
    assert np.array_equal(found, again.embed(data).values)
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)
    for wrong in ({"pooling": "cls"}, {"layer": 1}, {"unexpressed": "keep"}):
        with pytest.raises(ConfigError):
            model.embed(data, **wrong)
