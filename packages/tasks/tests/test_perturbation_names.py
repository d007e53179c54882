"""Screens name their columns, control cells, pairs and guides in many ways."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from cellweave.errors import DataError
from cellweave_tasks import PerturbationTask, unseen_perturbations
from cellweave_tasks.perturbation_data import cells_of
from cellweave_tasks.perturbation_names import is_control, named_conditions, parse_condition

from .planted_perturbations import perturbed_cells


def cells(conditions, column="condition", genes=("KLF1", "AHR", "HLA-A", "MYC")):
    obs = pd.DataFrame({column: conditions}, index=[f"c{i}" for i in range(len(conditions))])
    made = ad.AnnData(np.ones((len(conditions), len(genes)), np.float32), obs=obs)
    made.var_names = list(genes)
    return made


@pytest.mark.parametrize(
    "name",
    ["ctrl", "control", "Control", "NT", "NT-3", "nt_12", "non-targeting", "non-targeting_00023",
     "nonTargeting-guide-2", "NTC", "AAVS1", "safe-targeting", "unperturbed", "DMSO", "negctrl1",
     "non-targeting control", "scramble"],
)  # fmt: skip
def test_usual_names_of_control(name):
    assert is_control(name, None)
    assert parse_condition(name, None) == ()


@pytest.mark.parametrize("name", ["NT5E", "CTRL1A", "WT1", "MOCK2B", "KLF1", "NEGR1", "NTRK1"])
def test_genes_are_no_control(name):
    # WT1 is a gene: a number straight behind the name of a control needs a separator
    assert not is_control(name, None)


def test_a_name_that_is_given_counts_alone():
    assert is_control("mine", "mine")
    assert not is_control("ctrl", "mine")
    found = named_conditions(cells(["mine", "KLF1+mine", "ctrl"]), None, "mine")
    assert found.units == [(), ("KLF1",), ("ctrl",)]


def test_the_column_is_found_by_what_it_names():
    screen = cells(["KLF1", "NT", "AHR"], column="perturbation")
    screen.obs["gene"] = ["x", "y", "z"]  # a usual name, and no control in it
    screen.obs["treatment"] = "much"
    assert named_conditions(screen, None, None).column == "perturbation"
    with pytest.raises(
        DataError, match=r"no column of perturbations.*It has: depth.*condition_key"
    ):
        named_conditions(cells(["a"], column="depth"), None, None)


def test_pairs_are_told_by_their_parts():
    found = named_conditions(cells(["KLF1_AHR", "ctrl", "KLF1_ctrl", "HLA-A", "x_y"]), None, None)
    assert found.units == [("AHR", "KLF1"), (), ("KLF1",), ("HLA-A",), ("x_y",)]
    assert named_conditions(cells(["KLF1;MYC", "NT"]), None, None).units[0] == ("KLF1", "MYC")


def test_guides_of_one_gene_are_one_perturbation():
    labels = ["KLF1_1", "sgKLF1-2", "AHR_g3", "HLA-A_1", "non-targeting_7", "MYC_1"]
    found = named_conditions(cells(labels, column="guide_identity"), None, None)
    assert found.units == [("KLF1",), ("KLF1",), ("AHR",), ("HLA-A",), (), ("MYC",)]
    drugs = named_conditions(cells(["drug_1", "drug_2", "KLF1_1", "ctrl"]), None, None)
    assert drugs.units[:2] == [("drug_1",), ("drug_2",)]


def test_all_guides_of_a_gene_stay_on_one_side():
    labels = [f"G{i}_{g}" for i in range(6) for g in (1, 2)] + ["NT_1", "NT_2"]
    screen = cells(labels * 5, column="guide", genes=[f"G{i}" for i in range(6)])
    split = unseen_perturbations(screen)
    sides = [{n.split("_")[0] for n in screen.obs["guide"].iloc[s] if n[0] == "G"}
             for s in (split.train, split.test)]  # fmt: skip
    assert not sides[0] & sides[1]
    assert sides[1]


def test_what_was_found_is_told_in_the_summary():
    screen = perturbed_cells(["ctrl", "G0", "G1", "G2"])
    screen.obs = screen.obs.rename(columns={"condition": "perturbation"})
    screen.obs["perturbation"] = screen.obs["perturbation"].replace("ctrl", "non-targeting")
    split = unseen_perturbations(screen)
    scores = PerturbationTask().fit(screen[split.train]).evaluate(screen[split.test])
    assert scores.summary["columns"]["condition"] == "perturbation"
    units = cells_of(screen, None, None, "auto")
    assert units.columns["control"] == ["non-targeting"]
    assert len(units.perturbed()) == 3


def test_missing_conditions_are_refused_for_cells_given():
    with pytest.raises(DataError, match="1 of 3 cells lack a condition"):
        cells_of(cells(["KLF1", None, "NT"]), None, None, None)
    with pytest.raises(DataError, match="1 of 3 cells lack a condition"):
        cells_of(cells(["KLF1", "nan", "NT"]), None, None, None)
