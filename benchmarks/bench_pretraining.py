"""A real pretraining, and what its embedding knows of cells it never saw.

    OMP_NUM_THREADS=1 python benchmarks/bench_pretraining.py --data $CELLWEAVE_DATA [--quick]

Every RNA set of the data folder in one vocabulary (human symbols; mouse genes by orthologue), or
simulated cells without a folder. A fifth of the cells of every set is held out of everything.
On each set (2 000 cells at most to learn from, 1 000 to be judged by) a linear probe (logistic
regression) and 15 nearest neighbours by cosine learn the labels from the training cells and name
the held-out ones, from our embedding, from the same model before training (embeddings of genes at
random, and from factors of the data), from 50 principal components and the 2 000 most variable
genes, the last two fitted to that set alone. All is as `cellweave pretrain` does it when only data
and output are named. Defaults were chosen with `--validate`, which holds out a fifth of the
training cells in place of those that judge.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import tempfile
import time
import warnings
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from cellweave.datasets import simulate
from cellweave_nn import PretrainConfig, TrainingSettings, load_model, pretrain
from cellweave_nn.adapt.distil import distil
from cellweave_nn.adapt.prune import prune_heads
from cellweave_nn.adapt.quantise import quantise

# -------------------------------------------------------------------- cells


def real_sets(root):
    """Return raw or log-normalised RNA by name, in human symbols where they are known."""
    rna = {
        "cite": mudata.read_h5mu(root / "cite_pbmc10k_10x/cite_pbmc10k_10x.h5mu")["rna"],
        "snare": mudata.read_h5mu(root / "snare_mouse_cortex/snare_mouse_cortex.h5mu")["rna"],
        "mixology": ad.read_h5ad(root / "mixology_celllines/mixology_celllines.h5ad"),
        "kang": ad.read_h5ad(root / "kang_ifnb_1975/kang_ifnb_1975.h5ad"),
        "symphony": ad.read_h5ad(root / "pbmc_symphony_1200/pbmc_symphony_1200.h5ad"),
        "pdac": ad.read_h5ad(root / "pdac_a_sc_and_st/pdac_a_scrna.h5ad"),
        "visium": ad.read_h5ad(root / "visium_dlpfc_151510/visium_dlpfc_151510.h5ad"),
    }
    rna["mixology"] = rna["mixology"][rna["mixology"].obs["demuxlet_cls"] == "SNG"]
    symbol = symbols(root / "vocab/cellxgene_genes_homo_sapiens.csv.gz")
    human = orthologues(root / "vocab/human_mouse_orthologs_ensembl105.csv")
    for name, adata in rna.items():
        names = [symbol.get(v, v) for v in adata.var_names]
        if name == "snare":
            names = [human.get(v, v) for v in names]
        rna[name] = plain(adata, names, logged=name in ("kang", "symphony"))
    return rna


def symbols(path):
    with gzip.open(path, "rt") as file:
        return {row[0]: row[1] for row in csv.reader(file)}


def orthologues(path):
    with path.open() as file:
        return {row[1]: row[0] for row in csv.reader(file) if row[1]}


def simulated_sets(n):
    rna = simulate(n_cells=n, modalities=["rna"], n_types=12, batches=3, n_genes=1000)["rna"]
    return {"simulated": plain(rna, list(rna.var_names), logged=False)}


def plain(adata, names, *, logged):
    """Return log-normalised values, labels, one column a name, genes of three cells or more."""
    x = sp.csr_matrix(adata.X, dtype=np.float32)
    if not logged:
        depth = np.asarray(x.sum(1)).ravel()
        x = sp.diags(1e4 / np.maximum(depth, 1)) @ x
        x = x.log1p()
    x = sp.csr_matrix(x, dtype=np.float32)
    kept = ~pd.Index(names).duplicated() & (x.getnnz(0) >= 3)
    made = ad.AnnData(x[:, kept], var=pd.DataFrame(index=np.array(names)[kept]))
    made.obs["cell_type"] = adata.obs["cell_type"].astype("object").to_numpy()
    return made[made.X.getnnz(1) >= 20].copy()


def divided(n, seed=0):
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[n // 5 :]), np.sort(order[: n // 5])


def drawn(rows, most, seed=0):
    """Draw at most so many rows to judge with; a probe needs no more."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


# -------------------------------------------------------------------- what an embedding knows


def scores(train_x, train_y, test_x, test_y):
    scale = StandardScaler().fit(train_x)
    probe = LogisticRegression(max_iter=300, C=0.1).fit(scale.transform(train_x), train_y)
    linear = probe.predict(scale.transform(test_x))
    nearest = KNeighborsClassifier(15).fit(normalised(train_x), train_y)
    near = nearest.predict(normalised(test_x))
    return (
        np.mean(linear == test_y),
        f1_score(test_y, linear, average="macro"),
        np.mean(near == test_y),
        f1_score(test_y, near, average="macro"),
    )


