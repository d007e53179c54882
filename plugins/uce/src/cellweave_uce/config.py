"""The sizes of a published UCE, read from the tensors: there is no settings file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import take

__all__ = ["VECTORS", "UceConfig"]

VECTORS = "pe_embedding.weight"
_LAYER = "transformer_encoder.layers."
_SIZES = {
    "pos_encoder.pe": 3,
    "encoder.0.weight": 2,
    f"{_LAYER}0.linear1.weight": 2,
    "decoder.0.0.weight": 2,
    "decoder.3.weight": 2,
    "binary_decoder.0.0.weight": 2,
    "binary_decoder.1.0.weight": 2,
    "binary_decoder.2.0.weight": 2,
    VECTORS: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UceConfig:
    """Hold sizes.

    Parameters
    ----------
    n_ids
        Tokens: four special ones, the genes of a species, its chromosomes.
    species
        Whose genes they are.
    vector_width
        Numbers of a token's vector (5 120, of ESM2).
    width, depth, heads, hidden, n_places
        Model width, blocks, attention heads, width of the feed-forward, places.
    out_width, middle_width
        Of the cell's vector, and of the decoder's first layer.
    binary_widths
        Of the hidden layers that tell whether a gene is expressed.
    places
        Whether the waves of places are added; see the docs.
    """

    n_ids: int
    species: str
    vector_width: int
    width: int
    depth: int
    heads: int
    hidden: int
    n_places: int
    out_width: int
    middle_width: int
    binary_widths: tuple[int, int, int]
    places: bool = True

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, torch.Tensor],
        *,
        n_ids: int,
        species: str,
        heads: int,
        places: bool,
        source: Path,
    ) -> Self:
        """Read all sizes; a tensor of another form is told."""
        found = dict(zip(_SIZES, take(tensors, _SIZES, source=source)))
        problems = [
            f"{k} is {tuple(found[k].shape)}" for k, n in _SIZES.items() if found[k].dim() != n
        ]
        sizes = {k: tuple(t.shape) for k, t in found.items()}
        width = sizes["encoder.0.weight"][0]
        if not problems and (not width or width % heads):
            problems.append(f"width {width} does not divide by {heads} heads")
        if problems:
            msg = f"The weights in {str(source)!r} are of no UCE: {'; '.join(problems)}. "
            raise StateMismatchError(msg + "Give the published file whole.")
        binary = [sizes[f"binary_decoder.{i}.0.weight"][0] for i in range(3)]
        return cls(
            n_ids=n_ids,
            species=species,
            vector_width=sizes["encoder.0.weight"][1],
            width=width,
            depth=len({k.split(".")[2] for k in tensors if k.startswith(_LAYER)}),
            heads=heads,
            hidden=sizes[f"{_LAYER}0.linear1.weight"][0],
            n_places=sizes["pos_encoder.pe"][0],
            out_width=sizes["decoder.3.weight"][0],
            middle_width=sizes["decoder.0.0.weight"][0],
            binary_widths=(binary[0], binary[1], binary[2]),
            places=places,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "binary_widths": list(self.binary_widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`to_dict`."""
        first, second, third = values["binary_widths"]
        return cls(**{**values, "binary_widths": (first, second, third)})
