"""Encoders and objectives: one good of each, and ones with a planted bug."""

import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from cellweave.testing import EncoderSuite, ObjectiveSuite, run_suite  # noqa: E402
from cellweave.testing.torch_batches import PlainBatch, PlainOutput  # noqa: E402

MUTANTS = {}


def caught_by(check):
    def keep(make):
        MUTANTS[make.__name__] = (make, check)
        return make

    return keep


def cell_of_token(batch):
    lengths = batch.offsets[1:] - batch.offsets[:-1]
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


class MeanEncoder(torch.nn.Module):
    """Token states from id and value; the state of a cell is the mean of its tokens'."""

    def __init__(self, *, width=8, n_ids=60):
        super().__init__()
        self._config = {"width": width, "n_ids": n_ids}
        self.table = torch.nn.Embedding(n_ids, width)
        self.of_value = torch.nn.Linear(1, width)

    @property
    def config(self):
        return self._config

    def forward(self, batch):
        states = self.table(batch.ids) + self.of_value(batch.values[:, None])
        n = len(batch.offsets) - 1
        sums = states.new_zeros(n, states.shape[1]).index_add(0, cell_of_token(batch), states)
        counts = (batch.offsets[1:] - batch.offsets[:-1]).clamp(min=1)[:, None]
        return PlainOutput(token_states=states, cell_state=sums / counts)


class MaskedValues:
    """Hide a quarter of the values; the loss is the square of what a fixed direction misses."""

    def corrupt(self, batch, generator):
        hidden = torch.rand(len(batch.ids), generator=generator) < 0.25
        hidden[0] = True
        values = batch.values.clone()
        values[hidden] = 0
        changed = PlainBatch(offsets=batch.offsets, ids=batch.ids, values=values)
        return SimpleNamespace(
            batch=changed, targets={"hidden": hidden, "values": batch.values.clone()}
        )

    def loss(self, outputs, corrupted):
        hidden = corrupted.targets["hidden"]
        found = outputs.token_states.mean(dim=1)[hidden]
        return {"value": (found - corrupted.targets["values"][hidden]).square().mean()}


def with_forward(change):
    class Mutant(MeanEncoder):
        def forward(self, batch):
            return change(self, batch, super().forward(batch))

    return EncoderSuite, Mutant


def with_corrupt(change):
    class Mutant(MaskedValues):
        def corrupt(self, batch, generator):
            return change(super().corrupt, batch, generator)

    return ObjectiveSuite, Mutant


def with_loss(change):
    class Mutant(MaskedValues):
        def loss(self, outputs, corrupted):
            return change(super().loss, outputs, corrupted)

    return ObjectiveSuite, Mutant


@caught_by("test_cell_alone_is_as_in_a_batch")
def mixes_cells_of_the_batch():
    return with_forward(
        lambda s, b, o: PlainOutput(
            token_states=o.token_states, cell_state=o.cell_state - o.cell_state.mean(dim=0)
        )
    )


@caught_by("test_state_of_cells_has_one_row_each")
def drops_the_last_cell():
    return with_forward(
        lambda s, b, o: PlainOutput(token_states=o.token_states, cell_state=o.cell_state[:-1])
    )


@caught_by("test_state_of_tokens_is_ragged")
def pads_tokens():
    return with_forward(
        lambda s, b, o: PlainOutput(
            token_states=torch.zeros(4, 12, 8).reshape(-1, 8), cell_state=o.cell_state
        )
    )


@caught_by("test_order_of_cells_does_not_matter")
def adds_the_row_number():
    return with_forward(
        lambda s, b, o: PlainOutput(
            token_states=o.token_states,
            cell_state=o.cell_state + torch.arange(len(o.cell_state))[:, None],
        )
    )


@caught_by("test_two_passes_give_the_same")
def drops_out_in_evaluation():
    return with_forward(
        lambda s, b, o: PlainOutput(
            token_states=o.token_states,
            cell_state=torch.nn.functional.dropout(o.cell_state, 0.5, training=True),
        )
    )


@caught_by("test_global_state_is_left_unchanged")
def draws_globally():
    return with_forward(lambda s, b, o: o if torch.rand(1) >= 0 else None)


@caught_by("test_input_is_left_unchanged")
def writes_to_the_batch():
    def write(_, batch, outputs):
        batch.values.mul_(2)
        return outputs

    return with_forward(write)


