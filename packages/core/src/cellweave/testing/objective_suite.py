"""The suite of the objective contract."""

from __future__ import annotations

from typing import Any, ClassVar

from cellweave.testing.digests import digest_of
from cellweave.testing.global_state import global_state_unchanged
from cellweave.testing.suite import Suite, require, unless_tag
from cellweave.testing.torch_batches import PlainOutput, made_batch, torch_or_skip

__all__ = ["ObjectiveSuite"]

_PARTS = ("offsets", "ids", "values")


class ObjectiveSuite(Suite):
    """Check an objective.

    Besides :meth:`create`, an author whose objective wants another kind of batch overrides
    :meth:`as_batch`.

    Attributes
    ----------
    vocabulary_size, lengths, width
        Of the batches, and of the states that the loss is tried on.
    tags
        ``fixed`` (``corrupt`` draws nothing), ``identity`` (``corrupt`` leaves the batch as is).
    """

    kind: ClassVar[str] = "objective"
    vocabulary_size: ClassVar[int] = 60
    lengths: ClassVar[tuple[int, ...]] = (20, 14, 9, 30)
    width: ClassVar[int] = 16

    def batch(self) -> Any:
        """Return a new batch, always the same."""
        return self.as_batch(made_batch(vocabulary_size=self.vocabulary_size, lengths=self.lengths))

    def as_batch(self, plain: Any) -> Any:
        """Turn a plain batch into the kind that the objective takes."""
        return plain

    def objective(self) -> Any:
        """Return a new objective, always with the same weights where it has any."""
        torch = torch_or_skip()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.create()

    def corrupted(self, objective: Any, *, seed: int = 0) -> Any:
        """Return a corruption of the batch, drawn from ``seed``."""
        torch = torch_or_skip()
        return objective.corrupt(self.batch(), torch.Generator().manual_seed(seed))

    def outputs(self, batch: Any, *, seed: int = 0) -> Any:
        """Return random states that want gradients, as an encoder would give for ``batch``."""
        torch = torch_or_skip()
        generator = torch.Generator().manual_seed(seed)
        n_tokens, n_cells = len(batch.ids), len(batch.offsets) - 1
        return PlainOutput(
            token_states=torch.randn(n_tokens, self.width, generator=generator, requires_grad=True),
            cell_state=torch.randn(n_cells, self.width, generator=generator, requires_grad=True),
        )

    def losses(self, objective: Any, *, seed: int = 0) -> Any:
        """Return the loss terms of one corruption on random states."""
        corrupted = self.corrupted(objective, seed=seed)
        return objective.loss(self.outputs(corrupted.batch), corrupted)

    def test_corrupted_batch_is_a_batch(self) -> None:
        """The corrupted batch has offsets that fit its ids."""
        batch = self.corrupted(self.objective()).batch
        fits = int(batch.offsets[0]) == 0 and int(batch.offsets[-1]) == len(batch.ids)
        require(fits, "`offsets` of the corrupted batch do not fit its ids.")

    def test_cells_stay_in_place(self) -> None:
        """The corrupted batch has as many cells."""
        n = len(self.corrupted(self.objective()).batch.offsets) - 1
        require(n % len(self.lengths) == 0 and n > 0, f"{n} cells after corrupting "
                f"{len(self.lengths)}. Keep cells, or give whole copies of them.")  # fmt: skip

    def test_input_is_left_unchanged(self) -> None:
        """``corrupt`` does not touch the batch that it was given."""
        torch = torch_or_skip()
        batch = self.batch()
        before = [digest_of(getattr(batch, n)) for n in _PARTS]
        self.objective().corrupt(batch, torch.Generator().manual_seed(0))
        same = before == [digest_of(getattr(batch, n)) for n in _PARTS]
        require(same, "`corrupt` changed the batch in place. Clone before writing.")

    def test_there_are_targets(self) -> None:
        """``targets`` holds tensors by name."""
        torch = torch_or_skip()
        targets = self.corrupted(self.objective()).targets
        require(targets, "`corrupt` gives no targets. The loss has nothing to compare with.")
        wrong = [k for k, v in targets.items() if not isinstance(v, torch.Tensor)]
        require(not wrong, f"Targets {wrong} are no tensors.")

    def test_same_generator_same_corruption(self) -> None:
        """Equal generators give equal corruptions."""
        first, second = (self.corrupted(self.objective(), seed=3) for _ in range(2))
        require(_digest(first) == _digest(second), "Equal generators corrupt differently.")

    @unless_tag("fixed")
    def test_other_generator_other_corruption(self) -> None:
        """The generator is used."""
        first, second = (self.corrupted(self.objective(), seed=s) for s in (3, 4))
        require(_digest(first) != _digest(second), "The generator is ignored. Draw from it.")

    @unless_tag("identity")
    def test_something_is_hidden(self) -> None:
        """The corrupted batch differs from the batch."""
        batch, corrupted = self.batch(), self.corrupted(self.objective()).batch
        same = all(digest_of(getattr(batch, n)) == digest_of(getattr(corrupted, n)) for n in _PARTS)
        require(not same, "`corrupt` hides nothing: the answer is in the input.")

    def test_global_state_is_left_unchanged(self) -> None:
        """Corruption and loss draw from the generator alone."""
        objective = self.objective()
        self.losses(objective)
        with global_state_unchanged():
            self.losses(objective)

    def test_losses_are_named_finite_scalars(self) -> None:
        """``loss`` gives named terms, each one finite number."""
        terms = self.losses(self.objective())
        require(terms, "`loss` gives no term.")
        wrong = [k for k, v in terms.items() if v.ndim != 0 or not bool(v.isfinite())]
        require(not wrong, f"Terms {wrong} are no finite scalars. Average over what was hidden.")

    def test_gradients_reach_the_states(self) -> None:
        """The loss has a gradient with respect to the encoder's states."""
        objective = self.objective()
        corrupted = self.corrupted(objective)
        outputs = self.outputs(corrupted.batch)
        sum(objective.loss(outputs, corrupted).values()).backward()
        states = (outputs.token_states, outputs.cell_state)
        reached = any(s.grad is not None and bool((s.grad != 0).any()) for s in states)
        require(reached, "No gradient reaches the states. Do not detach them.")

    def test_loss_can_be_lowered(self) -> None:
        """Gradient steps on the states lower the loss."""
        torch = torch_or_skip()
        objective = self.objective()
        corrupted = self.corrupted(objective)
        outputs = self.outputs(corrupted.batch)
        states = [outputs.token_states, outputs.cell_state]
        optimiser = torch.optim.Adam(states, lr=0.05)
        values = []
        for _ in range(25):
            optimiser.zero_grad()
            total = sum(objective.loss(outputs, corrupted).values())
            total.backward()
            optimiser.step()
            values.append(float(total.detach()))
        require(
            values[-1] < values[0],
            f"25 steps took the loss from {values[0]:.4g} to {values[-1]:.4g}. Check its sign.",
        )

    def test_loss_is_the_same_twice(self) -> None:
        """The loss of the same states is the same."""
        first, second = (self.losses(self.objective()) for _ in range(2))
        same = all(bool(first[k].detach() == second[k].detach()) for k in first)
        require(same, "The loss of the same states differs. Draw only in `corrupt`.")


def _digest(corrupted: Any) -> str:
    parts = [getattr(corrupted.batch, n) for n in _PARTS]
    return digest_of([*parts, dict(corrupted.targets)])
