"""Every encoder: packed equals padded, cells do not leak into each other, gradients flow."""

from __future__ import annotations

import pytest
import torch

from cellweave.errors import ConfigError, DataError
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.asymmetric import AsymmetricEncoder
from cellweave_nn.encoders.causal import causal_encoder
from cellweave_nn.encoders.generative import generative_encoder
from cellweave_nn.encoders.linear_attention import favor_encoder, flow_encoder
from cellweave_nn.encoders.multiomic import multiomic_encoder
from cellweave_nn.encoders.patch import PatchEncoder
from cellweave_nn.encoders.pathway import PathwayEncoder, attention_rollout
from cellweave_nn.encoders.spatial import SpatialEncoder
from cellweave_nn.encoders.statespace import StateSpaceEncoder
from cellweave_nn.encoders.transformer import TransformerEncoder

SMALL = {"n_ids": 23, "width": 16, "depth": 2}
PATHWAYS = {"first": [3, 4, 5], "second": [6, 7, 8, 9]}

ENCODERS = {
    "transformer": lambda: TransformerEncoder(**SMALL, heads=2, places="learned"),
    "rotary": lambda: TransformerEncoder(
        **SMALL, heads=2, places="rotary", activation="swiglu", norm="rms", bias=False
    ),
    "post-norm": lambda: TransformerEncoder(
        **SMALL, heads=2, norm_first=False, values="bins", pooling="cls", places="sinusoidal"
    ),
    "domains": lambda: TransformerEncoder(**SMALL, heads=2, n_domains=2, values="scale"),
    "generative": lambda: generative_encoder(**SMALL, heads=2),
    "causal": lambda: causal_encoder(**SMALL, heads=2),
    "favor": lambda: favor_encoder(**SMALL, heads=2),
    "flow": lambda: flow_encoder(**SMALL, heads=2),
    "multiomic": lambda: multiomic_encoder(**SMALL, heads=2, n_modalities=2),
    "asymmetric": lambda: AsymmetricEncoder(
        **SMALL, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2, n_bins=5
    ),
    "state space": lambda: StateSpaceEncoder(**SMALL, state=8, head_width=8, chunk=4),
    "pathway": lambda: PathwayEncoder(n_ids=23, pathways=PATHWAYS, width=16, depth=2, heads=2),
    "patch": lambda: PatchEncoder(**SMALL, heads=2, patch=4),
    "spatial": lambda: SpatialEncoder(**SMALL, heads=2),
}
MEETS_OTHER_CELLS = {"spatial"}


