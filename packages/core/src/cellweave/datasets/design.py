"""What to simulate: one frozen record of every choice, checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellweave.errors import ConfigError, closest

__all__ = ["MODALITIES", "SimulationDesign"]

MODALITIES = ("rna", "atac", "prot", "spatial", "metab")
_POSITIVE = ("n_types", "n_niches", "n_states", "batches", "n_genes")
_DEPTHS = ("rna_depth", "atac_depth", "prot_depth", "spatial_depth")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationDesign:
    """Hold the choices behind simulated data; :func:`simulate` tells the model.

    Parameters
    ----------
    n_cells
        Cells of each modality, or one number by modality (unpaired data only).
    modalities
        Some of ``rna``, ``atac``, ``prot``, ``spatial``, ``metab``.
    n_types
        Cell types: leaves of the tree.
    paired
        ``True``: every modality measures the same cells, under the same names. ``False``: each
        modality has its own cells; no cell is seen twice.
    absent
        Modality to cell types that it lacks (unpaired data only).
    batches
        Batches; each shifts the features of each modality on its own.
    batch_strength
        Standard deviation of those shifts, in natural log units.
    dropout
        Chance that a value that would not be zero is lost.
    n_genes, n_peaks, n_proteins, n_panel, n_metabolites
        Features of ``rna``, ``atac``, ``prot`` (isotypes included), ``spatial`` and ``metab``.
    n_states
        Dimensions of the hidden state of a cell.
    n_niches
        Regions of the tissue, each with its own mixture of cell types.
    within_type
        Spread of the hidden state inside a type; the branches of the tree have length 1.
    rna_depth, atac_depth, prot_depth, spatial_depth
        Median total count of a cell.
    binary_atac
        Cut ATAC counts to 0 and 1.
    seed
        Of everything.
    """

    n_cells: int | Mapping[str, int] = 1000
    modalities: tuple[str, ...] = ("rna", "atac", "prot")
    n_types: int = 6
    paired: bool = True
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    batches: int = 1
    batch_strength: float = 0.25
    dropout: float = 0.0
    n_genes: int = 2000
    n_peaks: int = 4000
    n_proteins: int = 30
    n_panel: int = 300
    n_metabolites: int = 60
    n_states: int = 10
    n_niches: int = 4
    within_type: float = 0.35
    rna_depth: float = 2000.0
    atac_depth: float = 1500.0
    prot_depth: float = 1500.0
    spatial_depth: float = 400.0
    binary_atac: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse every choice that cannot be simulated, all at once."""
        object.__setattr__(self, "modalities", tuple(self.modalities))
        problems = [*_wrong_modalities(self), *_wrong_numbers(self), *_wrong_pairing(self)]
        if problems:
            msg = "Cannot simulate: " + " ".join(problems)
            raise ConfigError(msg)

    def cells_of(self, modality: str) -> int:
        """Return the number of cells of one modality."""
        return self.n_cells if isinstance(self.n_cells, int) else int(self.n_cells[modality])


def _wrong_modalities(design: SimulationDesign) -> list[str]:
    unknown = [m for m in design.modalities if m not in MODALITIES]
    problems = [
        f"Modality {m!r} is unknown.{closest(m, MODALITIES)} There are: {', '.join(MODALITIES)}."
        for m in unknown
    ]
    if not design.modalities:
        problems.append(f"`modalities` is empty; name some of {', '.join(MODALITIES)}.")
    if len(set(design.modalities)) != len(design.modalities):
        problems.append(f"`modalities` {design.modalities!r} names one twice; name each once.")
    return problems


def _wrong_numbers(design: SimulationDesign) -> list[str]:
    counts = design.n_cells if isinstance(design.n_cells, Mapping) else {"all": design.n_cells}
    problems = [f"`n_cells` is {n!r}; give at least 1." for n in counts.values() if n < 1]
    for name in _POSITIVE:
        if getattr(design, name) < 1:
            problems.append(f"`{name}` is {getattr(design, name)!r}; give at least 1.")
    for name in _DEPTHS:
        if getattr(design, name) <= 0:
            problems.append(f"`{name}` is {getattr(design, name)!r}; give more than 0.")
    if not 0 <= design.dropout < 1:
        problems.append(f"`dropout` is {design.dropout!r}; give a chance in [0, 1).")
    for name in ("n_peaks", "n_proteins", "n_panel", "n_metabolites"):
        if getattr(design, name) < 1:
            problems.append(f"`{name}` is {getattr(design, name)!r}; give at least 1.")
    return problems


def _wrong_pairing(design: SimulationDesign) -> list[str]:
    problems = []
    if isinstance(design.n_cells, Mapping):
        missing = [m for m in design.modalities if m not in design.n_cells]
        if missing:
            problems.append(f"`n_cells` lacks {', '.join(missing)}; give a number for each.")
        if design.paired:
            problems.append("`n_cells` by modality needs `paired=False`.")
    if design.absent and design.paired:
        problems.append("`absent` needs `paired=False`: paired cells are in every modality.")
    problems += [
        f"`absent` names {m!r}, which is not in `modalities`."
        for m in design.absent
        if m not in design.modalities
    ]
    return problems
