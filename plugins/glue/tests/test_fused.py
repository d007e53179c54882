"""The compiled loops against the plain forms and PyTorch's own optimiser."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.nn import functional

from cellweave_glue import fused, kernels, likelihoods
from cellweave_glue.edges import EdgeBatch
from cellweave_glue.model import GraphEncoder
from cellweave_glue.objective import edge_loss
from cellweave_glue.optimizing import RmsProp
from cellweave_glue.sparse import SparseRows

_CLOSE = {"rtol": 2e-4, "atol": 2e-7}


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator)


def _counts(rng, n_cells=40, n_features=5000, most=6):
    values = rng.integers(1, most, (n_cells, n_features)) * (
        rng.random((n_cells, n_features)) < 0.1
    )
    return SparseRows.from_matrix(sp.csr_matrix(values), device="cpu")


def _gradients(loss, leaves):
    return torch.autograd.grad(loss, leaves)


def _plain_nb(u, v, *, scale, bias, log_theta, batch, log_library, counts):
    logits = scale[batch] * (u @ v.T) + bias[batch]
    x = counts.dense().to(logits.dtype)
    log_mean = torch.log_softmax(logits, 1) + log_library[:, None]
    return -likelihoods.nb_terms(x, log_mean, log_theta[batch]).mean()


@pytest.mark.parametrize("n_batches", [1, 3])
@pytest.mark.parametrize("most", [2, 6, 400])
def test_nb_value_and_gradients_equal_the_plain_form(rng, draw, n_batches, most):
    counts = _counts(rng, most=most).take(torch.tensor([3, 3, 9, 0, 39]))
    n_features = counts.shape[1]
    leaves = {
        "u": draw(5, 7),
        "v": draw(n_features, 7),
        "scale": draw(n_batches, n_features).abs(),
        "bias": draw(n_batches, n_features),
        "log_theta": 2 * draw(n_batches, n_features),
    }
    leaves = {name: value.requires_grad_() for name, value in leaves.items()}
    fixed = {"batch": torch.arange(5) % n_batches, "log_library": draw(5) + 6, "counts": counts}
    ours = fused.nb_loss(**leaves, **fixed)
    found = _gradients(ours, tuple(leaves.values()))
    double = {n: t.detach().double().requires_grad_() for n, t in leaves.items()}
    exact = _plain_nb(**double, **{**fixed, "log_library": fixed["log_library"].double()})
    assert float(ours) == pytest.approx(float(exact), rel=2e-6)
    for name, a, b in zip(leaves, found, _gradients(exact, tuple(double.values()))):
        largest = float(b.abs().max())
        assert torch.allclose(a.double(), b, rtol=2e-4, atol=2e-5 * largest), name


def test_nb_survives_extreme_logits(rng):
    counts = _counts(rng).take(torch.tensor([0, 1, 2]))
    v = torch.zeros(counts.shape[1], 2)
    v[0] = 80.0
    flat = torch.zeros(1, counts.shape[1])
    u = torch.ones(3, 2, requires_grad=True)
    loss = fused.nb_loss(
        u,
        v,
        scale=flat + 1,
        bias=flat,
        log_theta=flat,
        batch=torch.zeros(3, dtype=torch.long),
        log_library=torch.full((3,), 8.0),
        counts=counts,
    )
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(u.grad).all()


def test_counts_that_are_no_whole_numbers(rng, draw):
    source = SparseRows.from_matrix(sp.csr_matrix(rng.random((4, 300)) * 3), device="cpu")
    fixed = {
        "scale": torch.ones(1, 300),
        "bias": draw(1, 300),
        "log_theta": draw(1, 300),
        "batch": torch.zeros(4, dtype=torch.long),
        "log_library": torch.full((4,), 5.0),
        "counts": source.take(torch.arange(4)),
    }
    u, v = draw(4, 3), draw(300, 3)
    assert float(fused.nb_loss(u, v, **fixed)) == pytest.approx(
        float(_plain_nb(u, v, **fixed)), rel=1e-5
    )


def test_feature_posterior_equals_the_plain_form(draw):
    encoder = GraphEncoder(n_vertices=60, n_latent=9, generator=torch.Generator().manual_seed(1))
    hidden = (3 * draw(60, 9)).requires_grad_()
    noise, upstream = draw(60, 9), draw(60, 9)
    leaves = (hidden, encoder.mean.weight, encoder.spread.weight, encoder.mean.bias)
    weight = torch.cat([encoder.mean.weight, encoder.spread.weight])
    bias = torch.cat([encoder.mean.bias, encoder.spread.bias])
    sample, divergence = fused.sampled_posterior(hidden, weight, bias, noise, floor=1e-7)
    found = _gradients((sample * upstream).sum() + 0.3 * divergence, leaves)
    mean = encoder.mean(hidden)
    std = functional.softplus(encoder.spread(hidden)) + 1e-7
    assert torch.allclose(sample, mean + std * noise, rtol=1e-5, atol=1e-6)
    plain = 0.5 * (mean.square() + std.square() - 2 * std.log() - 1).sum()
    assert float(divergence) == pytest.approx(float(plain), rel=1e-5)
    expected = _gradients(((mean + std * noise) * upstream).sum() + 0.3 * plain, leaves)
    for a, b in zip(found, expected):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_negative", [0, 70])
def test_edge_loss_equals_the_plain_form(draw, rng, n_negative):
    n = 20 + n_negative
    ends = (torch.as_tensor(rng.integers(0, 30, n)) for _ in range(2))
    sources, targets = ends
    signs = torch.as_tensor(rng.choice([-1.0, 1.0], n), dtype=torch.float32)
    edges = EdgeBatch(sources=sources, targets=targets, signs=signs, n_positive=20)
    v = draw(30, 6).requires_grad_()
    double = v.detach().double().requires_grad_()  # the plain form serves double precision
    assert fused.applies(v)
    assert not fused.applies(double)
    ours, plain = edge_loss(v, edges), edge_loss(double, edges)
    assert float(ours) == pytest.approx(float(plain), rel=1e-6)
    (a,), (b,) = _gradients(ours, (v,)), _gradients(plain, (double,))
    assert torch.allclose(a.double(), b, **_CLOSE)


def test_series_keep_single_precision():
    x = np.concatenate([np.logspace(-8, 12, 4001), [0.0]]).astype(np.float32)
    assert kernels.log1p_of(x) == pytest.approx(np.log1p(x.astype(float)), rel=4e-7)
    low = np.linspace(-80, 0, 4001).astype(np.float32)
    assert kernels.exp_of(low) == pytest.approx(np.exp(low.astype(float)), rel=4e-7)


@pytest.mark.parametrize("largest", [math.inf, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rmsprop_is_that_of_pytorch(draw, largest, dtype):
    mine = [draw(4, 5).to(dtype).requires_grad_(), draw(7).to(dtype).requires_grad_()]
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    ours, reference = RmsProp(mine, largest=largest), torch.optim.RMSprop(theirs, lr=0.1)
    for _ in range(5):
        for parameters in (mine, theirs):
            for p in parameters:
                p.grad = None
            sum((p**2).sum() + p.sin().sum() for p in parameters).backward()
        if math.isfinite(largest):
            torch.nn.utils.clip_grad_norm_(theirs, largest)
        ours.step(0.1)
        reference.step()
    for a, b in zip(mine, theirs):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    again = RmsProp(mine)
    again.restore(ours.arrays())
    assert all(
        np.array_equal(a, b) for a, b in zip(again.arrays().values(), ours.arrays().values())
    )
