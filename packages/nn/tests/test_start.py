"""Where training starts: factors of the data, and defaults that use them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from cellweave.errors import ConfigError
from cellweave.records import ComponentState
from cellweave_nn.adapt.quantise import quantise
from cellweave_nn.encoders.transformer import TransformerEncoder
from cellweave_nn.models.cell_model import load_model
from cellweave_nn.tokenizers import NonzeroTokenizer
from cellweave_nn.training.pretrain import assemble, pretrain
from cellweave_nn.training.settings import PretrainConfig
from cellweave_nn.training.start import gene_factors, start_from_factors


@pytest.fixture
def encoded(adata):
    tokenizer = NonzeroTokenizer(weigh="rarity").fit(adata)
    return tokenizer, tokenizer.encode(adata)


def dense(tokens, n_ids):
    x = np.zeros((tokens.n_cells, n_ids))
    cell = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    x[cell, tokens.ids] = tokens.values
    return x


def test_rarity_weighs_by_how_many_cells_have_a_feature(adata, tmp_path):
    adata = adata.copy()
    values = adata.X.toarray()
    values[:, 4] = 0
    values[0, 4] = 2.0
    adata.X = sp.csr_matrix(values)
    adata.var["highly_variable"] = np.arange(30) % 2 == 0
    tokenizer = NonzeroTokenizer(weigh="rarity", only_variable=True, limit=5).fit(adata)
    x = adata.X.toarray()[:, ::2]
    weighed = x * np.log1p(60 / (adata.X.toarray() > 0).sum(0)[::2])
    everything = adata.X.toarray() * np.log1p(60 / (adata.X.toarray() > 0).sum(0))
    weighed /= everything[everything > 0].mean()
    tokens = tokenizer.encode(adata)
    for i in range(60):
        own = slice(tokens.offsets[i], tokens.offsets[i + 1])
        best = np.argsort(-weighed[i], kind="stable")[: min(5, np.count_nonzero(weighed[i]))]
        best.sort()
        assert tokens.ids[own].tolist() == (best + 3).tolist()
        np.testing.assert_allclose(tokens.values[own], weighed[i, best], rtol=1e-6)
    assert 5 in tokens.ids[: tokens.offsets[1]]  # the feature that one cell alone has
    tokenizer.state().save(tmp_path / "state")
    back = NonzeroTokenizer.from_state(ComponentState.load(tmp_path / "state"))
    again = back.encode(adata[:10, ::-1].copy())
    np.testing.assert_array_equal(again.values, tokens.values[: tokens.offsets[10]])
    with pytest.raises(ConfigError, match="weigh is 'often'"):
        NonzeroTokenizer(weigh="often")


def test_factors_are_those_of_unit_cells(encoded):
    tokenizer, tokens = encoded
    n_ids = len(tokenizer.vocabulary)
    found = gene_factors(tokens, n_ids=n_ids, width=4, seed=0)
    x = dense(tokens, n_ids)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    exact = np.linalg.svd(x)[2][:1]  # two types of cells: what stands out is the first
    cosine = abs(exact[0] @ found[:, 0]) / np.linalg.norm(found[:, 0])
    assert cosine > 0.9999
    assert not found[:3].any()  # special tokens
    assert np.square(found[3:]).mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(found, gene_factors(tokens, n_ids=n_ids, width=4, seed=0))
    wide = gene_factors(tokens, n_ids=n_ids, width=64, seed=0)  # more than there are
    assert wide.shape == (n_ids, 64)
    assert not wide[:, n_ids:].any()


def cosines(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def test_an_untrained_model_knows_what_a_linear_method_knows(tmp_path, some_cells):
    cells = tmp_path / "cells.h5ad"
    some_cells(150).write_h5ad(cells)
    parts = assemble(PretrainConfig(data=cells, output=tmp_path / "run"))
    batch = parts.source.batch(np.arange(150))
    with torch.inference_mode():
        states = parts.model.encoder(batch).cell_state.numpy()
    x = dense(parts.source.tokens, parts.source.n_ids)
    table = parts.model.encoder.input.tokens.table.weight.detach().numpy()
    linear = x @ table
    one, other = (cosines(e - e.mean(0)) for e in (states, linear))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_data_and_output_are_enough(tmp_path, some_cells):
    cells = tmp_path / "cells.h5ad"
    adata = some_cells(150)
    adata.write_h5ad(cells)
    training = {"steps": 5, "device": "cpu"}
    config = PretrainConfig(data=cells, output=tmp_path / "run", training=training)
    assert (config.training.cells_per_slot, config.training.learning_rate) == (64, 3e-4)
    warmups = [PretrainConfig(data=cells, output=cells, training=t).training.warmup
               for t in ({}, {"steps": 60}, {"steps": 60, "warmup": 7})]  # fmt: skip
    assert warmups == [50, 3, 7]
    assert pretrain(config).finished
    model = load_model(tmp_path / "run" / "model")
    kind = adata.obs["cell_type"].to_numpy()
    values = model.embed(adata).values
    near = ((values[:, None] - values[None]) ** 2).sum(-1)
    np.fill_diagonal(near, np.inf)
    assert np.mean(kind[near.argmin(1)] == kind) > 0.95
    for precision in ("bf16", "int8"):
        small = quantise(model, to=precision).embed(adata).values
        assert np.diag(cosines(np.concatenate([values, small])), 150).min() > 0.99


def test_a_start_that_cannot_be_is_refused(encoded, tmp_path, some_cells):
    _, tokens = encoded
    plain = TransformerEncoder(n_ids=33, width=8, depth=1, heads=2, values="continuous")
    with pytest.raises(ConfigError, match="residual_pooling=True"):
        start_from_factors(plain, tokens, seed=0)
    with pytest.raises(ConfigError, match="pooling='cls'"):
        TransformerEncoder(n_ids=33, width=8, pooling="cls", residual_pooling=True)
    with pytest.raises(ConfigError, match="norm_first=False"):
        TransformerEncoder(n_ids=33, width=8, norm_first=False, residual_pooling=True)
    cells = tmp_path / "cells.h5ad"
    some_cells(30).write_h5ad(cells)
    values = {"data": cells, "output": tmp_path / "run", "encoder": {"name": "nn.transformer"}}
    with pytest.raises(ConfigError, match="start is 'factors'"):
        assemble(PretrainConfig(start="factors", **values))
    before = assemble(PretrainConfig(**values)).model.encoder.input.tokens.table.weight
    after = assemble(PretrainConfig(start="random", **values)).model.encoder.input.tokens.table
    torch.testing.assert_close(before, after.weight)


def test_packed_and_padded_agree_with_residual_pooling(encoded):
    from cellweave_nn.batch import TokenBatch

    _, tokens = encoded
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        n_ids=33, width=8, depth=2, heads=2, values="continuous", pooling="weighted",
        residual_pooling=True,
    )  # fmt: skip
    batch = TokenBatch.from_tokens(tokens)
    packed = encoder(batch, keep_hidden=True)
    padded = encoder(batch, padded=True)
    torch.testing.assert_close(packed.cell_state, padded.cell_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed.token_states, packed.hidden[-1])
