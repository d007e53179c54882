"""Schedules, noise, balancing, resuming, and what goes wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellweave.errors import NumericalError, StateMismatchError
from cellweave_glue.balancing import balancing_weights, cluster
from cellweave_glue.schedule import Annealing, Schedule, schedule_for
from cellweave_glue.training import burn_in_noise


def test_schedule_of_the_paper_for_snare_seq():
    schedule = schedule_for(18_380, batch_size=128, learning_rate=2e-3)
    assert (schedule.max_epochs, schedule.patience) == (186, 16)
    assert schedule.align_burnin == 31
    many = schedule_for(10_000_000, batch_size=128, learning_rate=2e-3)
    assert (many.max_epochs, many.align_burnin, many.patience) == (48, 8, 4)


def test_burn_in_noise_fades_or_stays():
    assert [burn_in_noise(e, burnin=4, aligned=True) for e in range(6)] == [
        1,
        0.75,
        0.5,
        0.25,
        0,
        0,
    ]
    assert burn_in_noise(99, burnin=4, aligned=False) == 1


def _annealing(max_epochs=1000):
    return Annealing(
        schedule=Schedule(steps_per_epoch=1, max_epochs=max_epochs, align_burnin=3, patience=6)
    )


def test_rate_falls_when_the_loss_stalls_and_training_ends_there():
    annealing = _annealing()
    seen = []
    for epoch in range(40):
        if annealing.should_stop(epoch):
            break
        seen.append(annealing.rate(epoch))
        annealing.observe(1.0 if epoch > 3 else 5.0 - epoch, epoch, burning_in=False)
    assert seen[:11] == [1] * 11  # best at 4, six epochs without a better one
    assert seen[11:] == sorted(seen[11:], reverse=True)
    assert seen[-1] < 0.05
    assert len(seen) == 22


def test_nothing_stalls_during_burn_in_and_an_annealing_can_be_kept():
    annealing = _annealing()
    for epoch in range(20):
        annealing.observe(1.0, epoch, burning_in=True)
    assert annealing.end == 1000
    annealing.observe(1.0, 20, burning_in=False)
    again = _annealing()
    again.restore(annealing.to_dict())
    assert again == annealing
    assert again.stalled == 1


@pytest.mark.parametrize("budget", [1, 2, 3, 15, 1000])
def test_rate_is_annealed_at_the_end_of_the_budget(budget):
    annealing = _annealing(budget)
    rates = [annealing.rate(epoch) for epoch in range(annealing.end)]
    assert budget - 1 <= len(rates) <= budget
    assert rates[0] == 1
    assert rates[-1] < 0.011 or budget < 100


def _two_types(rng, shares):
    centres = np.array([[5.0, 0, 0, 0], [0, 5.0, 0, 0], [0, 0, 5.0, 0]])
    types = np.repeat(np.arange(3), shares)
    return (centres[types] + rng.normal(size=(len(types), 4)) * 0.3).astype(np.float32), types


def test_balancing_evens_out_shares_and_drops_a_type_of_one_modality_only(rng):
    a, types_a = _two_types(rng, (200, 50, 0))
    b, types_b = _two_types(rng, (60, 120, 150))
    weights = balancing_weights({"rna": a, "atac": b}, seed=0)
    assert weights["rna"].mean() == pytest.approx(1, rel=1e-5)
    assert weights["atac"].mean() == pytest.approx(1, rel=1e-5)
    mass = [weights["rna"][types_a == t].sum() for t in (0, 1)]
    assert mass[0] / mass[1] < 2.5  # 4 before
    assert weights["atac"][types_b == 2].max() < 0.05


def test_clusters_come_from_their_own_seed(rng):
    import random

    points, types = _two_types(rng, (60, 60, 60))
    state = random.getstate()
    codes = cluster(points, seed=1)
    assert random.getstate() == state
    assert np.array_equal(codes, cluster(points, seed=1))
    for t in range(3):
        assert all(len(set(types[codes == c])) == 1 for c in set(codes[types == t]))


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("stage", ["pretraining", "alignment"])
def test_killed_fit_resumes_to_the_same_bytes(two, two_links, fitted, quick, tmp_path, stage):
    seen = []

    def kill(report):
        if report.stage == stage and report.step == 2:
            raise _KilledError

    folder = str(tmp_path / "running")
    with pytest.raises(_KilledError):
        quick(checkpoint=folder).fit(two, two_links, progress=kill)
    resumed = quick(checkpoint=folder).fit(two, two_links, progress=seen.append)
    assert (seen[0].stage, seen[0].step) == (stage, 3)
    whole, again = fitted.result(), resumed.result()
    for m in whole.embeddings:
        assert whole.embeddings[m].tobytes() == again.embeddings[m].tobytes()
        assert whole.feature_embeddings[m].tobytes() == again.feature_embeddings[m].tobytes()
    for name in whole.history:
        assert whole.history[name].tobytes() == again.history[name].tobytes()


def test_checkpoint_of_another_fit_is_refused(two, two_links, quick, tmp_path):
    folder = str(tmp_path / "running")
    quick(checkpoint=folder).fit(two, two_links)
    with pytest.raises(StateMismatchError, match="is of another fit"):
        quick(checkpoint=folder, seed=1).fit(two, two_links)


def test_finished_checkpoint_gives_the_result_at_once(two, two_links, fitted, quick, tmp_path):
    folder = str(tmp_path / "running")
    quick(checkpoint=folder).fit(two, two_links)
    reports = []
    again = quick(checkpoint=folder).fit(two, two_links, progress=reports.append).result()
    assert not reports
    assert again.embeddings["rna"].tobytes() == fitted.result().embeddings["rna"].tobytes()


def test_nan_is_told_with_its_place(two, two_links, quick, monkeypatch):
    from cellweave_glue.model import DataDecoder

    loss = DataDecoder.loss

    def broken(self, u, v, *rest):
        value = loss(self, u, v, *rest)
        return value * float("nan") if v.shape[0] == self.bias.shape[1] == _n_peaks(two) else value

    monkeypatch.setattr(DataDecoder, "loss", broken)
    with pytest.raises(NumericalError) as caught:
        quick().fit(two, two_links)
    text = str(caught.value)
    assert "pretraining, epoch 1" in text
    assert "'atac_nll'" in text
    assert "learning_rate below 0.002" in text


def _n_peaks(mdata):
    from cellweave.datasets import true_links
    from cellweave_glue.inputs import feature_masks

    return int(feature_masks(mdata, true_links(mdata))["atac"].sum())


def test_global_generators_are_left_alone(two, two_links, quick):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    quick().fit(two, two_links)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_both_halves_of_a_pair_are_held_out_together():
    from types import SimpleNamespace

    from cellweave_glue.cells import validation_cells

    rng = np.random.default_rng(0)
    pairs = {"rna": rng.permutation(80), "atac": rng.permutation(np.arange(30, 120))}
    data = {m: SimpleNamespace(n_cells=len(ids)) for m, ids in pairs.items()}
    settings = SimpleNamespace(seed=0, validation_fraction=0.2)
    held = validation_cells(data, pairs, settings)
    out = {m: set(pairs[m][held[m]].tolist()) for m in pairs}
    both = set(pairs["rna"].tolist()) & set(pairs["atac"].tolist())
    assert out["rna"] & both == out["atac"] & both
    assert 0.05 < np.mean(held["rna"]) < 0.4
