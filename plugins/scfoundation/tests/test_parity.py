"""The same numbers as the authors' network, and as a plain retelling in float64."""

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
from cellweave.errors import ConfigError, DataError, LicenceNotice
from cellweave_nn.batch import TokenBatch
from cellweave_scfoundation import ScfoundationModel, ScfoundationTokenizer

from . import retelling
from .conftest import D_HEADS, D_WIDTH, HEADS, N_GENES, WIDTH, cells, random_state, symbols

TOLERANCE = 1e-5
pytestmark = pytest.mark.filterwarnings("ignore::cellweave.errors.LicenceNotice")


def told(seed=0):
    return retelling.numbers(random_state(seed))


def dense(adata):
    return adata.X.toarray().astype(np.float64)


def test_cell_embedding(published):
    model = cellweave.load(published)
    assert isinstance(model, ScfoundationModel)
    assert model.config.part == "cell"
    data, w = cells(), told()
    found = {
        how: model.embed(data, pooling=how, batch_size=5).values for how in ("auto", "max", "mean")
    }
    assert found["auto"].shape == (12, 4 * WIDTH)
    for i, counts in enumerate(dense(data)):
        states, _ = retelling.encoder(w, *retelling.tokens(counts), HEADS)
        assert np.abs(found["auto"][i] - retelling.pooled(states)).max() < TOLERANCE
        assert np.abs(found["max"][i] - states.max(0)).max() < TOLERANCE
        assert np.abs(found["mean"][i] - states[:-2].mean(0)).max() < TOLERANCE


def test_layers_and_attention(published):
    model, data, w = ScfoundationModel.load(published), cells(3), told()
    rows = model.embed(data, layer=-2, pooling="max").values
    for i, (name, ids, weights) in enumerate(model.attention(data)):
        values, places = retelling.tokens(dense(data)[i])
        assert name == f"c{i}"
        assert np.array_equal(ids, places)
        _, maps = retelling.encoder(w, values, places, HEADS)
        for mine, other in zip(weights, maps):
            assert np.abs(mine - other).max() < TOLERANCE
        first = retelling.value_rows(w, values) + w["pos_emb.weight"][places]
        assert np.abs(rows[i] - first.max(0)).max() < TOLERANCE
    with pytest.raises(ConfigError, match="layer=1 is none"):
        model.embed(data, layer=1)
    with pytest.raises(ConfigError, match="pooling='cls' is unknown"):
        model.embed(data, pooling="cls")


def test_gene_states(published):
    model, data, w = ScfoundationModel.load(published, part="gene"), cells(4), told(1)
    expected = [
        retelling.decoder(w, *retelling.tokens(c), HEADS, D_HEADS)[0][:N_GENES] for c in dense(data)
    ]
    for (name, states), other in zip(model.gene_states(data), expected, strict=True):
        assert name.startswith("c")
        assert np.abs(states - other).max() < TOLERANCE
    found = model.gene_embeddings(data)
    assert found.names.tolist() == symbols()
    assert found.values.shape == (N_GENES, D_WIDTH)
    assert np.abs(found.values - np.mean(expected, axis=0)).max() < TOLERANCE


@pytest.mark.parametrize("target", ["t4", "f5", "a1"])
def test_depth_is_enhanced(target, published):
    model, data, w = ScfoundationModel.load(published, part="rde"), cells(4), told(2)
    found = model.enhance_depth(data, target=target)
    assert found.var_names.tolist() == symbols()
    assert found.obs_names.tolist() == data.obs_names.tolist()
    for i, counts in enumerate(dense(data)):
        total = counts.sum()
        depth = {"t4": 4.0, "f5": np.log10(5 * total), "a1": np.log10(total) + 1}[target]
        _, values = retelling.decoder(w, *retelling.tokens(counts, depth), HEADS, D_HEADS)
        assert np.abs(found.X[i] - values[:N_GENES]).max() < TOLERANCE
    few = model.enhance_depth(data, target=target, genes=["GENE7", "GENE3"])
    assert np.array_equal(few.X, found[:, ["GENE7", "GENE3"]].X)
    with pytest.raises(ConfigError, match="'GENE99' is no gene of the list"):
        model.enhance_depth(data, genes=["GENE99"])


