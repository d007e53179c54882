"""The suite of the encoder contract."""

from __future__ import annotations

import copy
import json
from typing import Any, ClassVar

from cellweave.testing.digests import digest_of
from cellweave.testing.global_state import GlobalState
from cellweave.testing.suite import Suite, require, unless_tag
from cellweave.testing.torch_batches import made_batch, taken, torch_or_skip

__all__ = ["EncoderSuite"]


class EncoderSuite(Suite):
    """Check an encoder.

    Besides :meth:`create`, an author whose encoder wants another kind of batch overrides
    :meth:`as_batch`, which gets one with the attributes of the contract and no more.

    Attributes
    ----------
    vocabulary_size
        Ids in the batches lie under it; build the encoder for as many.
    lengths
        Tokens of each cell.
    with_values
        Whether tokens have values.
    tags
        ``stateful_batch`` (a cell's state may depend on the others), ``partial_gradients`` (some
        parameters rest in ``forward``), ``bag`` (the order of tokens is meaningless: states of
        cells must not depend on it).
    """

    kind: ClassVar[str] = "encoder"
    vocabulary_size: ClassVar[int] = 60
    lengths: ClassVar[tuple[int, ...]] = (7, 12, 1, 5)
    with_values: ClassVar[bool] = True

    def batch(self, *, seed: int = 0) -> Any:
        """Return four cells of different lengths."""
        plain = made_batch(
            vocabulary_size=self.vocabulary_size,
            lengths=self.lengths,
            with_values=self.with_values,
            seed=seed,
        )
        return self.as_batch(plain)

    def as_batch(self, plain: Any) -> Any:
        """Turn a plain batch into the kind that the encoder takes."""
        return plain

    def encoder(self) -> Any:
        """Return a new encoder in evaluation mode, always with the same weights."""
        torch = torch_or_skip()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.create().eval()

    def run(self, encoder: Any, batch: Any) -> Any:
        """Return the outputs of one pass without gradients."""
        torch = torch_or_skip()
        with torch.no_grad():
            return encoder(batch)

    @property
    def outputs(self) -> Any:
        """The outputs of the reference pass, made once."""
        return self.once("outputs", lambda: self.run(self.encoder(), self.batch()))

    def test_is_a_torch_module(self) -> None:
        """The encoder is a ``torch.nn.Module``."""
        torch = torch_or_skip()
        encoder = self.encoder()
        require(isinstance(encoder, torch.nn.Module), f"{type(encoder).__name__} is no nn.Module.")

    def test_config_is_json(self) -> None:
        """``config`` holds JSON values."""
        text = json.dumps(dict(self.encoder().config))
        require(json.loads(text) == dict(self.encoder().config), "`config` changes through JSON.")

    def test_state_of_cells_has_one_row_each(self) -> None:
        """``cell_state`` is ``(n_cells, d)``."""
        shape = tuple(self.outputs.cell_state.shape)
        right = len(shape) == 2 and shape[0] == len(self.lengths)
        require(right, f"`cell_state` is {shape} for {len(self.lengths)} cells.")

    def test_state_of_tokens_is_ragged(self) -> None:
        """``token_states`` is ``(n_tokens, d)``, as the batch."""
        shape = tuple(self.outputs.token_states.shape)
        right = len(shape) == 2 and shape[0] == sum(self.lengths)
        require(right, f"`token_states` is {shape} for {sum(self.lengths)} tokens. No padding.")

    def test_states_are_finite(self) -> None:
        """There is no NaN."""
        fine = self.outputs.cell_state.isfinite().all()
        fine &= self.outputs.token_states.isfinite().all()
        require(bool(fine), "States hold NaN or infinity. Guard softmax over nothing.")

    def test_states_tell_cells_apart(self) -> None:
        """Different cells have different states."""
        states = self.outputs.cell_state
        spread = float((states - states.mean(dim=0)).abs().max())
        require(spread > 1e-6, "All cells have one state. Does the input reach the output?")

    def test_two_passes_give_the_same(self) -> None:
        """In evaluation mode nothing is random."""
        encoder = self.encoder()
        first, second = (self.run(encoder, self.batch()) for _ in range(2))
        same = digest_of(first.cell_state) == digest_of(second.cell_state)
        require(same, "Two passes in `eval()` differ. Respect `self.training` in dropout.")

    @unless_tag("stateful_batch")
    def test_cell_alone_is_as_in_a_batch(self) -> None:
        """A cell's state does not depend on who is in the batch: padding leaks nothing."""
        encoder = self.encoder()
        for row in range(len(self.lengths)):
            alone = self.run(encoder, self.as_batch(taken(self.batch(), [row])))
            gap = float((alone.cell_state[0] - self.outputs.cell_state[row]).abs().max())
            require(gap < 1e-4, f"Cell {row} alone differs by {gap:.2g}. Mask other cells' tokens.")

    @unless_tag("stateful_batch")
    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order have the same states, in that order."""
        order = list(reversed(range(len(self.lengths))))
        turned = self.run(self.encoder(), self.as_batch(taken(self.batch(), order)))
        gap = float((turned.cell_state - self.outputs.cell_state[order]).abs().max())
        require(gap < 1e-4, f"States differ by {gap:.2g} with the order of cells.")

    def test_tokens_reach_the_cell_state(self) -> None:
        """Other tokens give another state."""
        other = self.run(self.encoder(), self.batch(seed=1))
        gap = float((other.cell_state - self.outputs.cell_state).abs().max())
        require(gap > 1e-6, "Other tokens give the same state. Is the input used?")

    def test_input_is_left_unchanged(self) -> None:
        """The tensors of the batch are the same after a pass."""
        batch = self.batch()
        names = ("offsets", "ids", "values")
        before = [digest_of(getattr(batch, n)) for n in names]
        self.run(self.encoder(), batch)
        same = before == [digest_of(getattr(batch, n)) for n in names]
        require(same, "`forward` changed the batch in place. Use out-of-place operations.")

    def test_global_state_is_left_unchanged(self) -> None:
        """A pass in evaluation mode leaves generators and flags as they were."""
        encoder, batch = self.encoder(), self.batch()
        self.run(encoder, batch)
        before = GlobalState.now()
        self.run(encoder, batch)
        changes = before.differences()
        before.put_back()
        require(not changes, f"A pass changed {', '.join(changes)}.")

    @unless_tag("partial_gradients")
    def test_gradients_reach_every_parameter(self) -> None:
        """Every parameter that wants a gradient gets a finite one."""
        encoder = self.encoder()
        output = encoder(self.batch())
        (output.cell_state.square().sum() + output.token_states.square().sum()).backward()
        named = [(n, p) for n, p in encoder.named_parameters() if p.requires_grad]
        idle = [n for n, p in named if p.grad is None]
        require(
            not idle, f"No gradient reaches {idle[:5]}. Are they used? Tag 'partial_gradients'."
        )
        broken = [n for n, p in named if not bool(p.grad.isfinite().all())]
        require(not broken, f"Gradients of {broken[:5]} are not finite.")

    def test_weights_carry_the_function(self) -> None:
        """An encoder that takes another's ``state_dict`` gives the same states."""
        torch = torch_or_skip()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(99)
            other = self.create().eval()
        other.load_state_dict(copy.deepcopy(self.encoder().state_dict()))
        found = self.run(other, self.batch())
        gap = float((found.cell_state - self.outputs.cell_state).abs().max())
        require(gap < 1e-6, f"States differ by {gap:.2g} although weights are equal: keep all "
                "that matters in parameters and buffers.")  # fmt: skip

    def test_dtype_follows_the_weights(self) -> None:
        """States have the dtype of the parameters."""
        encoder = self.encoder()
        dtype = next(encoder.parameters()).dtype
        found = self.outputs.cell_state.dtype
        require(found == dtype, f"States are {found}, weights {dtype}. Do not cast in `forward`.")
