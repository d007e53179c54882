"""The commands of the gene tasks, from files to a page and a table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cellweave.cli.app import main

from .planted_perturbations import perturbed_cells
from .test_drug import world
from .test_genesets import SETS, labelled
from .test_neighbourhood import niches
from .test_networks import N_TARGETS, regulated
from .test_real_models import cells, geneformer


def run(*arguments, capsys):
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def not_counts(adata):
    adata.X = np.asarray(adata.X) + 0.25
    return adata


def test_drugs_from_three_tables(tmp_path, capsys):
    lines, responses, drugs = world()
    not_counts(lines).write_h5ad(tmp_path / "lines.h5ad")
    responses.to_csv(tmp_path / "r.csv", index=False)
    drugs.to_csv(tmp_path / "d.csv")
    tables = ["--set", f"responses={tmp_path / 'r.csv'}", "--set", f"drugs={tmp_path / 'd.csv'}"]
    data = f"rna={tmp_path / 'lines.h5ad'}"
    out = run("task", "drug", data, *tables, "--set", "blind=both", "--split",
              "unseen:drug+cell_line=0.3", "--report", tmp_path / "p.html", "--predict", data,
              "--predictions", tmp_path / "said.csv", "--json", capsys=capsys)  # fmt: skip
    shown = json.loads(out)
    assert shown["split"] == "unseen drug and cell_line 0.3"
    assert "beats the best baseline" in shown["summary"]["headline"]
    said = pd.read_csv(tmp_path / "said.csv", index_col=0)
    assert len(said) == len(responses)
    assert (
        np.corrcoef(said["value"], responses.sort_values(["cell_line", "drug"])["response"])[0, 1]
        > 0.9
    )
    assert "Measured and predicted" in (tmp_path / "p.html").read_text()
    out = run("bench", "drug", data, *tables, "--methods", "bilinear,ridge", "--seeds", "2",
              "--split", "unseen:drug=0.3", capsys=capsys)  # fmt: skip
    assert "bilinear on X_pca" in out


def test_networks_and_their_links_as_a_table(tmp_path, capsys):
    regulated().write_h5ad(tmp_path / "c.h5ad")
    links = [(f"r{i // 6}", f"t{i}") for i in range(N_TARGETS)]
    pd.DataFrame(links, columns=["source", "target"]).to_csv(tmp_path / "n.csv", index=False)
    data = f"rna={tmp_path / 'c.h5ad'}"
    out = run("task", "networks", data, "--set", f"network={tmp_path / 'n.csv'}", "--set",
              "method=partial", "--split", "fraction:0.5", "--predict", data, "--predictions",
              tmp_path / "links.csv", "--report", tmp_path / "n.html", capsys=capsys)  # fmt: skip
    assert "auprc_ratio" in out
    table = pd.read_csv(tmp_path / "links.csv", index_col=0)
    assert " -> " in table.index[0]
    assert list(table.columns) == ["value", "confidence"]


def test_sets_surroundings_and_pairs(tmp_path, capsys):
    labelled().write_h5ad(tmp_path / "c.h5ad")
    (tmp_path / "s.gmt").write_text("\n".join("\t".join([k, "", *v]) for k, v in SETS.items()))
    out = run("task", "genesets", f"rna={tmp_path / 'c.h5ad'}", "--set",
              f"gene_sets={tmp_path / 's.gmt'}", "--set", "method=linear", "--split",
              "fraction:0.4", capsys=capsys)  # fmt: skip
    assert "linear kernels of gene sets" in out
    niches().write_h5ad(tmp_path / "t.h5ad")
    out = run("task", "neighbourhood", f"rna={tmp_path / 't.h5ad'}", "--split", "tiles:0.3",
              capsys=capsys)  # fmt: skip
    assert "MEAN OF THE CELL'S TYPE" in out
    screen = perturbed_cells(["ctrl", *(f"G{i}+ctrl" for i in range(5)), "G0+G1", "G2+G3", "G1+G4"])
    screen.write_h5ad(tmp_path / "p.h5ad")
    out = run("task", "perturbation", f"rna={tmp_path / 'p.h5ad'}", "--split", "pairs:2", "--set",
              "method=graph", capsys=capsys)  # fmt: skip
    assert "the mean of training perturbations" in out


def test_edits_in_a_model_from_a_folder(tmp_path, capsys):
    pytest.importorskip("cellweave_geneformer")
    geneformer().save(tmp_path / "model")
    cells(n=60).write_h5ad(tmp_path / "c.h5ad")
    data = f"rna={tmp_path / 'c.h5ad'}"
    out = run("task", "insilico", data, "--set", f"model={tmp_path / 'model'}", "--set", "start=a",
              "--set", "goal=b", "--set", "min_cells=5", "--split", "fraction:0.5", "--report",
              tmp_path / "i.html", "--predict", data, "--predictions", tmp_path / "genes.csv",
              capsys=capsys)  # fmt: skip
    assert "EXPRESSION DIFFERENCE" in out
    table = pd.read_csv(tmp_path / "genes.csv", index_col=0)
    assert list(table.columns) == ["shift", "p", "q", "n_cells", "confidence"]
    assert (table["shift"].diff().dropna() <= 0).all()
    assert "What editing each gene does" in (tmp_path / "i.html").read_text()
