from __future__ import annotations

import gzip

import pandas as pd
import pytest

from cellweave.errors import DataError, UnreadableFileError
from cellweave.linking import (
    locate_genes,
    open_limited,
    read_gene_table,
    region_columns,
    regions_of,
    require_regions,
    share_of_regions,
)

GTF = """#!genome-build test
1\tens\tgene\t1001\t2000\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "AAA";
1\tens\texon\t1001\t1100\t.\t+\t.\tgene_id "ENSG00000000001.5"; gene_name "AAA";
X\tens\tgene\t11\t20\t.\t-\t.\tgene_id "ENSG00000000002"; gene_name "BBB";
Y\tens\tgene\t11\t90\t.\t-\t.\tgene_id "ENSG00000000003"; gene_name "BBB";
KI270.1\tens\tgene\t1\t99999\t.\t-\t.\tgene_id "ENSG00000000004"; gene_name "AAA";
"""


@pytest.fixture
def gtf(tmp_path):
    path = tmp_path / "genes.gtf.gz"
    path.write_bytes(gzip.compress(GTF.encode()))
    return path


@pytest.mark.parametrize(
    "name",
    [
        "chr1:10-20",
        "chr1-10-20",
        "chr1_10_20",
        "1:10-20",
        "chr1:10..20",
        "chr1:1,0-2,0",
        "chr1:10-20:+",
    ],
)
def test_dialects_of_names(name):
    regions = regions_of(pd.DataFrame(index=[name]))
    assert (regions.chrom[0], regions.starts[0], regions.ends[0]) == ("1", 10, 20)


def test_scaffolds_keep_their_underscores():
    regions = regions_of(pd.DataFrame(index=["chr1_KI270706v1_random-100-200", "HLA-A*01:01-5-9"]))
    assert regions.chrom.tolist() == ["1_KI270706v1_random", "HLA-A*01:01"]


@pytest.mark.parametrize(
    "columns", [("chrom", "chromStart", "chromEnd"), ("chrom", "start", "end")]
)
def test_columns_come_before_names(columns):
    var = pd.DataFrame([["chr2", 5, 9]], columns=columns, index=["chr1:10-20"])
    assert regions_of(var).chrom[0] == "2"
    assert region_columns(var).iloc[0].tolist() == ["chr2", 5, 9]


def test_problems_name_the_feature_and_the_reason():
    regions = regions_of(pd.DataFrame(index=["chr1:20-10", "GAPDH"]))
    assert regions.problems[0] == "chr1:20-10 runs from 20 to 10; expected 0 <= start < end"
    assert "GAPDH has no coordinates" in regions.problems[1]
    with pytest.raises(DataError, match=r"No feature of the peaks has coordinates.*give `genes`"):
        require_regions(regions, what="the peaks")


def test_mitochondrion_meets_itself():
    regions = regions_of(pd.DataFrame(index=["chrM:1-2", "MT:1-2"]))
    assert regions.chrom.tolist() == ["M", "M"]


def test_genes_are_no_regions():
    assert share_of_regions(pd.Index(["GAPDH", "RP11-206-3", "HLA-A", "chr1:1-2"])) == 0.25


def test_gtf_is_one_based_and_versions_go(gtf):
    table = read_gene_table(gtf)
    row = table.frame[table.frame["id"] == "ENSG00000000001"].iloc[0]
    assert (row["start"], row["end"], row["symbol"]) == (1000, 2000, "AAA")


def test_one_symbol_at_many_loci_means_the_main_one(gtf):
    """A chromosome before a scaffold, X before Y, though the others are longer."""
    regions = locate_genes(pd.DataFrame(index=["AAA", "BBB"]), read_gene_table(gtf))
    assert regions.chrom.tolist() == ["1", "X"]


def test_genes_are_found_by_any_naming(gtf):
    table = read_gene_table(gtf)
    names = ["ENSG00000000001.77", "aaa", "AAA", "zzz"]
    var = pd.DataFrame({"gene_ids": ["", "", "", "ENSG00000000002"]}, index=names)
    regions = locate_genes(var, table)
    assert regions.starts.tolist() == [1000, 1000, 1000, 10]
    missing = locate_genes(pd.DataFrame(index=["nope"]), table)
    assert missing.problems[0] == "nope is not in the gene table genes.gtf.gz"


