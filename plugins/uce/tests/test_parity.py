"""The same numbers as torch's own encoder and heads made of the same tensors."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional as F

import cellweave
from cellweave.errors import ConfigError, DataError
from cellweave_nn.batch import TokenBatch
from cellweave_uce import UceModel

from .conftest import (
    BINARY,
    CHROMOSOMES,
    DEPTH,
    HEADS,
    HIDDEN,
    HUMAN,
    MIDDLE,
    MOUSE,
    N_ROWS,
    OFFSETS,
    VECTOR,
    WIDTH,
    cells,
    coordinates,
    loaded,
    publish,
    random_state,
)

TOLERANCE = 1e-5
FIRST_CHROMOSOME = N_ROWS - 5
NAMES = sorted(f"{s}_{c}" for s, names in CHROMOSOMES.items() for c in names)


def filled(module, state, stem):
    module.load_state_dict(
        {k.removeprefix(stem): v for k, v in state.items() if k.startswith(stem)}
    )
    return module.eval()


def two():
    return nn.Sequential(nn.Linear(VECTOR, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH))


def funnel(sizes, out):
    blocks = [
        nn.Sequential(nn.Linear(a, b), nn.LayerNorm(b), nn.GELU(), nn.Dropout(0.05))
        for a, b in pairwise(sizes)
    ]
    return nn.Sequential(*blocks, nn.Linear(sizes[-1], out))


class Reference:
    """The network put together of torch's own modules, from the facts."""

    def __init__(self, state, *, places=True):
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, HIDDEN, 0.05)
        encoder = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
        self.encoder = filled(encoder, state, "transformer_encoder.")
        self.rows, self.genes = (
            filled(two(), state, s) for s in ("encoder.", "gene_embedding_layer.")
        )
        self.decoder = filled(funnel((WIDTH, MIDDLE, WIDTH, WIDTH), WIDTH), state, "decoder.")
        self.binary = filled(funnel((2 * WIDTH, *BINARY), 1), state, "binary_decoder.")
        self.table, self.waves = state["pe_embedding.weight"], state["pos_encoder.pe"]
        self.places = places

    @torch.no_grad()
    def run(self, ids, mask):
        """Decoder's output and the cells' vectors, for ids and mask of (cells, length)."""
        x = self.rows(F.normalize(self.table[ids.T], dim=2)) * WIDTH**0.5
        x = x + self.waves[: len(x)] if self.places else x
        out = self.decoder(self.encoder(x, src_key_padding_mask=1 - mask))
        return out, F.normalize(out[0], dim=1)


def published_rows(tokens, genes, species):
    """Rows of the published table for our tokens, found by their names alone."""
    index = {g.upper(): i for i, g in enumerate(genes)}
    special = {"<pad>": 0, "<open>": 1, "<end>": 2, "<cls>": 3}
    table = []
    for name in tokens.tokenizer.vocabulary.names:
        if name in special:
            table.append(special[name])
        elif name.startswith("<chromosome:"):
            code = int(name[12:-1])
            assert NAMES[code].startswith(species)
            table.append(FIRST_CHROMOSOME + code)
        else:
            table.append(OFFSETS[species] + index[name])
    return np.array(table)


@pytest.mark.parametrize("species", ["human", "mouse"])
def test_sentences(species, folder):
    genes = HUMAN if species == "human" else MOUSE
    model = UceModel.load(folder, species=species)
    data = cells(6, genes=genes)
    tokens = model.tokenizer.encode(data)
    rows = published_rows(model, genes, species)[tokens.ids]
    table = coordinates().query("species == @species").set_index("gene_symbol")
    names = [g.upper() for g in genes]
    orders = set()
    for i, (start, stop) in enumerate(pairwise(tokens.offsets)):
        sentence = rows[start:stop]
        assert sentence[0] == 3
        opens = np.flatnonzero(sentence >= FIRST_CHROMOSOME)
        ends = np.flatnonzero(sentence == 2)
        assert len(sentence) == 1 + 1024 + 2 * len(opens)
        assert np.array_equal(opens[1:], ends[:-1] + 1)
        orders.add(tuple(sentence[opens]))
        for first, last in zip(opens, ends):
            inside = [names[r - OFFSETS[species]] for r in sentence[first + 1 : last]]
            chromosome = NAMES[sentence[first] - FIRST_CHROMOSOME]
            assert set(species + "_" + table.chromosome[inside]) == {chromosome}
            assert (np.diff(table.start[inside]) >= 0).all()
            assert all(data.X[i, names.index(g)] > 0 for g in inside)
    assert len(orders) > 1  # chromosomes come in a random order


def test_genes_are_drawn_by_log_counts(folder):
    model = UceModel.load(folder)
    data = cells(400)
    data.X = sp.vstack([data.X[1]] * 400, format="csr")
    tokens = model.tokenizer.encode(data)
    weights = np.log1p(data.X[0].toarray().ravel())
    table = {n: i for i, n in enumerate(model.tokenizer.vocabulary.names)}
    drawn = np.bincount(tokens.ids, minlength=len(table))[[table[g.upper()] for g in HUMAN]]
    assert np.abs(drawn / drawn.sum() - weights / weights.sum()).max() < 0.005


