"""Make multi-omic data whose truth is known, at any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.datasets.cells import Cells, cells_of_chunk, signal_of
from cellweave.datasets.design import SimulationDesign
from cellweave.datasets.joining import joined
from cellweave.datasets.measuring import Instrument, instrument_for
from cellweave.datasets.sampling import CHUNK
from cellweave.datasets.truth import truth_of
from cellweave.datasets.world import World, build_world

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

__all__ = ["blocks_of_modality", "simulate", "simulate_blocks"]

_Chunk = tuple[sp.csr_matrix, Cells]


def simulate(
    *,
    n_cells: int | Mapping[str, int] = 1000,
    modalities: Sequence[str] = ("rna", "atac", "prot"),
    n_types: int = 6,
    paired: bool = True,
    absent: Mapping[str, tuple[str, ...]] | None = None,
    batches: int = 1,
    batch_strength: float = 0.25,
    dropout: float = 0.0,
    n_genes: int = 2000,
    n_peaks: int = 4000,
    n_proteins: int = 30,
    n_panel: int = 300,
    n_metabolites: int = 60,
    n_states: int = 10,
    n_niches: int = 4,
    within_type: float = 0.35,
    rna_depth: float = 2000.0,
    atac_depth: float = 1500.0,
    prot_depth: float = 1500.0,
    spatial_depth: float = 400.0,
    binary_atac: bool = False,
    prepared: bool = False,
    seed: int = 0,
) -> MuData:
    r"""Simulate cells measured in several modalities, from one hidden state a cell.

    Parameters
    ----------
    n_cells, modalities, n_types, paired, absent, batches, batch_strength, dropout
        See :class:`~cellweave.datasets.SimulationDesign`, as for the sizes and depths below.
    n_genes, n_peaks, n_proteins, n_panel, n_metabolites, n_states, n_niches, within_type
        Sizes.
    rna_depth, atac_depth, prot_depth, spatial_depth, binary_atac
        Depths.
    prepared
        Give the prepared form that integrators and tasks take, by
        :func:`~cellweave.datasets.prepare_simulated`.
    seed
        Same seed, same bytes. A cell's values depend neither on ``n_cells`` nor on blocks, and
        a modality's not on which others are simulated.

    Returns
    -------
    Raw values as CSR float32 in ``X``. ``obs``: ``cell_type``, ``batch``, ``pairing`` (equal
    in two modalities for the same cell), and ``niche`` for ``spatial``, which also has
    ``obsm["spatial"]`` in micrometres. ``obsm["true_state"]``: the hidden state.
    ``uns["truth"]``: the design, and which gene drives which feature
    (:func:`~cellweave.datasets.true_links`).

    Notes
    -----
    **Cells.** A cell lies at a uniform place :math:`x_c` of a square tissue, in the niche of the
    nearest niche centre; its type :math:`t_c` is drawn from that niche's mixture. Types are the
    leaves of a binary tree with Gaussian branches; :math:`\mu_t` is a leaf and :math:`\pi_t`
    its parent node. The hidden state is continuous, with maturity :math:`u_c \sim Beta(5, 1)`:

    .. math:: z_c = \pi_{t} + u_c (\mu_{t} - \pi_{t}) + \sigma \epsilon_c

    **Genes.** Gene :math:`g` takes part in about two gene programmes (sparse loadings
    :math:`w_g`) and may mark types (:math:`m_{tg} > 0`):
    :math:`s_{cg} = 3 \tanh((w_g \cdot z_c + u_c\, m_{t_c g}) / 3)`.

    **Counts** (RNA, spatial panel, ATAC). With level :math:`b_f`, batch shift
    :math:`\beta_{bf}` and effects :math:`a_{fg}` of genes on feature :math:`f`
    (1 for the gene itself; 0.5 to 1.1 for a peak within 140 kb of it; 30 % of peaks follow no
    known gene; the mean of a peak is at most 3):

    .. math::
        y_{cf} \sim NB\big(d_c\, softmax_f(b_f + \sum_g a_{fg} s_{cg} + \beta_{bf}),\ \theta_f\big),
        \quad d_c \sim LogNormal

    **Proteins** follow the gene that codes for them; 15 % of the counts are background that
    varies by cell, and isotype controls have nothing but background.

    **Metabolites** are log-normal; three enzymes of a pathway raise one, a fourth lowers it;
    what lies under the limit of detection is zero.

    **Dropout** loses each value that is not zero with the given chance.

    Genes carry real symbols where the list of markers has them; their places on the chromosomes
    are made up.

    Examples
    --------
    >>> mdata = simulate(n_cells=200, n_genes=300, n_peaks=500)
    >>> {name: adata.shape for name, adata in mdata.mod.items()}
    {'rna': (200, 300), 'atac': (200, 500), 'prot': (200, 30)}
    """
    design = SimulationDesign(
        n_cells=n_cells,
        modalities=tuple(modalities),
        n_types=n_types,
        paired=paired,
        absent=dict(absent or {}),
        batches=batches,
        batch_strength=batch_strength,
        dropout=dropout,
        n_genes=n_genes,
        n_peaks=n_peaks,
        n_proteins=n_proteins,
        n_panel=n_panel,
        n_metabolites=n_metabolites,
        n_states=n_states,
        n_niches=n_niches,
        within_type=within_type,
        rna_depth=rna_depth,
        atac_depth=atac_depth,
        prot_depth=prot_depth,
        spatial_depth=spatial_depth,
        binary_atac=binary_atac,
        seed=seed,
    )
    most = max(design.cells_of(m) for m in design.modalities)
    mdata = next(simulate_blocks(design, block_size=most))
    if not prepared:
        return mdata
    from cellweave.datasets.prepared import prepare_simulated

    return prepare_simulated(mdata, seed=seed)


def simulate_blocks(design: SimulationDesign, *, block_size: int = 8192) -> Iterator[MuData]:
    """Yield the cells of a design in blocks, in memory that does not grow with their number.

    The blocks put together equal the data in one piece, whatever ``block_size``. A modality
    whose cells have run out is absent from later blocks.
    """
    world = build_world(design)
    truth = truth_of(world)
    populations = [design.modalities] if design.paired else [(m,) for m in design.modalities]
    sources = [_blocks(world, modalities, block_size) for modalities in populations]
    while True:
        parts: dict[str, AnnData] = {}
        for source in sources:
            parts |= next(source, {})
        if not parts:
            return
        yield joined(parts, {"truth": truth})


def blocks_of_modality(world: World, modality: str, *, block_size: int = 8192) -> Iterator[AnnData]:
    """Yield the cells of one modality alone, in blocks."""
    for parts in _blocks(world, (modality,), block_size):
        yield parts[modality]


def _blocks(
    world: World, modalities: tuple[str, ...], block_size: int
) -> Iterator[dict[str, AnnData]]:
    """Yield blocks of cells that are measured together."""
    total = world.design.cells_of(modalities[0])
    population = "all" if world.design.paired else modalities[0]
    instruments = [instrument_for(world, m) for m in modalities]
    for start in range(0, total, block_size):
        stop = min(start + block_size, total)
        chunks = range(start // CHUNK, -(-stop // CHUNK))
        measured = [_measured(world, instruments, population, chunk) for chunk in chunks]
        window = slice(start - chunks[0] * CHUNK, stop - chunks[0] * CHUNK)
        cells = _sliced(_stacked([c for c, _ in measured]), window)
        names = _cell_names(world.design, population, start, stop)
        yield {
            m: _as_anndata(world, m, sp.vstack([v[m] for _, v in measured]), window, cells, names)
            for m in modalities
        }


def _measured(
    world: World, instruments: list[Instrument], population: str, chunk: int
) -> tuple[Cells, dict[str, sp.csr_matrix]]:
    cells = cells_of_chunk(world, population, chunk)
    signal = signal_of(world, cells)
    return cells, {i.modality: i.measure(cells, signal, chunk) for i in instruments}


def _as_anndata(
    world: World,
    modality: str,
    values: sp.csr_matrix,
    window: slice,
    cells: Cells,
    names: pd.Index,
) -> AnnData:
    from anndata import AnnData

    types = world.types.names
    batches = [f"batch{b}" for b in range(world.design.batches)]
    obs = pd.DataFrame(
        {
            "cell_type": _categories(cells.types, list(types)),
            "batch": _categories(cells.batches, batches),
            "pairing": names.to_numpy(),
        },
        index=names,
    )
    values = sp.csr_matrix(values)[window]
    adata = AnnData(X=values, obs=obs, var=world.features[modality].table.copy())
    adata.obsm["true_state"] = cells.states
    if modality == "spatial":
        niches = [f"niche{i}" for i in range(world.design.n_niches)]
        adata.obs["niche"] = _categories(cells.niches, niches)
        adata.obsm["spatial"] = cells.positions
    return adata


def _categories(codes: np.ndarray, names: list[str]) -> pd.Categorical[Any]:
    return pd.Categorical.from_codes(codes.astype(np.int64), categories=pd.Index(names))


def _cell_names(design: SimulationDesign, population: str, start: int, stop: int) -> pd.Index:
    prefix = "cell" if design.paired else f"{population}_cell"
    return pd.Index([f"{prefix}{i:07d}" for i in range(start, stop)])


def _stacked(chunks: list[Cells]) -> Cells:
    names = Cells.__slots__
    return Cells(**{n: np.concatenate([getattr(c, n) for c in chunks]) for n in names})


def _sliced(cells: Cells, window: slice) -> Cells:
    return Cells(**{n: getattr(cells, n)[window] for n in Cells.__slots__})