@pytest.fixture(params=sorted(ENCODERS))
def encoder(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = ENCODERS[request.param]().eval()
    made.label = request.param
    return made


@pytest.fixture
def seen(batch, encoder):
    if encoder.label != "generative":
        return batch
    known = torch.rand(batch.n_tokens, generator=torch.Generator().manual_seed(3)) < 0.6
    return batch.with_(known=known)


def test_shapes_and_gradients(encoder, seen):
    out = encoder(seen, keep_hidden=True)
    assert out.token_states.shape == (seen.n_tokens, encoder.token_width)
    assert out.cell_state.shape == (seen.n_cells, encoder.cell_width)
    assert all(len(h) == seen.n_tokens for h in out.hidden)
    (out.token_states.square().sum() + out.cell_state.square().sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)
    assert type(encoder)(**encoder.config).state_dict().keys() == encoder.state_dict().keys()


def test_packed_equals_padded(encoder, seen):
    packed, padded = encoder(seen), encoder(seen, padded=True)
    torch.testing.assert_close(packed.token_states, padded.token_states, atol=3e-6, rtol=1e-4)
    torch.testing.assert_close(packed.cell_state, padded.cell_state, atol=3e-6, rtol=1e-4)


def test_a_cell_is_the_same_alone_and_in_company(encoder, seen):
    if encoder.label in MEETS_OTHER_CELLS:
        pytest.skip("cells of one sample are meant to see each other")
    together = encoder(seen).cell_state
    for i in range(seen.n_cells):
        alone = encoder(seen.select([i])).cell_state[0]
        torch.testing.assert_close(alone, together[i], atol=3e-6, rtol=1e-4)


def test_spatial_cells_see_their_sample_and_no_other(batch):
    torch.manual_seed(0)
    encoder = SpatialEncoder(**SMALL, heads=2)
    before = encoder(batch).cell_state
    values = batch.values.clone()
    values[batch.offsets[0]] += 5  # a gene of cell 0, which is of sample 0
    moved = (encoder(batch.with_(values=values)).cell_state - before).abs().amax(1) > 1e-7
    assert moved.tolist() == (batch.context["sample"] == 0).tolist()
    place = dict(batch.context) | {"x": batch.context["x"].flip(0)}
    assert not torch.allclose(encoder(batch.with_(context=place)).cell_state, before, atol=1e-6)


def test_unknown_values_do_not_matter_to_a_generative_encoder(batch):
    encoder = generative_encoder(**SMALL, heads=2).eval()
    known = torch.arange(batch.n_tokens) % 2 == 0
    hidden = batch.with_(known=known)
    changed = hidden.with_(values=torch.where(known, batch.values, batch.values + 7))
    assert torch.equal(encoder(hidden).token_states, encoder(changed).token_states)


def test_asymmetric_encoder_reads_nothing_of_zeros_and_masked(batch):
    encoder = ENCODERS["asymmetric"]().eval()
    zeros = torch.arange(batch.n_tokens) % 3 == 0
    values = batch.values.masked_fill(zeros, 0.0)
    with_zeros = encoder(batch.with_(values=values)).cell_state
    without = encoder(batch.keep(~zeros)).cell_state
    torch.testing.assert_close(with_zeros, without)


def test_causal_encoder_does_not_look_ahead(batch):
    encoder = causal_encoder(**SMALL, heads=2).eval()
    ids = batch.ids.clone()
    last = batch.offsets[1:] - 1
    ids[last] = 3
    before, after = encoder(batch).token_states, encoder(batch.with_(ids=ids)).token_states
    earlier = torch.ones(batch.n_tokens, dtype=torch.bool)
    earlier[last] = False
    assert torch.equal(before[earlier], after[earlier])


def test_attention_weights_rebuild_the_attention(batch):
    encoder = TransformerEncoder(**SMALL, heads=2).eval()
    out = encoder(batch, keep_attention=True, keep_hidden=True)
    block = encoder.stack.blocks[0]
    rows = block.attention_input(out.hidden[0][: batch.offsets[1]])
    _, _, v = block.attention.project(rows)
    mixed = torch.einsum("hij,jhk->ihk", out.attention[0][0], v).flatten(-2)
    expected = out.hidden[0][: batch.offsets[1]] + block.attention.out(mixed)
    expected = expected + block.feedforward(block.norm2(expected))
    torch.testing.assert_close(out.hidden[1][: batch.offsets[1]], expected, atol=1e-5, rtol=1e-4)


def test_rollout_by_hand():
    half = torch.tensor([[[0.5, 0.5], [0.0, 1.0]]])
    rolled = attention_rollout(((half,), (half,)))[0]
    step = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
    torch.testing.assert_close(rolled, step @ step)


def test_rollout_finds_the_planted_pathway():
    torch.manual_seed(0)
    pathways = {f"p{i}": [3 + 4 * i + j for j in range(4)] for i in range(5)}
    encoder = PathwayEncoder(n_ids=23, pathways=pathways, width=16, depth=1, heads=2)
    labels = torch.arange(200) % 2
    values = torch.randn(200, 20)
    values[:, 8:12] += 1.5 * (2 * labels[:, None] - 1)  # the genes of p2
    big = TokenBatch(
        offsets=torch.arange(201) * 20,
        ids=(torch.arange(20) + 3).repeat(200),
        values=values.flatten(),
    )
    head = torch.nn.Linear(16, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(80):
        loss = torch.nn.functional.cross_entropy(head(encoder(big).cell_state), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert encoder.names[int(encoder.pathway_attention(big).mean(0).argmax())] == "p2"


def test_checkpointing_changes_no_number(batch):
    encoder = TransformerEncoder(**SMALL, heads=2)
    plain = encoder(batch).cell_state.sum()
    plain.backward()
    expected = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
    encoder.zero_grad()
    encoder.stack.checkpointing = True
    encoder(batch).cell_state.sum().backward()
    found = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_wrong_input_is_told(batch):
    encoder = TransformerEncoder(**SMALL, heads=2, values="continuous")
    with pytest.raises(DataError, match="reads values \\('continuous'\\) but the batch has none"):
        encoder(batch.with_(values=None))
    with pytest.raises(ConfigError, match="Width 16 does not divide by 3 heads"):
        TransformerEncoder(**SMALL, heads=3)
    with pytest.raises(ConfigError, match="no attention weights"):
        ENCODERS["state space"]()(batch, keep_attention=True)
    with pytest.raises(ConfigError, match="Pathway 'x' holds the ids \\[99\\]"):
        PathwayEncoder(n_ids=5, pathways={"x": [99]})
