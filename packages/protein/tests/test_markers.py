from __future__ import annotations

from importlib import resources

import pytest

from cellweave.errors import UnreadableFileError
from cellweave_protein import MarkerTable, is_hashtag, is_isotype, match_markers

CASES = {
    "CD8a_TotalSeqB": "CD8a",
    "anti-CD4": "CD4",
    "p_CD19": "CD19",
    "CD3-UCHT1": "CD3",
    "HLA-DR_L243": "HLA-DR",
    "CD8a-RPA-T8": "CD8a",
    "CD45RA_TotalSeqC": "CD45RA",
    "TCRγ/δ": "TCR gamma/delta",
    "TCR-alpha-beta": "TCR alpha/beta",
    "CD11b/Mac-1": "CD11b",
    "CD16/32": "CD16/32",
    "CD4-1": "CD4",
    "CD38-2": "CD38",
    "Hu.CD183": "CD183",
    "HuMs.CD44": "CD44",
    "CD56(NCAM)": "CD56",
    "NK.1.1": "NK-1.1",
    "F4.80": "F4/80",
    "CD45R_B220": "CD45R",
    "CD45.1": "CD45.1",
    "PD-L1": "CD274",
    "PD-1": "CD279",
    "CD62L-ACGTACGTACGTACG": "CD62L",
    "ADT_CD14": "CD14",
    "IgG-Fc": "IgG Fc",
    "CD3ε": "CD3",
    "KLRG1(MAFA)": "KLRG1",
    "integrinB7": "Integrin beta 7",
}


@pytest.mark.parametrize(("name", "marker"), CASES.items())
def test_names_mean_markers(name, marker):
    assert match_markers([name])["marker"].iloc[0] == marker


@pytest.mark.parametrize(
    ("marker", "genes"),
    [
        ("CD3", "CD3D|CD3E|CD3G"),
        ("CD45RO", "PTPRC"),
        ("HLA-DR", "HLA-DRA|HLA-DRB1|H2-Ea|H2-Eb1"),
        ("CD16", "FCGR3A|FCGR3B|Fcgr3|Fcgr4"),
        ("CD41/61", "ITGA2B|ITGB3"),
        ("CD56", "NCAM1"),
        ("CD127", "IL7R"),
    ],
)
def test_markers_mean_genes(marker, genes):
    assert match_markers([marker])["genes"].iloc[0] == genes


@pytest.mark.parametrize(
    "name",
    ["IgG1_control", "Mouse-IgG2a", "Rat_IgG2b", "Isotype_MOPC.21", "IgG1", "mouse IgG1 kappa"],
)
def test_isotype_controls(name):
    assert is_isotype(name)
    assert "isotype control" in match_markers([name])["reason"].iloc[0]


@pytest.mark.parametrize("name", ["HTO3", "Hashtag_1", "CMO301", "HTO_A", "anti-human Hashtag 4"])
def test_hashtags(name):
    assert is_hashtag(name)
    assert not is_isotype(name)
    assert "sample tag" in match_markers([name])["reason"].iloc[0]


@pytest.mark.parametrize(
    "name", ["CD4", "IgM", "IgG-Fc", "IgD", "PhotoCD", "CD1c", "Ig light chain kappa"]
)
def test_markers_are_no_controls(name):
    assert not is_isotype(name)
    assert not is_hashtag(name)


def test_misses_are_reported():
    row = match_markers(["Foo-1", "CD17"])
    assert row["reason"].tolist() == [
        "Foo-1 is in no name or alias of the marker table",
        "CD17: a lipid: no gene",
    ]


def test_the_table_is_sound():
    text = resources.files("cellweave_protein").joinpath("data/markers.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    assert {len(row) for row in rows} == {5}
    names = [row[0] for row in rows[1:]]
    assert len(names) >= 250
    assert len(set(names)) == len(names)
    for name, _, genes, mouse, note in rows[1:]:
        assert genes or mouse or note, name
        assert all(g == g.strip() and " " not in g for g in (genes + "|" + mouse).split("|")), name
        report = match_markers([name])
        assert report["marker"].iloc[0] == name, name


def test_own_table(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("marker,aliases,genes\nBlob,blobby|BLB,GENE1|GENE2\n")
    report = match_markers(["anti-blobby"], table=MarkerTable.read(path))
    assert report["genes"].iloc[0] == "GENE1|GENE2"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UnreadableFileError, match="marker, genes is missing"):
        MarkerTable.read(path)


@pytest.mark.parametrize(
    ("name", "marker", "genes"),
    [
        ("CD18/CD11a", "CD18/CD11a", "ITGB2|ITGAL"),
        ("CD61-CD41", "CD61/CD41", "ITGB3|ITGA2B"),
        ("CD335_NKp46", "CD335", "NCR1"),  # two names of one protein
        ("CD16_3G8", "CD16", "FCGR3A|FCGR3B|Fcgr3|Fcgr4"),
    ],
)
def test_two_names_are_a_dimer_or_one_protein(name, marker, genes):
    row = match_markers([name]).iloc[0]
    assert (row["marker"], row["genes"]) == (marker, genes)
