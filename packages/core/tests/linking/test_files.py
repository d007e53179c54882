"""Links in files come back as they were; wrong tables are refused with words."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.datasets import simulate, true_links
from cellweave.errors import CellweaveError, DataError, UnreadableFileError
from cellweave.linking import holds_links, read_links, write_links


@pytest.fixture(scope="module")
def data():
    return simulate(n_cells=20, modalities=("rna", "atac", "prot"), seed=0)


@pytest.fixture(scope="module")
def links(data):
    return true_links(data)


def as_rows(links):
    frames = [k.to_frame().assign(a=k.source, b=k.target) for k in links]
    return sorted(map(tuple, np.concatenate([f.astype(str).to_numpy() for f in frames])))


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_tables_hold_several_pairs(tmp_path, data, links, suffix):
    path = tmp_path / f"links{suffix}"
    write_links(links, path)
    assert len(links) > 1
    assert as_rows(read_links(path, data)) == as_rows(links)


def test_record_holds_one_pair(tmp_path, data, links):
    with pytest.raises(DataError, match="one pair"):
        write_links(links, tmp_path / "links.npz")
    write_links(links[:1], tmp_path / "links.npz")
    assert as_rows(read_links(tmp_path / "links.npz", data)) == as_rows(links[:1])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.tsv", "gene\tpeak\nA\tB\n", "no column 'source'"),
        ("b.tsv", "source\ttarget\nA\tB\n", "does not say which modalities"),
        ("c.xlsx", "x", "Use one of"),
        ("d.parquet", "no parquet", "Cannot read links"),
        (
            "e.csv",
            "source,target,source_modality,target_modality\nA,B,rna,atac\n",
            "None of the 1 links",
        ),
        (
            "f.csv",
            "source,target,source_modality,target_modality\nA,B,rna,hic\n",
            "'hic', which is not among",
        ),
    ],
)
def test_wrong_tables_are_refused(tmp_path, data, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(CellweaveError, match=words):
        read_links(tmp_path / name, data)


def test_a_missing_file_says_how_to_make_one(tmp_path, data):
    with pytest.raises(UnreadableFileError, match="cellweave links"):
        read_links(tmp_path / "gone.tsv", data)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.tsv", "source\ttarget\nA\tB\n", True),
        ("a.csv", "source,peak\nA,B\n", True),  # told by `read_links`
        ("a.tsv", "metabolite\tgene\nserine\tSDS\n", False),
        ("a.npz", "", True),
    ],
)
def test_a_table_that_leads_to_links_is_told_from_links(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert holds_links(tmp_path / name) is expected
    assert holds_links(tmp_path / "gone.tsv")
