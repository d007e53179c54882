"""The ATAC tokenizers: the shared rules of patches and regions under this package's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cellweave.tokenizing import PatchTokenizer, RegionTokenizer

__all__ = ["AtacPatchTokenizer", "AtacRegionTokenizer"]


@dataclass(kw_only=True, eq=False)
class AtacPatchTokenizer(PatchTokenizer):
    """Cut each cell's peaks, in genomic order, into patches."""

    component: ClassVar[str] = "atac.patch"
    modality: ClassVar[str] = "atac"


@dataclass(kw_only=True, eq=False)
class AtacRegionTokenizer(RegionTokenizer):
    """Order each cell's open regions by TF-IDF, largest first."""

    component: ClassVar[str] = "atac.regions"
    modality: ClassVar[str] = "atac"