def test_batched_decoding_equals_one_cell_at_a_time(published):
    model, data = ScfoundationModel.load(published, part="rde"), cells(5)
    batch = TokenBatch.from_tokens(model.tokenizer.encode(data))
    with torch.no_grad():
        together = model.network.expression(batch).numpy()
    assert np.abs(together - model.enhance_depth(data).X).max() < TOLERANCE


def test_hidden_values_have_a_row_of_their_own(published):
    model, w = ScfoundationModel.load(published), told()
    values = np.array([0.0, 1.5, 102.0, 103.0])
    with torch.no_grad():
        rows = model.network.values(torch.tensor(values, dtype=torch.float32)).numpy()
    assert np.abs(rows - retelling.value_rows(w, values)).max() < TOLERANCE


def test_each_part_does_its_own_work(published):
    data = cells(3)
    with pytest.raises(ConfigError, match="Load with part='gene'"):
        ScfoundationModel.load(published).gene_embeddings(data)
    with pytest.raises(ConfigError, match="Load with part='rde'"):
        ScfoundationModel.load(published, part="gene").enhance_depth(data)
    with pytest.raises(ConfigError, match="part='genes' is none"):
        ScfoundationModel.load(published, part="genes")


def test_what_the_data_hold(published):
    """The three ways of the authors' script for cells, and the two for bulk samples."""
    model, raw, w = ScfoundationModel.load(published), cells(5), told()
    counts = dense(raw)
    totals = counts.sum(1)
    log = raw.copy()
    log.X = sp.csr_matrix(np.log1p(counts / totals[:, None] * 1e4).astype(np.float32))
    log.obs["raw"] = totals

    def expected(values, target, source):
        rows = np.concatenate([values, [target, source]])
        ids = np.flatnonzero(rows > 0)
        return retelling.pooled(retelling.encoder(w, rows[ids], ids, HEADS)[0])

    def gaps(found, other):
        return max(np.abs(a - b).max() for a, b in zip(found.values, other, strict=True))

    logs = log.X.toarray().astype(np.float64)
    quirk = [expected(v, 4, np.log10(v.sum())) for v in logs]
    assert gaps(model.embed(log, values="log"), quirk) < TOLERANCE
    right = [expected(v, 4, np.log10(t)) for v, t in zip(logs, totals)]
    assert gaps(model.embed(log, values="log_total", total_key="raw"), right) < TOLERANCE
    assert gaps(model.embed(raw), right) < TOLERANCE
    bulk = np.log1p(counts / totals[:, None] * np.median(totals))
    plain = [expected(v, np.log10(v.sum()), np.log10(v.sum())) for v in bulk]
    assert gaps(model.embed(raw, values="bulk_counts", batch_size=1), plain) < TOLERANCE
    done = [expected(v, v.sum(), v.sum()) for v in logs]
    assert gaps(model.embed(log, values="bulk_log"), done) < TOLERANCE
    for wrong in ({"values": "raw"}, {"target": "x4"}, {"values": "log_total"}, {"total_key": "a"}):
        with pytest.raises(ConfigError):
            model.embed(raw, **wrong)


def test_genes_that_are_missing_or_unknown(published):
    model, data = ScfoundationModel.load(published), cells(6)
    part = data[:, 5:].copy()
    part.var_names = [*part.var_names[:-1], "NOT_A_GENE"]
    part.X = part.X + sp.csr_matrix(np.ones(part.shape, dtype=np.float32))
    counts = np.zeros((6, N_GENES))
    counts[:, 5:-1] = dense(part)[:, :-1]
    for i, row in enumerate(model.embed(part).values):
        states, _ = retelling.encoder(told(), *retelling.tokens(counts[i]), HEADS)
        assert np.abs(row - retelling.pooled(states)).max() < TOLERANCE
    data.var_names = [f"ENSG{i}" for i in range(N_GENES)]
    with pytest.raises(DataError, match="human gene symbols"):
        model.embed(data)
    data.var["gene_name"] = symbols()
    assert model.embed(data).values.shape == (6, 4 * WIDTH)
    empty = cells(3)
    empty.X[1] = 0
    with pytest.raises(DataError, match="no feature that the model knows"):
        model.embed(empty)
    empty.X[1, 4] = 1
    with pytest.raises(DataError, match="fewer than 3 tokens"):
        model.embed(empty)


