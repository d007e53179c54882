"""One name for each technology, as the models trained on several of them know it."""

from __future__ import annotations

from dataclasses import dataclass

from cellweave.errors import ConfigError, closest, one_of

__all__ = ["Technology", "technology_label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """Describe a technology.

    Parameters
    ----------
    name
        Our label, lower case.
    nicheformer
        Label of Nicheformer's technology means and context tokens; ``""`` where it has none.
    single_cell
        Whether one observation is one cell, not a spot of many.
    """

    name: str
    nicheformer: str
    single_cell: bool


def _known(name: str, nicheformer: str = "", *, single_cell: bool = True) -> Technology:
    return Technology(name=name, nicheformer=nicheformer, single_cell=single_cell)


_TECHNOLOGIES = {
    "merfish": _known("merfish", "merfish"),
    "cosmx": _known("cosmx", "cosmx"),
    "xenium": _known("xenium", "xenium"),
    "iss": _known("iss", "iss"),
    "osmfish": _known("osmfish"),
    "seqfish": _known("seqfish"),
    "starmap": _known("starmap"),
    "visium": _known("visium", single_cell=False),
    "visium_hd": _known("visium_hd", single_cell=False),
    "slide_seq": _known("slide_seq", single_cell=False),
    "stereo_seq": _known("stereo_seq", single_cell=False),
    "spatial_transcriptomics": _known("spatial_transcriptomics", single_cell=False),
    "dissociated": _known("dissociated", "dissociated"),
}
_OTHER_NAMES = {
    "merscope": "merfish", "vizgen": "merfish", "vizgen_merscope": "merfish",
    "nanostring_cosmx": "cosmx", "cosmx_smi": "cosmx", "nanostring": "cosmx",
    "10x_xenium": "xenium", "10x_genomics_xenium": "xenium", "in_situ_sequencing": "iss",
    "10x_visium": "visium", "visiumhd": "visium_hd", "slideseq": "slide_seq",
    "slideseqv2": "slide_seq", "slide_seqv2": "slide_seq", "stereoseq": "stereo_seq",
    "st": "spatial_transcriptomics", "seqfish+": "seqfish",
}  # fmt: skip


def technology_label(name: str) -> Technology:
    """Return the technology that ``name`` means (``"Vizgen MERSCOPE"`` is ``merfish``)."""
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    key = _OTHER_NAMES.get(key, key)
    if key not in _TECHNOLOGIES:
        names = (*_TECHNOLOGIES, *_OTHER_NAMES)
        msg = (
            f"Unknown technology {name!r}.{closest(key, names)} "
            f"Known: {one_of(_TECHNOLOGIES, limit=20)}."
        )
        raise ConfigError(msg)
    return _TECHNOLOGIES[key]
