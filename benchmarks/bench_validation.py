"""Recall, false alarms and speed of ``cellweave.validation``.

Run: ``python benchmarks/bench_validation.py [--values 100000000]``; real data are used where
``CELLWEAVE_DATA`` points to a folder of data sets.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellweave.joins import without_pulling
from cellweave.validation import fix, summarise_values, validate

# Prefix of a real data set's file to the modality it is; the others are gene expression.
REAL = {"msi": "metab", "osmfish": "spatial", "visium": "spatial", "pdac_a_st": "spatial"}


# --- data ----------------------------------------------------------------------------------------


def _counts(rng, labels, n_features, depth):
    programme = rng.gamma(0.5, 1.0, (labels.max() + 1, n_features))
    rates = programme[labels]
    rates *= depth * rng.lognormal(0, 0.3, (len(labels), 1)) / rates.sum(1, keepdims=True)
    counts = rng.poisson(rates).astype(np.float32)
    counts[counts.sum(1) == 0, 0] = 1
    counts[0, counts.sum(0) == 0] = 1
    return sp.csr_matrix(counts)


def _obs(rng, labels, names):
    return pd.DataFrame(
        {
            "cell_type": pd.Categorical([f"type{i}" for i in labels]),
            "batch": pd.Categorical(rng.choice(["b1", "b2"], len(labels))),
        },
        index=names,
    )


def _genes(n, style):
    familiar = "ACTB,B2M,GAPDH,MALAT1,CD3D,CD3E,CD8A,MS4A1,CD79A,LYZ,NKG7,GNLY".split(",")  # noqa: SIM905
    if style == "ensembl":
        return [f"ENSG{i:011d}" for i in range(n)]
    symbols = familiar + [f"ABC{chr(65 + i % 26)}{i}" for i in range(n - len(familiar))]
    return [s.capitalize() for s in symbols] if style == "mouse" else symbols


def made(seed, style="human", other="prot", n=400):
    """Make a clean paired MuData of two modalities."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    names = ["".join(row) + "-1" for row in rng.choice(list("ACGT"), (n, 16))]
    rna = ad.AnnData(
        _counts(rng, labels, 300, 900),
        obs=_obs(rng, labels, names),
        var=pd.DataFrame(index=_genes(300, style)),
    )
    features = {
        "prot": [f"CD{i + 1}" for i in range(20)],
        "atac": [f"chr{1 + i % 19}:{1000 * i}-{1000 * i + 500}" for i in range(500)],
    }[other]
    second = ad.AnnData(
        _counts(rng, labels, len(features), 2000 if other == "prot" else 300),
        obs=rna.obs.copy(),
        var=pd.DataFrame(index=features),
    )
    return woven({"rna": rna, other: second})


def woven(parts):
    with without_pulling():
        return md.MuData(parts)


def real(root):
    """Read every real data set under ``root``, gene expression under its right key."""
    sets = {}
    for path in sorted(Path(root).glob("*/*.h5*")):
        if path.parent.name == "vocab":
            continue
        if path.suffix == ".h5mu":
            with without_pulling():
                sets[path.stem] = md.read_h5mu(path)
        else:
            key = next((v for k, v in REAL.items() if path.stem.startswith(k)), "rna")
            sets[path.stem] = woven({key: ad.read_h5ad(path)})
    return sets


# --- defects: each takes the parts and a generator, and returns parts and the codes that tell it --


def _first(parts):
    return next(iter(parts))


def _with_x(parts, change, key=None):
    key = key or _first(parts)
    parts[key].X = change(sp.csr_matrix(parts[key].X))
    return parts


def _scaled_rows(x, total):
    sums = np.maximum(np.asarray(x.sum(1)).ravel(), 1e-9)
    return sp.csr_matrix(sp.diags_array(total / sums) @ x).astype(np.float32)


def _fraction(share):
    def plant(parts, rng):
        def change(x):
            x = x.copy()
            n = max(int(share * x.nnz), 1)
            at = rng.choice(x.nnz, n, replace=False)
            x.data[at] += rng.uniform(0.1, 0.9, n).astype(x.data.dtype)
            return x

        return _with_x(parts, change)

    return plant