def most_variable(adata, train, n=2000):
    """Return the genes that vary most for their mean."""
    x = adata.X[train]
    mean = np.asarray(x.mean(0)).ravel()
    variance = np.asarray(x.multiply(x).mean(0)).ravel() - mean**2
    bins = pd.qcut(mean, 20, labels=False, duplicates="drop")
    spread = np.log(variance + 1e-9)
    usual = pd.Series(spread).groupby(bins).transform("median").to_numpy()
    return np.argsort(usual - spread)[:n]


def variable(adata, train):
    """Return the 2 000 genes that vary most for their mean: as they are, and scaled."""
    best = most_variable(adata, train)
    x = adata.X.toarray()
    mean = x[train].mean(0)
    scale = np.maximum(x[train][:, best].std(0), 1e-3)
    return x[:, best], np.clip((x[:, best] - mean[best]) / scale, -10, 10)


def normalised(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def judged(adata, split, most):
    """Return labels, and the training and held-out rows of types with ten cells to learn from."""
    train, test = (drawn(rows, n) for rows, n in zip(split, (most, most // 2), strict=True))
    label = adata.obs["cell_type"].to_numpy()
    counts = pd.Series(label[train]).value_counts()
    enough = set(counts.index[counts >= 10])
    return label, *(rows[[y in enough for y in label[rows]]] for rows in (train, test))


def rows_of_set(name, adata, split, models, arguments):
    """Score every form of one set; print and return a row each."""
    label, train, test = judged(adata, split, arguments.most)
    genes, scaled = variable(adata, train)
    pca = PCA(min(50, genes.shape[1]), random_state=0).fit(scaled[train])
    used = np.concatenate([train, test])
    forms = {"HVG": genes[used], "PCA": pca.transform(scaled[used])}
    for form, model in models.items():
        found = model.embed(adata[used].copy(), batch_size=128, device=arguments.device)
        forms[form] = found.values
    rows = []
    for form, x in forms.items():
        n = len(train)
        found = scores(x[:n], label[train], x[n:], label[test])
        rows.append((form, *found))
        print(f"{name:>10}{len(test):>10}{len(set(label[train])):>7}  {form:<12}{found[0]:>10.3f}"
              f"{found[1]:>7.3f}{found[2]:>9.3f}{found[3]:>7.3f}", flush=True)  # fmt: skip
    return rows


def compare(sets, splits, models, arguments):
    """Print a row a set and an embedding, then the means over sets."""
    print(f"\n{'set':>10}{'held out':>10}{'types':>7}  {'embedding':<12}"
          f"{'probe acc':>10}{'F1':>7}{'kNN acc':>9}{'F1':>7}")  # fmt: skip
    rows = []
    for name, adata in sets.items():
        if arguments.only in (None, name):
            rows += rows_of_set(name, adata, splits[name], models, arguments)
    print()
    for form, found in pd.DataFrame(rows).groupby(0, sort=False).mean().iterrows():
        print(f"{'mean':>10}{'':>17}  {form:<12}{found[1]:>10.3f}{found[2]:>7.3f}"
              f"{found[3]:>9.3f}{found[4]:>7.3f}")  # fmt: skip


# -------------------------------------------------------------------- smaller models


def smaller(model, cells, arguments):
    """Yield what can be made of a model, by name."""
    yield "as trained", model
    yield "bf16", quantise(model, to="bf16")
    yield "int8", quantise(model, to="int8")
    yield "half the heads", prune_heads(model, cells[:500].copy(), share=0.5)
    width = model.config.encoder.parameters["width"]
    training = TrainingSettings(
        steps=max(arguments.steps // 3, 1), cells_per_slot=64, learning_rate=1e-3
    )
    for name, parameters in {
        "student, 1 block": {"depth": 1},
        "student, half as wide": {"width": width // 2, "hidden": width},
    }.items():
        yield name, distil(model, cells, parameters=parameters, training=training).model


def folder_size(model):
    with tempfile.TemporaryDirectory() as temporary:
        model.save(Path(temporary) / "model")
        return (Path(temporary) / "model" / "model.safetensors").stat().st_size / 2**20


def costs(model, cells, sets, splits, most, arguments):
    """Print size, speed and accuracy of smaller models; means over sets of held-out cells."""
    print(f"\n{'model':<24}{'MiB':>7}{'cells/s':>9}{'cosine':>8}{'probe':>8}{'kNN':>7}")
    whole = {}
    for name, small in smaller(model, cells, arguments):
        begun, n, rows, cosines = time.process_time(), 0, [], []
        for key, adata in sets.items():
            label, train, test = judged(adata, splits[key], most)
            used = np.concatenate([train, test])
            x = small.embed(adata[used].copy(), batch_size=128).values
            n += len(used)
            if x.shape == whole.setdefault(key, x).shape:
                cosines.append(np.mean(np.sum(normalised(x) * normalised(whole[key]), axis=1)))
            rows.append((x, label[train], label[test]))
        rate = n / (time.process_time() - begun)
        found = np.mean([scores(x[: len(a)], a, x[len(a) :], b) for x, a, b in rows], axis=0)
        cosine = np.mean(cosines) if cosines else float("nan")
        print(f"{name:<24}{folder_size(small):>7.1f}{rate:>9.0f}{cosine:>8.4f}{found[0]:>8.3f}"
              f"{found[2]:>7.3f}", flush=True)  # fmt: skip


# -------------------------------------------------------------------- pretraining


def config_of(cells, output, arguments, start="auto", **changes):
    """Return the defaults, but for what is asked for."""
    training = {
        "steps": arguments.steps,
        "cells_per_slot": arguments.cells,
        "learning_rate": arguments.rate,
        "warmup": arguments.steps // 20,
        "save_every": 100,
        "device": arguments.device,
        "precision": arguments.precision,
        **changes,
    }
    values = {"data": str(cells), "output": str(output), "start": start, "training": training}
    chosen = PretrainConfig.model_validate(values).model_dump(mode="json")
    chosen["tokenizer"]["parameters"] |= {"limit": arguments.limit, "only_variable": True}
    chosen["encoder"]["parameters"] |= {"width": arguments.width, "depth": arguments.depth}
    return PretrainConfig.model_validate(chosen)


def pretrained(path, place, arguments):
    """Train, and write untrained twins beside it; what is there already is gone on with."""
    # A rate of nothing leaves the weights where they start.
    still = {"steps": 1, "warmup": 0, "learning_rate": 1e-30, "cells_per_slot": 8}
    for start in ("random", "factors"):
        pretrain(config_of(path, place / start, arguments, start, **still))
    begun = time.perf_counter(), time.process_time()
    pretrain(
        config_of(path, place / "run", arguments),
        progress=lambda p: p.step % 25 or print(p.step, round(p.metrics["loss"], 4), flush=True),
    )
    took = time.perf_counter() - begun[0], time.process_time() - begun[1]
    print(f"{arguments.steps} steps of {arguments.cells} cells in {took[0] / 60:.1f} min "
          f"({took[1] / 60:.1f} min of CPU time), reading included")  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=os.environ.get("CELLWEAVE_DATA"))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="Folder for the run; a temporary one if not set.")
    parser.add_argument("--parts", default="train,judge,smaller", help="Which, by commas.")
    parser.add_argument("--only", help="Judge on one set.")
    parser.add_argument("--most", type=int, default=2000, help="Cells a set to learn labels from.")
    parser.add_argument("--validate", action="store_true", help="Choose, do not judge.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--limit", type=int, default=512)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--simulated", type=int, default=200_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.cells, arguments.simulated = 20, 32, 2000
        arguments.limit, arguments.data = 64, None
    warnings.filterwarnings("ignore")
    mudata.set_options(pull_on_update=False)
    sets = (
        real_sets(Path(arguments.data)) if arguments.data else simulated_sets(arguments.simulated)
    )
    if arguments.validate:
        sets = {k: v[divided(v.n_obs)[0]].copy() for k, v in sets.items()}
    splits = {name: divided(adata.n_obs) for name, adata in sets.items()}
    cells = ad.concat(sets, join="outer", fill_value=0.0, index_unique="-")
    cells.X = sp.csr_matrix(cells.X)
    # Genes that vary in some set, as for the components beside it: the others are mostly noise.
    names = {v.var_names[g] for k, v in sets.items() for g in most_variable(v, splits[k][0])}
    cells.var["highly_variable"] = cells.var_names.isin(names)
    train = np.concatenate([np.isin(np.arange(v.n_obs), splits[k][0]) for k, v in sets.items()])
    print(
        f"{cells.n_obs} cells of {len(sets)} sets, {cells.n_vars} genes; {train.sum()} trained on"
    )
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        if "train" in arguments.parts:
            cells[train].write_h5ad(place / "cells.h5ad")
            pretrained(place / "cells.h5ad", place, arguments)
        names = {"random init": "random", "factors": "factors", "ours": "run"}
        models = {form: load_model(place / name / "model") for form, name in names.items()}
        print(f"{models['ours'].n_parameters / 1e6:.1f} M parameters")
        if "judge" in arguments.parts:
            compare(sets, splits, models, arguments)
        if "smaller" in arguments.parts:
            fewer = 20 if arguments.quick else min(arguments.most, 400)
            costs(models["ours"], cells[train].copy(), sets, splits, fewer, arguments)


if __name__ == "__main__":
    main()
