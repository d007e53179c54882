"""Write simulated data of any size to disk, block by block, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from cellweave.datasets.design import SimulationDesign
from cellweave.datasets.simulation import blocks_of_modality
from cellweave.datasets.truth import truth_of
from cellweave.datasets.world import build_world
from cellweave.errors import ConfigError
from cellweave.storage import atomic_folder

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["write_simulated"]


def write_simulated(
    folder: str | Path,
    design: SimulationDesign,
    *,
    file_format: Literal["h5ad", "zarr"] = "h5ad",
    block_size: int = 8192,
) -> list[Path]:
    """Write one ``h5ad`` or ``zarr`` a modality into ``folder``; return their paths.

    Only one block of values is in memory at a time. The folder appears whole, with a manifest.
    """
    if file_format not in ("h5ad", "zarr"):
        msg = f"Cannot write simulated data as {file_format!r}. Expected 'h5ad' or 'zarr'."
        raise ConfigError(msg)
    folder = Path(folder)
    world = build_world(design)
    truth = truth_of(world)
    names = [f"{modality}.{file_format}" for modality in design.modalities]
    with atomic_folder(folder, kind="simulated_data") as place, _without_sharding():
        for modality, name in zip(design.modalities, names, strict=True):
            blocks = blocks_of_modality(world, modality, block_size=block_size)
            _write_modality(_open(place / name), blocks, truth)
    return [folder / name for name in names]


@contextmanager
def _without_sharding() -> Iterator[None]:
    """Keep one chunk a file: appended blocks have no size that shards could be planned for."""
    import anndata

    with anndata.settings.override(auto_shard_zarr_v3=False):
        yield


def _open(path: Path) -> Any:
    if path.suffix == ".zarr":
        import zarr

        return zarr.open_group(path, mode="w")
    import h5py

    return h5py.File(path, "w")


def _write_modality(file: Any, blocks: Iterator[AnnData], truth: dict[str, Any]) -> None:
    """Append the blocks' values as they come; the small tables follow at the end."""
    from anndata.io import sparse_dataset, write_elem

    obs: list[pd.DataFrame] = []
    obsm: list[dict[str, np.ndarray]] = []
    var = pd.DataFrame()
    for block in blocks:
        if not obs:
            file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
            write_elem(file, "X", block.X)
            var = block.var
        else:
            sparse_dataset(file["X"]).append(block.X)
        obs.append(block.obs)
        obsm.append(dict(block.obsm))
    tables = {
        "obs": pd.concat(obs),
        "var": var,
        "obsm": {k: np.concatenate([o[k] for o in obsm]) for k in obsm[0]},
        "uns": {"truth": truth},
        "layers": {},
        "varm": {},
        "obsp": {},
        "varp": {},
    }
    for key, value in tables.items():
        write_elem(file, key, value)
    if hasattr(file, "close"):
        file.close()
