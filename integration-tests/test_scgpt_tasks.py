"""scGPT's published uses from the command line: reference mapping, and a network of genes."""

from __future__ import annotations

import json
from collections import Counter

import anndata
import numpy as np
import pytest

import cellweave
from cellweave.cli.app import main
from cellweave_scgpt import ScgptModel
from cellweave_tasks import NetworkTask


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Write a model, a reference and a query whose types nobody looked at."""
    folder = tmp_path_factory.mktemp("scgpt")
    cells = cellweave.datasets.simulate(n_cells=240, modalities=("rna",), seed=4)["rna"]
    cells = cells[:, np.argsort(-cells.X.toarray().var(axis=0))[:120]].copy()
    model = ScgptModel.untrained(cells, width=32, depth=1, heads=2, hidden=32, max_length=100)
    model.save(folder / "scGPT")
    cells[:180].copy().write_h5ad(folder / "reference.h5ad")
    cells[180:].copy().write_h5ad(folder / "query.h5ad")
    for name in ("reference", "query"):
        arguments = [str(folder / "scGPT"), str(folder / f"{name}.h5ad")]
        out = str(folder / f"{name}_embedded.h5ad")
        assert main(["embed", *arguments, "-o", out, "--key", "X_scgpt"]) == 0
    return folder


def test_a_query_gets_the_label_that_most_neighbours_in_the_reference_have(place):
    reference, query, out = (
        str(place / f"{n}.h5ad") for n in ("reference_embedded", "query_embedded", "labels")
    )
    settings = ["use_rep=X_scgpt", "method=knn", "unknown_rate=0"]
    chosen = [part for s in settings for part in ("--set", s)]
    arguments = ["task", "annotation", f"rna={reference}", "--predict", f"rna={query}"]
    assert main([*arguments, "--test", f"rna={query}", "--predictions", out, *chosen]) == 0
    known, asked = anndata.read_h5ad(reference), anndata.read_h5ad(query)
    found = anndata.read_h5ad(out).obs["prediction"].astype(str).to_numpy()
    types = known.obs["cell_type"].astype(str).to_numpy()
    mean, spread = known.obsm["X_scgpt"].mean(0), known.obsm["X_scgpt"].std(0)
    near, far = ((a.obsm["X_scgpt"] - mean) / spread for a in (known, asked))
    gaps = np.linalg.norm(near[None] - far[:, None], axis=2)
    nearest = types[np.argsort(gaps, axis=1)[:, :15]]
    votes = [Counter(row).most_common() for row in nearest.tolist()]
    clear = np.array([len(v) == 1 or v[0][1] > v[1][1] + 4 for v in votes])
    assert clear.sum() > 10
    assert (found[clear] == np.array([v[0][0] for v in votes])[clear]).mean() > 0.9


def test_a_network_stands_on_the_embeddings_of_genes(place):
    model = cellweave.load(place / "scGPT")
    genes = model.gene_embeddings()
    genes.save(place / "genes.npz")
    cells = anndata.read_h5ad(place / "reference.h5ad")
    task = NetworkTask(method="embedding", use_rep=str(place / "genes.npz"), max_genes=40)
    table = task.fit(cells).table()
    centred = genes.values.astype(np.float64) - genes.values.mean(0, dtype=np.float64)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    row = {str(name): i for i, name in enumerate(genes.names)}
    first = table.iloc[0]
    cosine = unit[row[first["source"]]] @ unit[row[first["target"]]]
    assert first.iloc[2] == pytest.approx(cosine, abs=1e-5)
    assert len(task.programmes(cells).genes) > 0


def test_from_a_file_of_embeddings_and_a_known_network(place, tmp_path, capsys):
    names = anndata.read_h5ad(place / "reference.h5ad").var_names[:12].tolist()
    links = "\n".join(f"{a},{b}" for a, b in zip(names[:6], names[6:], strict=True))
    (tmp_path / "links.csv").write_text(f"source,target\n{links}\n")
    cellweave.load(place / "scGPT").gene_embeddings().save(place / "genes.npz")
    arguments = ["task", "networks", f"rna={place / 'reference.h5ad'}", "--json"]
    settings = [f"network={tmp_path / 'links.csv'}", f"use_rep={place / 'genes.npz'}"]
    chosen = [part for s in settings for part in ("--set", s)]
    assert main([*arguments, *chosen]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "coexpression" in json.dumps(said)
