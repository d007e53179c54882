"""Blocks against torch's own modules, brute force, and their padded form."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.block import TransformerBlock, first_states
from cellweave_nn.layers.favor import FavorAttention
from cellweave_nn.layers.feedforward import gelu
from cellweave_nn.layers.flow import FlowAttention
from cellweave_nn.layers.generative import GenerativeAttention, generative_attention
from cellweave_nn.layers.kernels import FullAttention
from cellweave_nn.layers.layout import packed_layout, padded_layout
from cellweave_nn.layers.mamba import BidirectionalMamba, Mamba2, chunked_scan
from cellweave_nn.layers.masked_linear import MaskedLinear
from cellweave_nn.layers.ragged import cell_max, cell_mean, pad, prepend, unpad
from cellweave_nn.layers.tags import Tags

LENGTHS = (3, 9, 1, 9, 8, 4)
CLOSE = {"rtol": 0, "atol": 2e-6}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def offsets_of(lengths):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])


def both_forms(module, lengths, width, *, tags=None):
    x = torch.randn(sum(lengths), width, generator=generator())
    tags = tags or Tags()
    padded_tags = Tags(
        known=None if tags.known is None else pad(tags.known, lengths),
        places=None if tags.places is None else pad(tags.places, lengths),
    )
    packed = module(x, packed_layout(offsets_of(lengths), lengths), tags)
    padded = module(pad(x, lengths), padded_layout(lengths), padded_tags)
    return packed, unpad(padded, lengths)


@pytest.mark.parametrize("lengths", [LENGTHS, (5, 5, 5), (7,)])
@pytest.mark.parametrize("kernel", ["full", "causal", "generative", "favor", "flow", "mamba"])
def test_packed_and_padded_forms_agree(kernel, lengths):
    torch.manual_seed(0)
    kernels = {
        "full": FullAttention(),
        "causal": FullAttention(causal=True),
        "generative": GenerativeAttention(),
        "favor": FavorAttention(8),
        "flow": FlowAttention(),
    }
    if kernel == "mamba":
        module = BidirectionalMamba(16, state=8, head_width=8, chunk=4)
    else:
        module = TransformerBlock.simple(16, 2, 32, kernel=kernels[kernel])
    known = torch.rand(sum(lengths), generator=generator(1)) < 0.6
    known[offsets_of(lengths)[:-1]] = True
    packed, padded = both_forms(module, lengths, 16, tags=Tags(known=known))
    torch.testing.assert_close(packed, padded, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_block_equals_torch_encoder_layer(norm_first, activation):
    torch.manual_seed(0)
    theirs = nn.TransformerEncoderLayer(
        16, 4, 24, 0.0, activation, norm_first=norm_first, batch_first=True
    )
    ours = TransformerBlock.simple(16, 4, 24, activation=activation, norm_first=norm_first)
    names = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj": "attention.out",
        "linear1": "feedforward.up",
        "linear2": "feedforward.down",
    }
    state = {}
    for key, value in theirs.state_dict().items():
        old = next((o for o in names if key.startswith(o)), "")
        state[names.get(old, "") + key.removeprefix(old)] = value
    ours.load_state_dict(state)
    x = torch.randn(2, 6, 16)
    is_token = torch.arange(6) < torch.tensor([[6], [4]])
    expected = theirs(x, src_key_padding_mask=~is_token)
    found = ours(x, padded_layout((6, 4)))
    torch.testing.assert_close(found[is_token], expected[is_token], atol=1e-6, rtol=1e-5)


def test_generative_attention_is_the_masked_form_and_so_is_its_gradient():
    g = generator()
    q, k, v = (torch.randn(3, 7, 2, 8, generator=g, requires_grad=True) for _ in range(3))
    known = torch.rand(3, 7, generator=g) < 0.5
    known[2] = False  # a cell that knows nothing: every token sees itself alone
    allowed = torch.eye(7, dtype=torch.bool) | known[:, None, :]
    allowed = torch.where(known[:, :, None], known[:, None, :], allowed)
    heads = (t.transpose(1, 2) for t in (q, k, v))
    expected = F.scaled_dot_product_attention(*heads, attn_mask=allowed[:, None]).transpose(1, 2)
    found = generative_attention(q, k, v, known)
    assert (expected - found).abs().max() < 1e-6
    weight = torch.randn(expected.shape, generator=g)
    theirs = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    ours = torch.autograd.grad((found * weight).sum(), (q, k, v))
    for a, b in zip(theirs, ours, strict=True):
        assert (a - b).abs().max() < 2e-6


def test_generative_attention_leaves_unknown_rows_unprojected_when_asked():
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, kernel=GenerativeAttention(), project_unknown=False)
    x = torch.randn(1, 4, 8)
    known = torch.tensor([[True, True, False, False]])
    found = attention(x, padded_layout((4,)), Tags(known=known))
    q, k, v = attention.project(x)
    mixed = generative_attention(q, k, v, known).flatten(-2)
    torch.testing.assert_close(found[0, 2:], mixed[0, 2:])
    torch.testing.assert_close(found[0, :2], attention.out(mixed)[0, :2])


def test_favor_approaches_softmax_attention():
    torch.manual_seed(0)
    q, k, v = (0.5 * torch.randn(2, 12, 1, 8) for _ in range(3))
    exact = FullAttention()(q, k, v, padded_layout((12, 12)), Tags())
    error = {}
    for m in (16, 4096):
        kernel = FavorAttention(8, n_features=m, eps=0.0)
        error[m] = (kernel(q, k, v, padded_layout((12, 12)), Tags()) - exact).abs().mean()
    assert error[4096] < 0.02
    assert error[4096] < error[16] / 3


@pytest.mark.parametrize("key_max", ["cell", "batch"])
def test_favor_head_by_head_is_favor_of_all_heads(key_max):
    torch.manual_seed(0)
    kernel = FavorAttention(8, key_max=key_max)
    q, k, v = torch.randn(3, 2, 12, 3, 8) * torch.tensor([0.5, 1, 3])[:, None]  # maxima apart
    layout = padded_layout((12, 7))
    by_head = kernel(q, k, v, layout, Tags())
    at_once = kernel(q.requires_grad_(), k, v, layout, Tags())
    kept = layout.is_token
    torch.testing.assert_close(by_head[kept], at_once.detach()[kept], atol=1e-6, rtol=1e-5)


def test_flow_attention_by_hand():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 5, 4)
    found = FlowAttention()(*(t[None, :, None] for t in (q, k, v)), padded_layout((5,)), Tags())
    q, k, eps = torch.sigmoid(q), torch.sigmoid(k), 1e-6
    i = torch.stack([1 / ((a + eps) @ (k.sum(0) + eps)) for a in q])
    o = torch.stack([1 / ((b + eps) @ (q.sum(0) + eps)) for b in k])
    i_hat = torch.stack([(a + eps) @ ((k * o[:, None]).sum(0) + eps) for a in q])
    o_hat = torch.stack([(b + eps) @ ((q * i[:, None]).sum(0) + eps) for b in k]).clamp(-1, 1)
    memory = sum(torch.outer(k[j], v[j] * o_hat.softmax(0)[j] * 5) for j in range(5))
    expected = torch.stack([torch.sigmoid(i_hat[n]) * (q[n] * i[n]) @ memory for n in range(5)])
    torch.testing.assert_close(found[0, :, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_chunked_scan_is_the_recurrence(chunk):
    g = generator()
    x = torch.randn(2, 11, 4, 3, generator=g)
    decay = -torch.rand(2, 11, 4, generator=g)
    b, c = torch.randn(2, 2, 11, 2, 5, generator=g)
    state, steps = torch.zeros(2, 4, 5, 3), []
    for t in range(11):
        b_t, c_t = (m[:, t].repeat_interleave(2, dim=1) for m in (b, c))
        state = state * decay[:, t].exp()[..., None, None] + b_t[..., None] * x[:, t, :, None]
        steps.append((c_t[..., None] * state).sum(-2))
    found = chunked_scan(x, decay, b, c, chunk=chunk)
    torch.testing.assert_close(found, torch.stack(steps, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("at_once", [1, 8, 20])
def test_mamba_reads_long_cells_in_pieces_with_the_same_numbers(monkeypatch, at_once):
    torch.manual_seed(0)
    module = Mamba2(16, state=8, head_width=8, groups=2, chunk=4).double()
    x = torch.randn(3, 37, 16, dtype=torch.float64, generator=generator())

    def outputs():
        seen = x.clone().requires_grad_()
        y = module(seen)
        inputs = (seen, *module.parameters())
        return y, *torch.autograd.grad((y * torch.arange(37)[:, None]).sum(), inputs)

    whole = outputs()
    monkeypatch.setattr("cellweave_nn.layers.mamba._TOKENS_AT_ONCE", at_once)
    for found, expected in zip(outputs(), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def test_mamba_is_causal_and_its_bidirectional_form_is_not():
    torch.manual_seed(0)
    x = torch.randn(1, 10, 16)
    changed = x.clone()
    changed[0, 7] += 1
    one = Mamba2(16, state=8, head_width=8, chunk=4)
    assert torch.equal(one(x)[0, :7], one(changed)[0, :7])
    both = BidirectionalMamba(16, state=8, head_width=8, chunk=4)
    layout = padded_layout((10,))
    assert not torch.allclose(both(x, layout)[0, 2], both(changed, layout)[0, 2], atol=1e-7)


@pytest.mark.parametrize("fuse", ["mean", "sum", "concat", "gate"])
def test_bidirectional_mamba_reads_a_palindrome_the_same_from_both_ends(fuse):
    torch.manual_seed(0)
    module = BidirectionalMamba(8, fuse=fuse, state=4, head_width=4, chunk=4)
    half = torch.randn(1, 4, 8)
    out = module(torch.cat([half, half.flip(1)], 1), padded_layout((8,)))
    if fuse in ("mean", "sum"):
        torch.testing.assert_close(out, out.flip(1), atol=1e-6, rtol=1e-5)
    assert out.shape == (1, 8, 8)


def test_aligned_masked_linear_keeps_pathways_apart_and_upstream_does_not():
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    values = torch.randn(1, 4)
    moved = values.clone()
    moved[0, 2] += 1  # a gene of pathway 1 alone
    aligned = MaskedLinear(mask, 2)
    difference = (aligned(values) - aligned(moved)).abs().amax(-1)[0] > 0
    assert difference.tolist() == [False, True, False]
    upstream = MaskedLinear(mask, 2, layout="upstream")
    difference = (upstream(values) - upstream(moved)).abs().amax(-1)[0] > 0
    assert difference.tolist() != [False, True, False]
    flat = F.linear(values, upstream.weight * mask.repeat_interleave(2, 0), upstream.bias)
    assert upstream(values)[0, 1, 1] == flat[0, 1 * 3 + 1]


def test_ragged_moves():
    lengths = (2, 3, 1)
    x = torch.arange(6.0)[:, None]
    assert pad(x, lengths, value=-1)[..., 0].tolist() == [[0, 1, -1], [2, 3, 4], [5, -1, -1]]
    assert torch.equal(unpad(pad(x, lengths), lengths), x)
    cls = torch.tensor([[10.0], [20.0], [30.0]])
    out = prepend(x, offsets_of(lengths), cls)[:, 0]
    assert out.tolist() == [10, 0, 1, 20, 2, 3, 4, 30, 5]
    cell = torch.tensor([0, 0, 1, 1, 1, 2])
    assert cell_mean(x, cell, 4)[:, 0].tolist() == [0.5, 3, 5, 0]
    assert cell_max(-x, cell, 4)[:, 0].tolist() == [0, -2, -5, 0]


@pytest.mark.parametrize("lengths", [LENGTHS, (5, 5, 5), (7,)])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("kernel", ["full", "causal"])
def test_the_first_rows_alone_are_those_of_the_whole(lengths, norm_first, kernel):
    torch.manual_seed(0)
    blocks = [
        TransformerBlock.simple(
            16, 4, 32, norm_first=norm_first, kernel=FullAttention(causal=kernel == "causal")
        ).eval()
        for _ in range(3)
    ]
    x = torch.randn(sum(lengths), 16, generator=generator())
    packed, padded = packed_layout(offsets_of(lengths), lengths), padded_layout(lengths)
    for n in range(4):
        whole = x
        for block in blocks[:n]:
            whole = block(whole, packed)
        expected = whole[offsets_of(lengths)[:-1]]
        torch.testing.assert_close(first_states(blocks[:n], x, packed), expected, **CLOSE)
        found = first_states(blocks[:n], pad(x, lengths, value=3.0), padded)
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("layout", ["aligned", "upstream"])
@pytest.mark.parametrize("bias", [True, False])
def test_open_weights_alone_give_what_the_masked_matrix_gives(layout, bias):
    mask = torch.rand(6, 40, generator=generator()) < 0.2
    mask[-1], mask[2] = True, False
    layer = MaskedLinear(mask, 5, layout=layout, bias=bias)
    if bias:
        torch.nn.init.normal_(layer.bias)
    values = torch.randn(7, 40, generator=generator(1))
    expected = layer(values).detach()
    with torch.no_grad():
        torch.testing.assert_close(layer(values), expected, **CLOSE)


_PLAIN_CONVOLUTION = (
    "torch.nn.Conv1d(16, 16, 4, groups=16)(torch.randn(2, 16, 30)).sum().backward()"
)
_MAMBA = """
from cellweave_nn.layers.mamba import Mamba2
Mamba2(16, state=4, head_width=8)(torch.randn(2, 30, 16)).sum().backward()
"""
_GELU = """
from cellweave_nn.layers.feedforward import gelu
{}(torch.randn(30, 16, requires_grad=True)).sum().backward()
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is without oneDNN here")
@pytest.mark.parametrize(
    ("code", "kept"),
    [
        (_GELU.format("gelu"), False),
        (_GELU.format("torch.nn.functional.gelu"), True),
        (_MAMBA, False),
        (_PLAIN_CONVOLUTION, True),
    ],
    ids=["gelu", "plain gelu", "mamba", "plain convolution"],
)
def test_no_kernel_is_left_behind_for_every_shape(code, kept):
    told = subprocess.run(
        [sys.executable, "-c", f"import torch\n{code}"], check=True, capture_output=True, text=True,
        env=os.environ | {"ONEDNN_VERBOSE": "1"},
    ).stdout  # fmt: skip
    assert ("primitive,exec" in told) == kept


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("shape", [(7,), (5, 4), (1, 4), (2, 3, 6)])
def test_gelu_is_that_of_torch(shape, approximate):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = gelu(x, approximate=approximate), F.gelu(x, approximate=approximate)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn(shape, dtype=torch.float64)
    pairs = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*pairs)