def test_untrained_and_saved(tmp_path, recwarn):
    data = cells(20)
    sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 16}
    sizes |= {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    model = ScfoundationModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, ScfoundationModel.untrained(data, **sizes).embed(data).values)
    model.save(tmp_path / "model")
    again = cellweave.load(tmp_path / "model")
    assert np.array_equal(again.embed(data).values, found)
    deep = model.enhance_depth(data, target="f5").X
    assert np.array_equal(again.enhance_depth(data, target="f5").X, deep)
    assert not [w for w in recwarn if issubclass(w.category, LicenceNotice)]


def test_tokenizer_keeps_its_state():
    data = cells(5)
    made = ScfoundationTokenizer(values="log_total", total_key="n", target="a2").fit(data)
    data.obs["n"] = np.arange(500, 505)
    again = ScfoundationTokenizer.from_state(made.state())
    for name in ("ids", "values", "offsets"):
        assert np.array_equal(getattr(made.encode(data), name), getattr(again.encode(data), name))


def golden_state(data):
    state = {}
    for name, shape, dtype, rule in json.loads(
        (data / "golden/scfoundation/weights.json").read_text()
    ):
        z = np.random.default_rng([99, zlib.crc32(name.encode())]).standard_normal(shape)
        z = z.astype("float32")
        filled = {"n.02": 0.02 * z, "n.03": 0.03 * z, "1+n.05": 1 + 0.05 * z, "n1": z, "keep": 0}
        state[name] = torch.from_numpy(np.asarray(filled[rule], dtype=dtype))
    return state


@pytest.mark.data
def test_equals_the_authors_network(tmp_path):
    if not os.environ.get("CELLWEAVE_DATA"):
        pytest.skip("CELLWEAVE_DATA is not set; it names the folder of published vocabularies")
    data = Path(os.environ["CELLWEAVE_DATA"])
    golden = np.load(data / "golden/scfoundation/reference.npz")
    state = {f"model.{k}": v for k, v in golden_state(data).items()}
    part = {"config": {"encoder": {"heads": 4}}, "state_dict": state}
    torch.save({"cell": part, "rde": part}, tmp_path / "models.ckpt")
    genes = "scfoundation_OS_scRNA_gene_index.19264.tsv"
    shutil.copy(data / "vocab" / genes, tmp_path / genes)
    model = ScfoundationModel.load(tmp_path)
    adata = anndata.AnnData(
        sp.csr_matrix(golden["counts"]), var=pd.DataFrame(index=golden["gene_names"])
    )
    is_token = ~golden["padding_mask"]
    tokens = model.tokenizer.encode(adata)
    assert np.array_equal(tokens.lengths, is_token.sum(1))
    assert np.array_equal(tokens.ids, golden["position_ids"][is_token])
    assert np.abs(tokens.values - golden["values"][is_token]).max() < TOLERANCE
    with torch.no_grad():
        states = model.network(TokenBatch.from_tokens(tokens)).numpy()
    assert np.abs(states - golden["encoder_output"][is_token]).max() < TOLERANCE
    found = model.embed(adata).values
    # The reference pooled padded places too; only its longest cell has none.
    assert np.abs(found[0] - golden["cell_embedding"][0]).max() < TOLERANCE
    for i in range(3):
        own = golden["encoder_output"][i][is_token[i]]
        assert np.abs(found[i] - retelling.pooled(own)).max() < TOLERANCE
    deep = ScfoundationModel.load(tmp_path, part="rde").enhance_depth(adata[:1])
    assert np.abs(deep.X - golden["decoder_output_cell0"][:, :19264]).max() < TOLERANCE