@pytest.mark.parametrize("places", [True, False])
def test_equals_torch_encoder_without_padding(places, folder):
    """One cell a batch, where the official padding does nothing."""
    companions = {} if places else {"places": "none"}
    model = loaded(folder, **companions)
    data = cells(4)
    tokens = model.tokenizer.encode(data)
    rows = published_rows(model, HUMAN, "human")
    reference = Reference(random_state(), places=places)
    expected, means = [], []
    for i in range(4):
        ids = torch.from_numpy(rows[tokens.take([i]).ids])[None]
        out, cell = reference.run(ids, torch.ones(ids.shape))
        expected.append(cell[0].numpy())
        means.append(F.normalize(out[:, 0].mean(0), dim=0).numpy())
    assert np.abs(model.embed(data).values - expected).max() < TOLERANCE
    assert np.abs(model.embed(data, pooling="mean").values - means).max() < TOLERANCE
    alone = model.embed(data, batch_size=1, padding="upstream").values
    assert np.abs(alone - expected).max() < TOLERANCE


def test_equals_torch_encoder_with_the_official_padding(folder):
    """Padding is seen, with 1 added to its logits, and batches stand in input order."""
    model = loaded(folder)
    data = cells(8)
    tokens = model.tokenizer.encode(data)
    rows = published_rows(model, HUMAN, "human")
    reference = Reference(random_state())
    expected = []
    for batch in (range(5), range(5, 8)):
        ids, _, is_token = tokens.take(list(batch)).padded(pad_id=0)
        mask = torch.from_numpy(is_token).float()
        expected.append(reference.run(torch.from_numpy(rows[ids]), mask)[1].numpy())
    found = model.embed(data, batch_size=5, padding="upstream").values
    assert np.abs(found - np.concatenate(expected)).max() < TOLERANCE
    assert np.abs(found - model.embed(data).values)[0].max() > 1e-4  # the quirk matters


def test_genes_attention_and_expression(folder):
    model = loaded(folder)
    state, data = random_state(), cells(3)
    reference = Reference(state)
    found = model.gene_embeddings()
    rows = [OFFSETS["human"] + [g.upper() for g in HUMAN].index(n) for n in found.names]
    with torch.no_grad():
        genes = reference.genes(F.normalize(state["pe_embedding.weight"][rows], dim=1))
    assert np.abs(found.values - genes.numpy()).max() < TOLERANCE
    names = [str(n) for n in found.names[:4]]
    cell = torch.from_numpy(model.embed(data).values)
    with torch.no_grad():
        pairs = [torch.cat([cell, genes[i].expand(3, -1)], dim=1) for i in range(4)]
        expected = torch.cat([reference.binary(p) for p in pairs], dim=1).sigmoid().numpy()
    assert np.abs(model.expressed(data, names) - expected).max() < TOLERANCE
    with pytest.raises(ConfigError, match="knows no gene"):
        model.expressed(data, ["NONE"])
    for _, ids, weights in model.attention(data[:1].copy()):
        assert {w.shape for w in weights} == {(HEADS, len(ids), len(ids))}
        assert len(weights) == DEPTH
        assert all(np.allclose(w.sum(-1), 1, atol=1e-5) for w in weights)
    context = model.contextual_gene_embeddings(data)
    tokens = model.tokenizer.encode(data)
    with torch.no_grad():
        states = model.network(TokenBatch.from_tokens(tokens)).numpy()
    name = str(context.names[3])
    at = tokens.ids == model.tokenizer.vocabulary.index()[name]
    assert np.abs(context.values[3] - states[at].mean(0)).max() < TOLERANCE


def test_vectors_of_a_species_of_your_own(folder, tmp_path):
    state = random_state()
    other = torch.randn(state["pe_embedding.weight"].shape)
    torch.save(other, tmp_path / "all_tokens.torch")
    found = loaded(folder, tokens=tmp_path / "all_tokens.torch").embed(cells()).values
    changed = publish(tmp_path / "other", state | {"pe_embedding.weight": other})
    assert np.array_equal(found, loaded(changed).embed(cells()).values)


def test_untrained(tmp_path):
    data = cells(6)
    table = coordinates().query("species == 'human'")
    data.var["chrom"] = ["chr" + c for c in table.chromosome]
    data.var["chromStart"] = table.start.to_numpy()
    sizes = {"width": 16, "depth": 1, "heads": 2, "hidden": 16, "vector_width": 8, "n_draws": 40}
    model = UceModel.untrained(data, **sizes)
    found = model.embed(data).values
    assert np.array_equal(found, UceModel.untrained(data, **sizes).embed(data).values)
    model.save(tmp_path / "model")
    assert np.array_equal(cellweave.load(tmp_path / "model").embed(data).values, found)
    with pytest.raises(DataError, match="chrom"):
        UceModel.untrained(cells(6), **sizes)


def test_layers_by_name(folder):
    model = loaded(folder)
    data = cells(3)
    tokens = model.tokenizer.encode(data)
    with torch.no_grad():
        rows = model.network.embedded(TokenBatch.from_tokens(tokens)).numpy()
    found = model.embed(data, layer=-DEPTH, normalise=False).values
    assert np.abs(found - rows[tokens.offsets[:-1]]).max() < TOLERANCE
    for wrong in (
        {"layer": 1},
        {"pooling": "max"},
        {"padding": "zeros"},
        {"padding": "upstream", "layer": -1},
    ):
        with pytest.raises(ConfigError):
            model.embed(data, **wrong)


def test_symbols_in_any_case_and_column(folder):
    model = loaded(folder)
    data = cells(4)
    expected = model.embed(data).values
    data.var["gene_name"] = [g.lower() for g in HUMAN]
    data.var_names = [f"ENSG{i}" for i in range(30)]
    assert np.array_equal(model.embed(data).values, expected)
    data.var = pd.DataFrame(index=data.var_names)
    with pytest.raises(DataError, match="symbols of the species"):
        model.embed(data)
