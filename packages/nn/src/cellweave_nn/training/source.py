"""Where batches come from, and in which order: any batch can be reached without those before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from cellweave.errors import DataError
from cellweave.records import Tokens, Vocabulary
from cellweave_nn.batch import TokenBatch
from cellweave_nn.training.randomness import derived_seed

__all__ = ["DataOrder", "TokenSource", "digest_of_tokens", "prefetched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSource:
    """Give batches of tokens by cell number.

    Parameters
    ----------
    tokens
        All cells.
    special
        Role to id of special tokens, those that objectives added included.
    n_ids
        Size of the vocabulary, added tokens included.
    """

    tokens: Tokens
    special: dict[str, int]
    n_ids: int

    def __post_init__(self) -> None:
        """Refuse tokens that no model can learn from, all findings at once."""
        if problems := _problems(self.tokens, self.n_ids):
            raise DataError("The tokens cannot be trained on: " + " ".join(problems))

    @classmethod
    def of(
        cls, tokens: Tokens, vocabulary: Vocabulary, *, extra: tuple[str, ...] = ()
    ) -> TokenSource:
        """Build from a vocabulary; roles of ``extra`` it lacks get new ids at its end."""
        special = dict(vocabulary.special)
        n_ids = len(vocabulary)
        for role in extra:
            if role not in special:
                special[role], n_ids = n_ids, n_ids + 1
        return cls(tokens=tokens, special=special, n_ids=n_ids)

    @property
    def n_cells(self) -> int:
        """Count cells."""
        return self.tokens.n_cells

    def batch(self, cells: np.ndarray) -> TokenBatch:
        """Return some cells as a batch on the CPU."""
        made = TokenBatch.from_tokens(self.tokens.take(cells))
        return made.with_(special=self.special, n_ids=self.n_ids)

    def names(self, cells: np.ndarray) -> list[str]:
        """Return the names of some cells."""
        return [str(name) for name in self.tokens.obs_names[cells]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOrder:
    """Say which cells stand in which slot.

    A slot is what goes through the model at once. Slot ``k`` of the run holds the cells at
    places ``k·size … (k+1)·size`` of an endless row of shuffled epochs, so every cell is seen
    once before any is seen twice, whatever the number of ranks.
    """

    n_cells: int
    size: int
    seed: int
    _epochs: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def cells(self, slot: int) -> np.ndarray:
        """Return the cells of a slot."""
        places = np.arange(slot * self.size, (slot + 1) * self.size)
        epochs = places // self.n_cells
        return np.concatenate(
            [
                self._epoch(int(epoch))[places[epochs == epoch] % self.n_cells]
                for epoch in np.unique(epochs)
            ]
        )

    def _epoch(self, epoch: int) -> np.ndarray:
        shuffled = self._epochs.get(epoch)
        if shuffled is None:
            rng = np.random.default_rng(derived_seed(self.seed, "order", epoch))
            shuffled = rng.permutation(self.n_cells)
            for old in [e for e in self._epochs if e < epoch - 1]:
                self._epochs.pop(old, None)
            self._epochs[epoch] = shuffled
        return shuffled


def prefetched(
    source: TokenSource, slots: Iterator[np.ndarray], *, workers: int
) -> Iterator[TokenBatch]:
    """Yield the batches of ``slots`` in order; ``workers`` threads prepare those ahead."""
    if workers == 0:
        yield from (source.batch(cells) for cells in slots)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="cellweave-batches") as pool:
        ahead: list[Future[TokenBatch]] = []
        try:
            for cells in slots:
                ahead.append(pool.submit(source.batch, cells))
                if len(ahead) > 2 * workers:
                    yield ahead.pop(0).result()
            while ahead:
                yield ahead.pop(0).result()
        finally:
            for future in ahead:
                future.cancel()


def digest_of_tokens(tokens: Tokens) -> str:
    """Return the sha256 of everything a batch can hold."""
    digest = hashlib.sha256()
    arrays = [tokens.offsets, tokens.ids, tokens.values, tokens.modality, tokens.positions]
    arrays += [tokens.context[name] for name in sorted(tokens.context)]
    for array in arrays:
        if array is not None and array.dtype.kind != "O":
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(map(str, tokens.obs_names)).encode())
    return digest.hexdigest()


def _problems(tokens: Tokens, n_ids: int) -> list[str]:
    found = []
    if tokens.n_cells == 0:
        found.append("There is no cell.")
    empty = np.flatnonzero(tokens.lengths == 0)
    if len(empty):
        names = ", ".join(map(repr, tokens.obs_names[empty[:3]].tolist()))
        found.append(f"{len(empty)} cells have no token ({names}). Filter them.")
    if len(tokens.ids) and (tokens.ids.min() < 0 or tokens.ids.max() >= n_ids):
        found.append(f"Ids reach {tokens.ids.max()} but the vocabulary has {n_ids}.")
    if tokens.values is not None:
        wrong = np.flatnonzero(~np.isfinite(tokens.values.reshape(len(tokens.ids), -1)).all(1))
        if len(wrong):
            cell = int(np.searchsorted(tokens.offsets, wrong[0], side="right")) - 1
            name = str(tokens.obs_names[cell])
            found.append(f"{len(wrong)} values are NaN or infinite, first in cell {name!r}.")
    return found


def to_device(batch: TokenBatch, device: torch.device) -> TokenBatch:
    """Return the batch on ``device``."""
    return batch if batch.device == device else batch.to(device)
