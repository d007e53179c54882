"""The likelihoods against PyTorch's own distributions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import distributions as td

from cellweave_glue import likelihoods
from cellweave_glue.sparse import RowBatch, SparseRows


@pytest.fixture
def counts(rng) -> RowBatch:
    x = sp.csr_matrix(rng.poisson(0.4, (30, 200)) * rng.integers(1, 5, (30, 200)))
    source = SparseRows.from_matrix(x, device="cpu")
    taken = replace(source, values=source.values.double()).take(torch.tensor([4, 7, 7, 0, 29, 11]))
    assert np.array_equal(taken.dense().numpy(), x.toarray()[[4, 7, 7, 0, 29, 11]])
    return taken


def _parameters(counts, per_cell):
    torch_generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=torch_generator, dtype=torch.double)

    logits = draw(*counts.shape).requires_grad_()
    theta = draw(*counts.shape) if per_cell else draw(counts.shape[1])
    return logits, theta.requires_grad_(), draw(counts.shape[0]) + 4


def _reference(logits, log_theta, log_library):
    mean = logits.softmax(1) * log_library.exp()[:, None]
    theta = log_theta.exp().expand_as(mean)
    return td.NegativeBinomial(total_count=theta, logits=mean.log() - theta.log())


@pytest.mark.parametrize("per_cell", [False, True])
def test_nb_value_and_gradients_equal_torch(counts, per_cell):
    logits, theta, library = _parameters(counts, per_cell)
    ours = likelihoods.nb_loss(logits, theta, library, counts)
    theirs = -_reference(logits, theta, library).log_prob(counts.dense()).mean()
    assert torch.allclose(ours, theirs, rtol=1e-10)
    for a, b in zip(
        torch.autograd.grad(ours, (logits, theta)), torch.autograd.grad(theirs, (logits, theta))
    ):
        assert torch.allclose(a, b, rtol=1e-8, atol=1e-14)


def test_zinb_is_the_mixture_it_says(counts):
    logits, theta, library = _parameters(counts, per_cell=False)
    zero = torch.linspace(-2, 2, counts.shape[1], dtype=torch.double)
    nb = _reference(logits, theta, library).log_prob(counts.dense()).exp()
    chance = zero.sigmoid() * (counts.dense() == 0) + (1 - zero.sigmoid()) * nb
    ours = likelihoods.zinb_loss(logits, theta, library, zero, counts)
    assert torch.allclose(ours, -chance.log().mean())


def test_mixture_is_the_mixture_it_says(counts):
    logits, theta, library = _parameters(counts, per_cell=False)
    second = logits.detach() + 0.7
    share = torch.softmax(torch.stack([logits, second]), 0)
    parts = torch.stack(
        [_reference(z, theta, library).log_prob(counts.dense()).exp() for z in (logits, second)]
    )
    ours = likelihoods.mixture_loss(logits, second, theta, library, counts)
    assert torch.allclose(ours, -(share * parts).sum(0).log().mean())


def test_normal_and_bernoulli(counts):
    mean = torch.zeros(counts.shape, dtype=torch.double)
    scale = torch.nn.functional.softplus(torch.zeros((), dtype=torch.double)) + 1e-3
    expected = -td.Normal(mean, scale).log_prob(counts.dense()).mean()
    zero = torch.zeros(counts.shape[1], dtype=torch.double)
    assert torch.allclose(likelihoods.normal_loss(mean, zero, counts.dense()), expected)
    half = likelihoods.bernoulli_loss(mean, counts.dense())
    assert half == pytest.approx(np.log(2))
