"""What a block may need to know about each row besides the row itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["NO_TAGS", "Tags"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """Hold per-row facts in the same form, packed or padded, as the rows.

    Parameters
    ----------
    known
        Rows whose value may be seen by others (generative attention).
    places
        Integer positions (rotary embedding).
    modality
        Index of the modality (experts).
    """

    known: torch.Tensor | None = None
    places: torch.Tensor | None = None
    modality: torch.Tensor | None = None


NO_TAGS = Tags()
