"""Each loss term against its plain form, and what each must not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellweave_scmodal.losses import (
    discriminator_loss,
    geometry_loss,
    mnn_loss,
    mutual_neighbours,
)
from cellweave_scmodal.model import Networks
from cellweave_scmodal.training import Schedule, Weights, _Optimisers, _update_discriminators


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_geometry_equals_the_broadcast_form():
    x, z = random(30, 7), random(30, 4, seed=1)
    kernels = [torch.exp(-((v[:, None] - v[None]) ** 2).mean(-1).double() / 2) for v in (x, z)]
    others = [[np.delete(row, i) for i, row in enumerate(k.numpy())] for k in kernels]
    plain = -np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*others, strict=True)])
    assert float(geometry_loss(x, z)) == pytest.approx(plain, abs=1e-6)


def test_geometry_tells_a_kept_shape_from_a_lost_one():
    x = random(200, 6)
    kept = x @ torch.linalg.qr(random(6, 6, seed=1))[0]
    assert float(geometry_loss(x, kept)) < -0.99
    assert abs(float(geometry_loss(x, random(200, 6, seed=2)))) < 0.1


def test_mutual_neighbours_equal_brute_force():
    a, b, k = random(40, 5).numpy(), random(55, 5, seed=1).numpy(), 6
    angle = (a @ b.T) / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    expected = np.zeros((40, 55))
    for i in range(40):
        for j in range(55):
            nearest_of_i = np.argsort(-angle[i])[:k]
            nearest_of_j = np.argsort(-angle[:, j])[:k]
            expected[i, j] = j in nearest_of_i and i in nearest_of_j
    found = mutual_neighbours(torch.from_numpy(a), torch.from_numpy(b), k)
    assert np.array_equal(found.numpy(), expected)
    assert expected.sum() > 0


def test_neighbour_loss_equals_the_plain_sum_and_is_zero_without_pairs():
    z, y = random(8, 3), random(9, 3, seed=1)
    mutual = (random(8, 9, seed=2) > 0.5).float()
    pairs = [(i, j) for i in range(8) for j in range(9) if mutual[i, j]]
    plain = sum(float(((z[i] - y[j]) ** 2).mean()) for i, j in pairs) / len(pairs)
    assert float(mnn_loss(z, y, mutual)) == pytest.approx(plain, rel=1e-5)
    assert float(mnn_loss(z, y, torch.zeros(8, 9))) == 0.0


def test_discriminator_loss_by_hand():
    by_hand = np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))
    found = discriminator_loss(torch.tensor([2.0]), torch.tensor([-1.0]))
    assert float(found) == pytest.approx(by_hand, rel=1e-6)


def networks() -> Networks:
    return Networks(
        widths={"a": 6, "b": 5},
        pairs=[("a", "b")],
        n_latent=3,
        n_hidden=8,
        n_discriminator=8,
        generator=torch.Generator().manual_seed(0),
    )


def test_discriminator_update_leaves_encoders_untouched():
    made = networks()
    schedule = Schedule(
        n_steps=5,
        batch_size=10,
        learning_rate=0.01,
        weight_decay=0.0,
        discriminator_steps=3,
        n_neighbors=3,
        weights=Weights(),
    )
    x = {"a": random(10, 6), "b": random(10, 5, seed=1)}
    z = {n: made.encode(n, v) for n, v in x.items()}
    before = [p.clone() for p in made.generator_parameters()]
    judged = [p.clone() for p in made.discriminators.parameters()]
    _update_discriminators(made, z, [("a", "b")], schedule, _Optimisers(made, schedule))
    assert all(p.grad is None for p in made.generator_parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, made.generator_parameters(), strict=True))
    moved = zip(judged, made.discriminators.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)
