"""Tokenize cells block by block, straight to a file: memory is one block, not the data.

The file is the one that ``tokenizer.fit(adata).encode(adata).save(path)`` would write, byte for
byte: a cell's tokens do not depend on the cells beside it, and blocks are spilled to a folder
beside the output until the lengths of all arrays are known.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellweave.errors import DataError
from cellweave.records._files import ArrayPieces, save_array_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anndata import AnnData
    from mudata import MuData

    from cellweave.records import Provenance, Tokens

__all__ = ["TokenSummary", "tokenize_to_file"]

_COPIED = 16 << 20


@dataclass(slots=True, kw_only=True)
class TokenSummary:
    """Count what was written."""

    cells: int = 0
    tokens: int = 0
    longest: int = 0


def tokenize_to_file(
    tokenizer: Any, blocks: Callable[[], Iterable[AnnData | MuData]], path: str | Path
) -> TokenSummary:
    """Fit on all blocks, then encode each and write the tokens to one ``.npz``.

    Parameters
    ----------
    tokenizer
        Unfitted; one without ``partial_fit`` can only take a single block.
    blocks
        Gives the cells in order, a block at a time; called twice.
    path
        The file.
    """
    _fit(tokenizer, blocks())
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cellweave-tokens-", dir=path.parent) as folder:
        spill = _Spill(Path(folder))
        for block in blocks():
            spill.add(tokenizer.encode(block))
        save_array_pieces(path, kind="tokens", arrays=spill.arrays(), meta=spill.meta())
    return spill.summary


def _fit(tokenizer: Any, blocks: Iterable[AnnData | MuData]) -> None:
    for i, block in enumerate(blocks):
        if i == 0:
            tokenizer.fit(block)
        elif hasattr(tokenizer, "partial_fit"):
            tokenizer.partial_fit(block)
        else:
            msg = (
                f"{type(tokenizer).__name__!r} learns from all cells at once, and these come in "
                "blocks. Read the data into memory."
            )
            raise DataError(msg)


@dataclass(slots=True)
class _Spill:
    """Keep the arrays of tokens in files that only grow."""

    folder: Path
    summary: TokenSummary = field(default_factory=TokenSummary)
    names: list[np.ndarray] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    provenance: Provenance | None = None

    def add(self, tokens: Tokens) -> None:
        """Append the tokens of one block."""
        self.names.append(tokens.obs_names.astype(str))
        self.lengths.append(tokens.lengths)
        self.modalities, self.provenance = tokens.modalities, tokens.provenance
        for name in ("ids", "values", "modality", "positions"):
            if getattr(tokens, name) is not None:
                self._append(name, getattr(tokens, name))
        for key, values in tokens.context.items():
            self._append(f"context/{key}", np.asarray(values))
        self.summary.cells += tokens.n_cells
        self.summary.tokens += len(tokens.ids)
        self.summary.longest = max(self.summary.longest, int(tokens.lengths.max(initial=0)))

    def _append(self, name: str, values: np.ndarray) -> None:
        dtype, tail, n = self.shapes.get(name, (values.dtype, values.shape[1:], 0))
        if tail != values.shape[1:] or dtype != values.dtype:
            msg = f"Tokens {name!r} change their form between cells. Read the data into memory."
            raise DataError(msg)
        with self._file(name).open("ab") as file:
            file.write(np.ascontiguousarray(values).ravel().view(np.uint8).data)
        self.shapes[name] = (dtype, tail, n + len(values))

    def _file(self, name: str) -> Path:
        known = [*self.shapes, name]
        return self.folder / f"{known.index(name)}.bin"

    def arrays(self) -> dict[str, ArrayPieces]:
        """Return everything that goes into the file."""
        lengths = np.concatenate([np.zeros(1, dtype=np.int64), *self.lengths])
        made = {
            "offsets": ArrayPieces.of(np.cumsum(lengths, dtype=np.int64)),
            "obs_names": ArrayPieces.of(np.concatenate(self.names)),
        }
        for name, (dtype, tail, n) in self.shapes.items():
            made[name] = ArrayPieces(dtype, (n, *tail), _reader(self._file(name), dtype, tail))
        return made

    def meta(self) -> dict[str, Any]:
        """Return the JSON of the file."""
        told = self.provenance.to_dict() if self.provenance else None
        return {"modalities": list(self.modalities), "provenance": told}


def _reader(
    path: Path, dtype: np.dtype[Any], tail: tuple[int, ...]
) -> Callable[[], Iterator[np.ndarray]]:
    def pieces() -> Iterator[np.ndarray]:
        per_row = max(int(np.prod(tail)), 1)
        count = max(_COPIED // (dtype.itemsize * per_row), 1) * per_row
        with path.open("rb") as file:
            while len(values := np.fromfile(file, dtype, count)):
                yield values

    return pieces