def test_own_coordinates_come_first(gtf):
    var = pd.DataFrame(
        {"chrom": ["chr7", ""], "chromStart": [5, 0], "chromEnd": [9, 0]}, index=["AAA", "BBB"]
    )
    regions = locate_genes(var, read_gene_table(gtf))
    assert regions.chrom.tolist() == ["7", "X"]
    assert not regions.problems


def test_coordinate_table_is_one_based_unless_bed(tmp_path):
    for head, start in (
        ("chrom\tstart\tend\tgene_id\tsymbol\tstrand", 9),
        ("chrom,chromStart,chromEnd,id", 10),
    ):
        path = tmp_path / "t.tsv"
        separator = "\t" if "\t" in head else ","
        row = separator.join(
            ["chr1", "10", "20", "ENSG00000000001", "AAA", "+"][: head.count(separator) + 1]
        )
        path.write_text(f"{head}\n{row}\n")
        assert read_gene_table(path).frame["start"].tolist() == [start]


def test_tables_that_are_none_are_refused(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(UnreadableFileError, match=r"without chrom, start, end.*\.gtf"):
        read_gene_table(path)
    empty = tmp_path / "e.gtf"
    empty.write_text("1\tx\texon\t1\t2\t.\t+\t.\t.\n")
    with pytest.raises(UnreadableFileError, match="holds no gene"):
        read_gene_table(empty)


def test_damaged_gzip_names_the_file(tmp_path, gtf):
    cut = tmp_path / "cut.gtf.gz"
    cut.write_bytes(gtf.read_bytes()[:-12])
    with pytest.raises(UnreadableFileError, match=r"cut\.gtf\.gz.*Restore"):
        read_gene_table(cut)


def test_bombs_are_refused(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    with (
        pytest.raises(UnreadableFileError, match="unpacks to more than 1,000 bytes"),
        open_limited(path, max_bytes=1000) as file,
    ):
        file.read()


def test_gzip_is_known_by_its_bytes(tmp_path):
    path = tmp_path / "plain.gz"
    path.write_bytes(b"plain")
    with open_limited(path) as file:
        assert file.read() == b"plain"


GENE = 'chr1\tX\tgene\t{}\t.\t+\t.\tgene_id "ENSG1"; gene_name "A";\n'


@pytest.mark.parametrize(
    "line",
    [
        GENE.format("abc\t500"),
        GENE.format("-5\t500"),
        GENE.format("0\t500"),
        GENE.format("500\t100"),
        GENE.format("1\t99999999999999999999999"),
        "chr1\tX\tgene\t1\t50\t.\t+\t.\t\n",
        "chr1\tX\tgene\t1\n",
    ],
)
def test_a_line_of_a_gtf_that_is_no_gene_is_named(tmp_path, line):
    path = tmp_path / "genes.gtf"
    path.write_text("#!header\n" + GENE.format("1\t50") + line)
    with pytest.raises(UnreadableFileError, match=r"line 3: 'chr1.*is no gene \(1 such lines\)"):
        read_gene_table(path)


def test_places_of_a_table_that_make_no_sense_are_named(tmp_path):
    path = tmp_path / "genes.tsv"
    path.write_text("chrom\tstart\tend\tid\n1\t1\t5\tA\n1\t\t\tB\n1\t9\t5\tC\n1\tx\t5\tD\n")
    with pytest.raises(UnreadableFileError, match=r"line 4: start '9' and end '5' .*\(2 such"):
        read_gene_table(path)
    path.write_text("chrom\tstart\tend\tid\n1\t1\t5\tA\n1\t\t\tB\n")
    assert len(read_gene_table(path)) == 1


def test_a_table_that_is_cut_short_is_told(tmp_path):
    from cellweave.linking import read_delimited

    path = tmp_path / "x.csv"
    path.write_text("a,b,c\n1,2,3\n4,5")
    with pytest.raises(UnreadableFileError, match=r"2 of 3 fields: '4,5'"):
        read_delimited(path)
    path.write_text("a,b,c\n1,2,3\n4,5,\n")
    assert read_delimited(path)["c"].tolist() == ["3", ""]
