"""The generator learns planted effects, the same from the same seed, and starts from weights."""

import numpy as np
import pytest
import torch

from cellweave.errors import ConfigError, DataError, NotFittedError
from cellweave.testing.global_state import global_state_unchanged
from cellweave_scgpt import PerturbationGenerator, ScgptModel
from cellweave_scgpt.generator_network import GeneratorNetwork

from .conftest import symbols

GENES = np.array(symbols(40))
PERTURBED = [("GENE0",), ("GENE1",), ("GENE2",), ("GENE0", "GENE1"), ("drug",)]
STEPS = 120


def planted(n_control=60, seed=0):
    """Each perturbation moves genes of its own; pairs add."""
    rng = np.random.default_rng(seed)
    effects = {p: np.zeros(len(GENES)) for p in ("GENE0", "GENE1", "GENE2", "drug")}
    for i, effect in enumerate(effects.values()):
        effect[10 + 5 * i : 15 + 5 * i] = [1, -1, 1, 1, -1]
    level = rng.uniform(1, 3, len(GENES))
    control = np.maximum(rng.normal(level, 0.3, (n_control, len(GENES))), 0).astype(np.float32)
    deltas = np.array([sum(effects[p] for p in unit) for unit in PERTURBED])
    start = np.repeat(control.mean(axis=0)[None], len(PERTURBED), axis=0)
    units = {
        "perturbed": PERTURBED,
        "rows": [np.arange(n_control)] * len(PERTURBED),
        "starts": start,
        "goals": start + deltas,
    }
    return control, effects, units


@pytest.fixture(scope="module")
def trained():
    control, effects, units = planted()
    made = PerturbationGenerator(GENES, width=32, hidden=64).fit(control, steps=STEPS, **units)
    return made, control, effects, units


def agreement(found, true):
    return np.corrcoef(found, true)[0, 1]


def test_planted_effects_are_learnt_and_unseen_pairs_follow(trained):
    made, control, effects, _ = trained
    for name in ("GENE0", "GENE2", "drug"):
        assert agreement(made.mean_change(control, [name]), effects[name]) > 0.9
    pair = made.mean_change(control, ["GENE0", "GENE2"])  # never seen together
    assert agreement(pair, effects["GENE0"] + effects["GENE2"]) > 0.7
    mean = np.mean([effects[p] for p in effects], axis=0)
    assert agreement(pair, effects["GENE0"] + effects["GENE2"]) > agreement(
        mean, effects["GENE0"] + effects["GENE2"]
    )


def test_the_flag_makes_the_change(trained):
    made, control, _, _ = trained
    assert np.array_equal(made.mean_change(control, []), np.zeros(len(GENES)))
    assert made.changes(control[:7], ["GENE0"]).shape == (7, len(GENES))


def test_same_seed_same_bytes_and_other_seeds_differ(trained):
    _, control, _, units = trained
    short = [
        PerturbationGenerator(GENES, width=32, hidden=64, seed=seed)
        .fit(control, steps=10, **units)
        .changes(control, ["GENE1"])
        for seed in (3, 3, 4)
    ]
    assert short[0].tobytes() == short[1].tobytes()
    assert short[0].tobytes() != short[2].tobytes()


def test_global_state_is_left_alone():
    control, _, units = planted()
    with global_state_unchanged():
        PerturbationGenerator(GENES, width=32).fit(control, steps=3, **units)


def test_more_genes_than_fit_are_seen_in_parts_with_what_is_perturbed():
    control, effects, units = planted()
    made = PerturbationGenerator(GENES, width=32, hidden=64, max_length=15)
    made.fit(control, steps=2 * STEPS, **units)
    parts = made._parts(["GENE2"])
    assert len(parts) > 2
    assert all(2 in part for part in parts)
    assert set(np.concatenate(parts).tolist()) == set(range(len(GENES)))
    drawn = made._columns([type("U", (), {"perturbed": ("GENE7",)})()], np.random.default_rng(0))
    assert len(drawn) == 15
    assert 7 in drawn
    assert agreement(made.mean_change(control, ["GENE2"]), effects["GENE2"]) > 0.8


def test_untrained_nothing_changes():
    """The last layers start at zero: what comes out is the mean of the control cells."""
    network = GeneratorNetwork(5, width=16, depth=1, heads=2, hidden=16)
    ids, values = torch.arange(5).repeat(2, 1), torch.rand(2, 5)
    factor, offset = network(ids, values, torch.ones(2, 5, dtype=torch.long), [5, 5])
    assert not factor.any()
    assert not offset.any()
    with pytest.raises(NotFittedError, match="Call `fit` first"):
        PerturbationGenerator(GENES).mean_change(np.zeros((2, 40), np.float32), ["GENE1"])


def test_published_weights_are_where_it_starts(folder):
    model = ScgptModel.load(folder)
    control, effects, units = planted()
    made = model.perturbation_generator(GENES, learning_rate=1e-12)
    made.fit(control, steps=1, **units)
    network, source = made._network, model.network
    assert torch.allclose(network.genes.table.weight[3], source.genes.table.weight[_id(model, 3)])
    for own, published in zip(network.blocks, source.blocks, strict=True):
        for key, tensor in published.state_dict().items():
            assert torch.allclose(own.state_dict()[key], tensor, atol=1e-9), key
    value = torch.rand(4)
    assert torch.allclose(network.values(value), source.values(value), atol=1e-9)
    untouched = source.genes.table.weight.clone()
    further = model.perturbation_generator(GENES, learning_rate=4e-3)
    further.fit(control, steps=STEPS, **units)
    assert agreement(further.mean_change(control, ["GENE2"]), effects["GENE2"]) > 0.9
    assert torch.equal(untouched, source.genes.table.weight)  # the model itself is not trained


def _id(model, i):
    table = model.tokenizer.table
    return dict(zip(table.features, table.ids, strict=True))[f"GENE{i}"]


def test_weights_that_do_not_fit_are_refused(folder):
    control, _, units = planted()
    model = ScgptModel.load(folder)
    foreign = np.array([f"ENSG{i}" for i in range(40)])
    renamed = [tuple(p.replace("GENE", "ENSG") for p in unit) for unit in PERTURBED]
    with pytest.raises(DataError, match=r"know 0 of 42 genes.*'GENE0'.*Map the names"):
        model.perturbation_generator(foreign).fit(control, **units | {"perturbed": renamed})
    model.config = type(model.config).from_dict({**model.config.to_dict(), "values": "category"})
    with pytest.raises(ConfigError, match="read values as 'category'"):
        model.perturbation_generator(GENES).fit(control, **units)
