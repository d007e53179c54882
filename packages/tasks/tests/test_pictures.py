"""Pages of the gene tasks: the right picture is there, whole, and says what to look for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from cellweave.reporting.page import render_page, write_figures
from cellweave_tasks.annotation import AnnotationTask
from cellweave_tasks.drug import DrugTask
from cellweave_tasks.genes import GeneTask
from cellweave_tasks.genesets import GeneSetTask
from cellweave_tasks.insilico import InSilicoTask
from cellweave_tasks.neighbourhood import NeighbourhoodTask
from cellweave_tasks.networks import NetworkTask
from cellweave_tasks.pages import task_page
from cellweave_tasks.perturbation import PerturbationTask
from cellweave_tasks.perturbation_splits import unseen_perturbations
from cellweave_tasks.pictures import precision_recall
from cellweave_tasks.screens import simulate_screen
from cellweave_tasks.splits import by_unseen

from .hand_made_model import hand_model, two_states
from .test_annotation import blobs
from .test_drug import pairs
from .test_genes import genes
from .test_genesets import SETS, labelled
from .test_neighbourhood import niches
from .test_networks import N_TARGETS, regulated


def network_case(tmp_path):
    path = tmp_path / "links.csv"
    links = [(f"r{i // 6}", f"t{i}") for i in range(N_TARGETS)]
    pd.DataFrame(links, columns=["source", "target"]).to_csv(path, index=False)
    return NetworkTask(network=str(path)), regulated(), regulated(seed=1)


def screen_case(tmp_path):
    cells = simulate_screen(n_genes=120, n_perturbed=24, n_pairs=8, n_cells=15, n_control=100)
    split = unseen_perturbations(cells, seed=1)
    return PerturbationTask(method="graph"), cells[split.train].copy(), cells[split.test].copy()


def drug_case(tmp_path):
    cells = pairs()
    split = by_unseen(cells, ["cell_line"], test_share=0.3)
    return DrugTask(blind="cell"), cells[split.train].copy(), cells[split.test].copy()


def novelty_case(tmp_path):
    train = blobs(n=30, seed=0)
    new = sorted(set(train.obs["cell_type"]))[-1]
    return AnnotationTask(), train[(train.obs["cell_type"] != new).to_numpy()], blobs(n=30, seed=1)


CASES = {
    "network": (network_case, {"precision-recall"}),
    "sets": (lambda p: (GeneSetTask(gene_sets=SETS), labelled(), labelled(seed=1)), {"gene-sets"}),
    "drug": (drug_case, {"responses", "drugs"}),
    "edits": (
        lambda p: (
            InSilicoTask(model=hand_model(), start="start", goal="goal"),
            two_states(),
            two_states(seed=1),
        ),
        {"shifts", "precision-recall"},
    ),
    "surroundings": (lambda p: (NeighbourhoodTask(), niches(), niches(seed=1)),
                     {"map-3-measured", "map-3-predicted", "types"}),
    "genes": (lambda p: (GeneTask(), genes(), genes(seed=1)), {"precision-recall"}),
    "screen": (screen_case, {"likeness", "change-0"}),
    "novelty": (novelty_case, {"confusion", "novelty"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_page_has_its_pictures(case, tmp_path):
    make, wanted = CASES[case]
    task, train, test = make(tmp_path)
    scores = task.fit(train).evaluate(test)
    page = task_page(task, test, scores, split="by hand")
    assert wanted <= {f.name for f in page.figures()}
    text = render_page(page).decode()
    assert text == render_page(task_page(task, test, scores, split="by hand")).decode()
    assert scores.summary["headline"].split(" (")[0][:40] in text.replace("&#39;", "'")
    if os.environ.get("CELLWEAVE_PICTURES"):
        write_figures(Path(os.environ["CELLWEAVE_PICTURES"]) / case, page, formats=["png"])


def test_curves_hold_the_area_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, values = rng.random(5000) < 0.1, rng.normal(size=5000)
    ax = precision_recall({"mine": (truth, values + truth), "other": (truth, values)})
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts[0] == f"mine  {average_precision_score(truth, values + truth):.3f}"
    assert texts[-1] == f"chance  {truth.mean():.3f}"
    assert len(ax.lines[0].get_xdata()) <= 2000