@caught_by("test_gradients_reach_every_parameter")
def holds_an_idle_parameter():
    class Mutant(MeanEncoder):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.idle = torch.nn.Parameter(torch.zeros(3))

    return EncoderSuite, Mutant


@caught_by("test_weights_carry_the_function")
def hides_weights_from_the_state():
    class Mutant(MeanEncoder):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.secret = torch.randn(8)

        def forward(self, batch):
            o = super().forward(batch)
            return PlainOutput(token_states=o.token_states, cell_state=o.cell_state + self.secret)

    return EncoderSuite, Mutant


@caught_by("test_states_are_finite")
def divides_by_zero():
    return with_forward(
        lambda s, b, o: PlainOutput(token_states=o.token_states, cell_state=o.cell_state / 0)
    )


@caught_by("test_dtype_follows_the_weights")
def casts_to_float64():
    return with_forward(
        lambda s, b, o: PlainOutput(token_states=o.token_states, cell_state=o.cell_state.double())
    )


@caught_by("test_config_is_json")
def keeps_a_class_in_its_config():
    class Mutant(MeanEncoder):
        @property
        def config(self):
            return {"activation": torch.nn.GELU}

    return EncoderSuite, Mutant


@caught_by("test_tokens_reach_the_cell_state")
def ignores_its_input():
    return with_forward(
        lambda s, b, o: PlainOutput(
            token_states=o.token_states, cell_state=torch.ones_like(o.cell_state)
        )
    )


@caught_by("test_global_state_is_left_unchanged")
def ignores_the_generator_and_draws_globally():
    def draw(corrupt, batch, generator):
        return corrupt(batch, torch.default_generator)

    return with_corrupt(draw)


@caught_by("test_other_generator_other_corruption")
def ignores_the_generator():
    return with_corrupt(lambda corrupt, b, g: corrupt(b, torch.Generator().manual_seed(1)))


@caught_by("test_input_is_left_unchanged")
def corrupts_in_place():
    def write(corrupt, batch, generator):
        corrupted = corrupt(batch, generator)
        batch.values.copy_(corrupted.batch.values)
        return corrupted

    return with_corrupt(write)


@caught_by("test_something_is_hidden")
def hides_nothing():
    def keep(corrupt, batch, generator):
        return SimpleNamespace(batch=batch, targets=corrupt(batch, generator).targets)

    return with_corrupt(keep)


@caught_by("test_there_are_targets")
def gives_no_targets():
    def drop(corrupt, batch, generator):
        return SimpleNamespace(batch=corrupt(batch, generator).batch, targets={})

    return with_corrupt(drop)


@caught_by("test_losses_are_named_finite_scalars")
def sums_over_nothing():
    return with_loss(lambda loss, o, c: {"value": loss(o, c)["value"] * math.nan})


@caught_by("test_gradients_reach_the_states")
def detaches_the_states():
    def detach(loss, outputs, corrupted):
        value = loss(outputs, corrupted)["value"].detach()
        return {"value": value.requires_grad_()}

    return with_loss(detach)


@caught_by("test_loss_can_be_lowered")
def has_the_wrong_sign_of_a_bounded_loss():
    return with_loss(
        lambda loss, o, c: {"value": loss(o, c)["value"].clamp(max=0.0) + 0 * o.token_states.sum()}
    )


@caught_by("test_loss_is_the_same_twice")
def draws_in_the_loss():
    calls = []

    def blur(loss, outputs, corrupted):
        calls.append(1)
        return {"value": loss(outputs, corrupted)["value"] * len(calls)}

    return with_loss(blur)


def suite_of(base, component):
    return type("Checked", (base,), {"create": lambda self, **arguments: component(**arguments)})


@pytest.mark.parametrize(
    ("base", "component"), [(EncoderSuite, MeanEncoder), (ObjectiveSuite, MaskedValues)]
)
def test_reference_passes_every_check(base, component):
    results = run_suite(suite_of(base, component))
    assert [f"{r.name}: {r.message}" for r in results if r.outcome != "passed"] == []
    assert len(results) >= 10


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_mutant_is_caught(name):
    make, check = MUTANTS[name]
    (result,) = run_suite(suite_of(*make()), only=[check])
    assert result.outcome == "failed"
    assert len(result.message) > 20