def _value(value, n=1):
    def plant(parts, rng):
        def change(x):
            x = x.copy()
            x.data[rng.choice(x.nnz, n, replace=False)] = value
            return x

        return _with_x(parts, change)

    return plant


def _scale(parts, _):
    def change(x):
        dense = x.toarray()
        return ((dense - dense.mean(0)) / (dense.std(0) + 1e-6)).astype(np.float32)

    key = _first(parts)
    parts[key].X = change(parts[key].X)
    return parts


def _rename(change, axis="var"):
    def plant(parts, rng):
        adata = parts[_first(parts)]
        names = np.array(getattr(adata, f"{axis}_names").astype(str), dtype=object)
        setattr(adata, f"{axis}_names", pd.Index(change(names, rng)))
        return parts

    return plant


def _duplicate(names, rng):
    names[rng.integers(1, len(names))] = names[0]
    return names


def _blank(names, rng):
    names[rng.integers(len(names))] = ""
    return names


def _half(other):
    def change(names, rng):
        at = rng.choice(len(names), len(names) // 2, replace=False)
        names[at] = [other(i, names[i]) for i in at]
        return names

    return change


def _empty(axis):
    def plant(parts, rng):
        def change(x):
            x = x.tolil()
            i = rng.integers(x.shape[axis])
            if axis == 0:
                x[i] = 0
            else:
                x[:, i] = 0
            return sp.csr_matrix(x)

        return _with_x(parts, change)

    return plant


def _batch_is_label(parts, _):
    for adata in parts.values():
        adata.obs["batch"] = adata.obs["cell_type"].astype(str).radd("x").to_numpy()
    return parts


def _permute_labels(parts, rng):
    adata = parts[_first(parts)]
    adata.obs["cell_type"] = rng.permutation(adata.obs["cell_type"].to_numpy())
    return parts


def _permute_totals(parts, rng):
    adata = parts[_first(parts)]
    adata.obs["n_counts"] = rng.permutation(np.asarray(adata.X.sum(1)).ravel())
    return parts


def _wrong_layer(parts, rng):
    adata = parts[_first(parts)]
    adata.layers["counts"] = sp.csr_matrix(adata.X)[rng.permutation(adata.n_obs)]
    return _with_x(parts, lambda x: _scaled_rows(x, 1e4).log1p())


def _swap(parts, _):
    keys = list(parts)
    return {keys[0]: parts[keys[1]], keys[1]: parts[keys[0]]}


def _renamed_cells(share):
    def plant(parts, _):
        second = parts[list(parts)[1]]
        names = np.array(second.obs_names.astype(str), dtype=object)
        n = int(share * len(names))
        names[:n] = [f"other{i}" for i in range(n)]
        second.obs_names = pd.Index(names)
        return parts

    return plant


def _suffix(parts, _):
    second = parts[list(parts)[1]]
    second.obs_names = second.obs_names.str.replace(r"-1$", "", regex=True) + "_2"
    return parts


def _missing_batch(parts, rng):
    adata = parts[_first(parts)]
    batch = adata.obs["batch"].astype(object).to_numpy().copy()
    batch[rng.integers(len(batch))] = np.nan
    adata.obs["batch"] = batch
    return parts


VALUES = {"VALUES_LOG1P", "VALUES_NORMALISED", "VALUES_PROPORTIONS", "VALUES_CONTINUOUS"}
ANY = "any"
COUNTS = "counts"
LABELLED = "labelled"
BATCHED = "batched"
PAIRED = "paired"
GENES = "genes"
# name → (who can have it, how to plant it, codes any of which tells it)
DEFECTS = {
    "log1p": (COUNTS, lambda p, _: _with_x(p, lambda x: x.log1p()), {"VALUES_LOG1P"}),
    "log1p_cp10k": (
        COUNTS,
        lambda p, _: _with_x(p, lambda x: _scaled_rows(x, 1e4).log1p()),
        {"VALUES_LOG1P"},
    ),
    "log2": (
        COUNTS,
        lambda p, _: _with_x(p, lambda x: (x.log1p() / np.log(2)).astype(np.float32)),
        {"VALUES_LOG1P"},
    ),
    "cpm": (COUNTS, lambda p, _: _with_x(p, lambda x: _scaled_rows(x, 1e6)), {"VALUES_NORMALISED"}),
    "proportions": (
        COUNTS,
        lambda p, _: _with_x(p, lambda x: _scaled_rows(x, 1.0)),
        {"VALUES_PROPORTIONS"},
    ),
    "scaled": (ANY, _scale, {"VALUES_SCALED"}),
    "one_fraction": (COUNTS, _fraction(0.0), {"VALUES_NEARLY_COUNTS"}),
    "fractions_1pc": (COUNTS, _fraction(0.01), {"VALUES_NEARLY_COUNTS"}),
    "fractions_5pc": (COUNTS, _fraction(0.05), {"VALUES_NEARLY_COUNTS"}),
    "fractions_100pc": (COUNTS, _fraction(1.0), VALUES),
    "negative": (ANY, _value(-1.0), {"VALUES_NEGATIVE", "VALUES_SCALED"}),
    "nan": (ANY, _value(np.nan), {"VALUES_NOT_FINITE"}),
    "inf": (ANY, _value(np.inf), {"VALUES_NOT_FINITE"}),
    "empty_cell": (ANY, _empty(0), {"CELLS_EMPTY"}),
    "empty_feature": (ANY, _empty(1), {"FEATURES_EMPTY"}),
    "duplicate_feature": (ANY, _rename(_duplicate), {"VAR_NAMES_DUPLICATE"}),
    "duplicate_cell": (ANY, _rename(_duplicate, "obs"), {"OBS_NAMES_DUPLICATE"}),
    "nameless_feature": (ANY, _rename(_blank), {"VAR_NAMES_EMPTY"}),
    "nameless_cell": (ANY, _rename(_blank, "obs"), {"OBS_NAMES_EMPTY"}),
    "padded_feature": (
        ANY,
        _rename(lambda n, _: np.array([f"{n[0]} ", *n[1:]], dtype=object)),
        {"VAR_NAMES_PADDED"},
    ),
    "versioned": (
        GENES,
        _rename(lambda n, _: np.array([f"ENSG{i:011d}.{1 + i % 9}" for i in range(len(n))])),
        {"IDS_VERSIONED"},
    ),
    "mixed_ids": (
        GENES,
        _rename(
            _half(lambda i, n: f"QRS{i}X" if n.startswith("ENS") else f"ENSG{i:011d}"),
        ),
        {"IDS_MIXED"},
    ),
    "mixed_species": (
        GENES,
        _rename(
            _half(lambda i, n: f"ENSMUSG{i:011d}" if n.startswith("ENSG") else f"ENSG{i:011d}")
        ),
        {"SPECIES_MIXED", "IDS_MIXED"},
    ),
    "numbers_for_names": (
        GENES,
        _rename(lambda n, _: np.arange(len(n)).astype(str)),
        {"IDS_NUMERIC"},
    ),
    "batch_is_label": (LABELLED, _batch_is_label, {"BATCH_IS_LABEL"}),
    "batch_missing": (BATCHED, _missing_batch, {"BATCH_VALUES_MISSING"}),
    "permuted_labels": (LABELLED, _permute_labels, {"OBS_PERMUTED", "LABELS_UNRELATED"}),
    "permuted_totals": (ANY, _permute_totals, {"OBS_PERMUTED"}),
    "counts_of_other_cells": (COUNTS, _wrong_layer, {"COUNTS_LAYER_DISAGREES"}),
    "swapped_modalities": (PAIRED, _swap, {"MODALITY_SWAPPED"}),
    "overlap_20pc": (PAIRED, _renamed_cells(0.8), {"CELLS_OVERLAP_LOW"}),
    "overlap_0pc": (PAIRED, _renamed_cells(1.0), {"CELLS_UNPAIRED", "CELL_NAMES_DIFFER"}),
    "barcode_suffix": ("barcoded", _suffix, {"CELL_NAMES_DIFFER"}),
}


def fits(data, who):
    """Tell whether a defect of this kind can be planted in ``data``."""
    adata = next(iter(data.mod.values()))
    key = next(iter(data.mod))
    whole = adata.X.data.size and np.array_equal(adata.X.data[:1000], np.rint(adata.X.data[:1000]))
    return {
        ANY: True,
        COUNTS: bool(whole) and key != "metab",
        LABELLED: "cell_type" in adata.obs,
        BATCHED: "batch" in adata.obs,
        PAIRED: len(data.mod) > 1,
        GENES: key in ("rna", "spatial"),
        "barcoded": len(data.mod) > 1 and str(adata.obs_names[0]).endswith("-1"),
    }[who]


def planted(data, defect, seed):
    """Return a copy of ``data`` with one defect, and the codes that should tell it."""
    _, plant, codes = DEFECTS[defect]
    parts = {key: adata.copy() for key, adata in data.mod.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return woven(plant(parts, np.random.default_rng(seed))), codes


def sets_of(n_made, root):
    made_sets = {
        f"made_{style}_{other}_{seed}": made(seed, style, other)
        for seed in range(n_made)
        for style in ("human", "mouse", "ensembl")
        for other in ("prot", "atac")
    }
    return made_sets | (real(root) if root else {})


def alarms_of(data):
    """Give errors and warnings on clean data; logarithms said to be such are no false alarm."""
    found = validate(data).findings
    return [f for f in found if f.severity != "note" and f.code != "VALUES_LOG1P"]


def measure(sets):
    """Return planted, found, the misses, the number of clean sets and the false alarms."""
    n, misses, alarms = 0, [], []
    for name, data in sets.items():
        clean = {(f.code, f.place) for f in validate(data).findings}
        alarms += [(name, str(f)) for f in alarms_of(data)]
        for defect, (who, _, _) in DEFECTS.items():
            if not fits(data, who):
                continue
            dirty, codes = planted(data, defect, seed=n)
            found = validate(dirty).findings
            # A finding that was there before the defect does not tell it, unless its value changed.
            told = {f.code for f in found if (f.code, f.place) not in clean}
            grown = {f.code for f in found} if defect.startswith("empty") else set()
            n += 1
            if not codes & (told | grown):
                misses.append((name, defect, sorted(told)))
    return n, misses, len(sets), alarms


def speed(n_values):
    """Return seconds a pass over ``n_values`` stored values, as counts and as logarithms."""
    per_row = 2000
    n_rows, n_columns = max(n_values // per_row, 1), 20_000
    rng = np.random.default_rng(0)
    columns = np.sort(rng.choice(n_columns, per_row, replace=False))
    shift = rng.integers(0, n_columns, n_rows)
    matrix = sp.csr_matrix((n_rows, n_columns), dtype=np.float32)
    matrix.indices = ((columns[None] + shift[:, None]) % n_columns).ravel().astype(np.int32)
    matrix.indptr = np.arange(n_rows + 1, dtype=np.int64) * per_row
    matrix.data = rng.geometric(0.6, n_rows * per_row).astype(np.float32)
    summarise_values(matrix[:10])
    times = {}
    for name in ("counts", "log1p"):
        start = time.perf_counter()
        kind = summarise_values(matrix).kind
        times[f"{name} → {kind}"] = time.perf_counter() - start
        matrix.data = np.log1p(matrix.data * np.float32(0.7))
        summarise_values(matrix[:10])
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=100_000_000)
    parser.add_argument("--made", type=int, default=3, help="seeds of each kind of made data")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    sets = sets_of(arguments.made, os.environ.get("CELLWEAVE_DATA"))
    n, misses, n_clean, alarms = measure(sets)
    print(f"defects planted  {n}  ({len(DEFECTS)} kinds, {n_clean} data sets)")
    print(f"found            {n - len(misses)}  ({100 * (1 - len(misses) / n):.2f} %)")
    for miss in misses:
        print("  missed", *miss)
    print(f"false alarms     {len(alarms)} on {n_clean} clean data sets")
    for alarm in alarms:
        print("  alarm", *alarm)
    mended = sum(bool(fix(d, validate(d))[1]) for d in list(sets.values())[:3])
    print(f"clean sets changed by fix  {mended} of 3")
    for name, seconds in speed(arguments.values).items():
        rate = arguments.values / seconds / 1e6
        print(
            f"speed {name:28s} {seconds:6.2f} s for {arguments.values:.0e} values, 1 thread "
            f"({rate:.0f} M/s)"
        )


if __name__ == "__main__":
    main()
