"""What a model says of entries that were hidden from it, beside what the shown ones say alone.

Kedzierska et al. 2025 ask of a foundation model that it fills in what pretraining taught it to: a
share of each cell's expressed genes is hidden, the model reads the rest. Weights with a head of
values give the value; weights with a head of tokens say which gene stands at the hidden place.

    guess_i = model(shown entries of the cell, mask at i)
    baselines: the mean of all shown values; the mean of the gene's shown values;
               the gene most often shown at such a place of the order
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellweave.errors import ConfigError
from cellweave.records import Provenance
from cellweave_nn.checkpoints.embedding import by_length, token_blocks

if TYPE_CHECKING:
    from anndata import AnnData

    from cellweave.records import Tokens

__all__ = ["Reconstruction", "reconstruct"]

Fill = Callable[["Tokens", np.ndarray], np.ndarray]
_PLACES = 50  # parts of the order, each with its commonest gene


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """Hold every hidden entry: what it was, what the model said, what the baselines say.

    Parameters
    ----------
    kind
        ``"values"``: numbers are compared; ``"genes"``: ids.
    cells, ids
        Row of the cell and id of the gene of each hidden entry.
    truth, guess
        Value or id, and what the model said.
    baselines
        Name to what it says of each entry.
    places
        For genes: how far down the order each hidden entry stands, 0 to 1.
    place_of
        For genes: where each id stands on average where it is shown; NaN when it never is.
    provenance
        What made it.
    """

    kind: Literal["values", "genes"]
    cells: np.ndarray
    ids: np.ndarray
    truth: np.ndarray
    guess: np.ndarray
    baselines: Mapping[str, np.ndarray]
    places: np.ndarray
    place_of: np.ndarray
    provenance: Provenance


def reconstruct(
    adata: AnnData,
    *,
    kind: Literal["values", "genes"],
    tokenizer: Any,
    n_ids: int,
    fill: Fill,
    share: float,
    batch_size: int,
    seed: int,
    provenance: Provenance,
) -> Reconstruction:
    """Hide a share of the genes of each cell, and collect what is said of them.

    Parameters
    ----------
    adata
        The cells.
    kind, tokenizer, n_ids
        What the model tells, its tokenizer, and how many ids there are.
    fill
        Gives what the model says of the hidden tokens of some cells.
    share
        Of each cell's expressed genes.
    batch_size
        Most cells at a time.
    seed
        Of the choice.
    provenance
        Goes into the record.
    """
    if not 0 < share < 1:
        msg = f"share={share!r}; expected a share of each cell's genes, between 0 and 1."
        raise ConfigError(msg)
    statistics = _Shown(n_ids, kind)
    found: list[dict[str, np.ndarray]] = []
    rng, done = np.random.default_rng(seed), 0
    framing = tokenizer.framing
    blocks = token_blocks(adata, encode=tokenizer.encode, batch_size=batch_size, framing=framing)
    for tokens in blocks:
        hidden = _hidden(tokens, tokenizer.table.ids, share, rng)
        statistics.add(tokens, hidden)
        for rows in by_length(tokens, batch_size):
            found.append(_filled(tokens, hidden, rows, fill) | {"first": np.array([done])})
        done += tokens.n_cells
    return _collected(found, statistics, kind, provenance)


def _hidden(
    tokens: Tokens, genes: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose among the expressed genes of each cell; one at least is always shown."""
    able = np.isin(tokens.ids, genes)
    if tokens.values is not None:
        able &= tokens.values > 0
    chosen = able & (rng.random(len(tokens.ids)) < share)
    cells = np.repeat(np.arange(tokens.n_cells), tokens.lengths)
    shown = np.bincount(cells[able & ~chosen], minlength=tokens.n_cells)
    return chosen & (shown > 0)[cells]


def _filled(
    tokens: Tokens, hidden: np.ndarray, rows: np.ndarray, fill: Fill
) -> dict[str, np.ndarray]:
    """Return the hidden entries of some cells and what the model says of them."""
    part = tokens.take(rows)
    lengths = tokens.lengths[rows]
    own = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    mask = hidden[np.repeat(tokens.offsets[rows], lengths) + own]
    guess = fill(part, mask) if mask.any() else np.empty(0)
    truth = part.ids if part.values is None else part.values
    return {
        "cells": np.repeat(rows, lengths)[mask],
        "ids": part.ids[mask],
        "truth": truth[mask],
        "guess": guess,
        "places": (own / np.repeat(lengths, lengths))[mask],
    }


class _Shown:
    """Gather what the shown entries say by gene, and by place in the order."""

    def __init__(self, n_ids: int, kind: str) -> None:
        self.n_ids, self.by_place = n_ids, kind == "genes"
        self.sums, self.counts = np.zeros(n_ids), np.zeros(n_ids)
        self.at = np.zeros((_PLACES, n_ids if self.by_place else 0), dtype=np.int32)

    def add(self, tokens: Tokens, hidden: np.ndarray) -> None:
        """Add the shown entries of some cells."""
        if self.by_place:
            start = np.repeat(tokens.offsets[:-1], tokens.lengths)
            told = (np.arange(len(tokens.ids)) - start) / np.repeat(tokens.lengths, tokens.lengths)
            np.add.at(self.at, (_part(told[~hidden]), tokens.ids[~hidden]), 1)
        else:
            assert tokens.values is not None
            told = np.where(hidden, 0.0, tokens.values)
        shown = ~hidden & (told > 0 if not self.by_place else True)
        self.sums += np.bincount(tokens.ids[shown], told[shown], self.n_ids)
        self.counts += np.bincount(tokens.ids[shown], minlength=self.n_ids)

    def means(self) -> np.ndarray:
        """Return the mean by gene, NaN where it is never shown."""
        return np.where(self.counts > 0, self.sums / np.maximum(self.counts, 1), np.nan)

    def baselines(self, ids: np.ndarray, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the baselines say of hidden entries."""
        if self.by_place:
            return {"commonest gene at the place": self.at.argmax(1)[_part(places)]}
        overall = self.sums.sum() / max(self.counts.sum(), 1)
        own = self.means()[ids]
        return {
            "mean of all values": np.full(len(ids), overall),
            "mean of the gene": np.where(np.isnan(own), overall, own),
        }


def _part(places: np.ndarray) -> np.ndarray:
    return np.minimum((places * _PLACES).astype(np.int64), _PLACES - 1)


def _collected(
    found: list[dict[str, np.ndarray]], shown: _Shown, kind: Any, provenance: Provenance
) -> Reconstruction:
    cells = np.concatenate([f["cells"] + f["first"] for f in found])
    order = np.argsort(cells, kind="stable")
    joined = {
        name: np.concatenate([f[name] for f in found])[order]
        for name in ("ids", "truth", "guess", "places")
    }
    if kind == "genes":
        joined["guess"] = joined["guess"].astype(np.int64)
    return Reconstruction(
        kind=kind,
        cells=cells[order],
        baselines=shown.baselines(joined["ids"], joined["places"]),
        place_of=shown.means(),
        provenance=provenance,
        **joined,
    )
