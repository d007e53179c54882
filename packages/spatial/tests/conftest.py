"""Tiny folders in the layouts of four technologies, as their machines write them."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from PIL import Image

GENES = ["Actb", "Gad1", "Snap25", "Mbp"]


def counts_of(n_cells: int, n_features: int) -> np.ndarray:
    return np.random.default_rng(0).poisson(1.5, (n_cells, n_features)).astype(np.float32)


def write_tenx(path, counts, cells, features):
    """Write counts as Cell Ranger's h5; ``features`` are pairs of name and type."""
    matrix = sp.csr_matrix(counts.astype("i4"))
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "matrix"
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"] = np.array(counts.shape[::-1])
        group["barcodes"] = np.array(cells, dtype="S")
        table = group.create_group("features")
        table["id"] = np.array([f"ENSG{i:011d}" for i in range(len(features))], dtype="S")
        table["name"] = np.array([name for name, _ in features], dtype="S")
        table["feature_type"] = np.array([kind for _, kind in features], dtype="S")
        table["genome"] = np.array(["x"] * len(features), dtype="S")


def write_visium(folder, *, header):
    rng = np.random.default_rng(0)
    counts = sp.csr_matrix(rng.poisson(1, (5, 4)))
    barcodes = [f"BC{i}-1" for i in range(5)]
    features = [(name, "Gene Expression") for name in "ABCD"]
    write_tenx(folder / "filtered_feature_bc_matrix.h5", counts.toarray(), barcodes, features)
    place = folder / "spatial"
    place.mkdir()
    rows = [f"{b},{int(i != 2)},{i},{2 * i},{10 * i},{20 * i}" for i, b in enumerate(barcodes)]
    head = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres"
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    (place / name).write_text("\n".join([head, *rows] if header else rows))
    (place / "scalefactors_json.json").write_text(json.dumps({"tissue_hires_scalef": 0.5}))
    Image.fromarray(np.full((8, 9, 3), 7, np.uint8)).save(place / "tissue_hires_image.png")
    return counts


def write_xenium(folder, *, parquet=True):
    cells = [f"aaaaaa{c}a-1" for c in "bcdefg"]
    counts = counts_of(6, 6)
    kinds = ["Gene Expression"] * 4 + ["Negative Control Probe", "Unassigned Codeword"]
    features = list(zip([*GENES, "NegControlProbe_1", "UnassignedCodeword_1"], kinds))
    write_tenx(folder / "cell_feature_matrix.h5", counts, cells, features)
    specs = {
        "analysis_sw_version": "xenium-2.0.0.0",
        "pixel_size": 0.2125,
        "run_name": "r",
        "region_name": "g",
    }
    (folder / "experiment.xenium").write_text(json.dumps(specs))
    table = pd.DataFrame(
        {
            "cell_id": cells,
            "x_centroid": np.arange(6) * 10.5,
            "y_centroid": np.arange(6) * 3.25,
            "transcript_counts": counts[:, :4].sum(axis=1).astype(int),
            "cell_area": np.full(6, 50.0),
            "nucleus_area": np.full(6, 20.0),
        }
    )
    if parquet:
        table.to_parquet(folder / "cells.parquet")
    else:
        table.to_csv(folder / "cells.csv.gz", index=False)
    return counts, cells


def write_xenium_cells_zarr(folder, cells):
    """Write the part that spatialdata-io wants besides: cell ids as two numbers."""
    import zarr

    letters = "abcdefghijklmnop"
    prefix = [int("".join(f"{letters.index(x):x}" for x in c.split("-")[0]), 16) for c in cells]
    store = zarr.storage.ZipStore(folder / "cells.zarr.zip", mode="w")
    root = zarr.open_group(store, mode="w")
    ids = np.array([[p, 1] for p in prefix], dtype="u4")
    root.create_array("cell_id", data=ids)
    summary = root.create_array("cell_summary", data=np.zeros((len(cells), 8)))
    summary.attrs["column_names"] = [
        "cell_centroid_x", "cell_centroid_y", "cell_area", "nucleus_centroid_x",
        "nucleus_centroid_y", "nucleus_area", "z_level", "nucleus_count",
    ]  # fmt: skip
    for i in (0, 1):
        root.create_array(f"polygon_sets/{i}/cell_index", data=np.arange(len(cells), dtype="u4"))
    store.close()


def write_cosmx(folder, *, packed=False):
    """Two fields of view that begin anew locally; cell 0 of each is what lies in no cell."""
    keys = [(fov, cell) for fov in (1, 2) for cell in range(4)]
    counts = counts_of(8, 6)
    table = pd.DataFrame(keys, columns=["fov", "cell_ID"])
    probes = [*GENES, "NegPrb01", "SystemControl1"]
    for i, name in enumerate(probes):
        table[name] = counts[:, i].astype(int)
    inside = table["cell_ID"] > 0
    places = table.loc[inside, ["fov", "cell_ID"]].copy()
    local = np.column_stack([places["cell_ID"] * 10, places["cell_ID"] ** 2])
    places["CenterX_local_px"], places["CenterY_local_px"] = local.T
    places["CenterX_global_px"] = local[:, 0] + 1000 * places["fov"]
    places["CenterY_global_px"] = local[:, 1]
    ending = ".csv.gz" if packed else ".csv"
    table.to_csv(folder / f"S0_exprMat_file{ending}", index=False)
    places.to_csv(folder / f"S0_metadata_file{ending}", index=False)
    positions = pd.DataFrame({"fov": [1, 2], "x_global_px": [1000, 2000], "y_global_px": [0, 0]})
    positions.to_csv(folder / "S0_fov_positions_file.csv", index=False)
    for name in ("CellComposite", "CellLabels"):
        (folder / name).mkdir()
    return counts[inside.to_numpy()]


def write_merscope(folder):
    cells = [str(110883424764611924 + 37 * i) for i in range(5)]
    counts = counts_of(5, 6)
    table = pd.DataFrame(counts.astype(int), columns=[*GENES, "Blank-1", "Blank-2"])
    table.insert(0, "cell", cells)
    table.to_csv(folder / "cell_by_gene.csv", index=False)
    places = pd.DataFrame({"EntityID": cells, "fov": 0, "volume": 100.0})
    places["center_x"], places["center_y"] = np.arange(5) * 7.0, np.arange(5) * 2.0
    # The machine writes the cells of the two tables in different orders.
    places.iloc[::-1].to_csv(folder / "cell_metadata.csv", index=False)
    (folder / "images").mkdir()
    transform = "1 0 0\n0 1 0\n0 0 1\n"
    (folder / "images" / "micron_to_mosaic_pixel_transform.csv").write_text(transform)
    return counts, cells


def cut_short(path):
    """Keep the first half of a gzipped file."""
    data = path.read_bytes()
    assert data[:2] == gzip.compress(b"")[:2]
    path.write_bytes(data[: len(data) // 2])


@pytest.fixture
def folders():
    """Give the writers of this file: it is no module that tests could import."""
    return SimpleNamespace(**{k: v for k, v in globals().items() if callable(v) or k == "GENES"})
