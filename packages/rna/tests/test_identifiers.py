"""Names are mapped, lost and merged as told; sums are kept."""

import gzip

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave_rna.identifiers import GeneTable, map_genes, read_orthologues, sum_duplicates

GTF = """#!genome
1\tx\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000000001.4"; gene_name "AAA";
1\tx\ttranscript\t1\t9\t.\t+\t.\tgene_id "ENSG00000000001.4"; gene_name "AAA";
2\tx\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000000002"; gene_name "BBB";
HSCHR2_ALT\tx\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000000003"; gene_name "BBB";
3\tx\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000000004"; gene_name "CCC";
4\tx\tgene\t1\t9\t.\t+\t.\tgene_id "ENSG00000000005"; gene_name "CCC";
"""


def cells(names):
    counts = np.arange(1, 2 * len(names) + 1, dtype=np.float32).reshape(2, -1)
    return anndata.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(index=names))


@pytest.fixture
def genes(tmp_path):
    path = tmp_path / "genes.gtf.gz"
    path.write_bytes(gzip.compress(GTF.encode()))
    return GeneTable.read(path)


def test_symbols_to_ensembl(genes):
    made, report = map_genes(cells(["AAA", "BBB", "CCC", "ZZZ"]), to="ensembl", genes=genes)
    assert list(made.var_names) == ["ENSG00000000001", "ENSG00000000002"]
    assert report.lost == {
        "CCC": "the symbol 'CCC' belongs to several Ensembl genes",
        "ZZZ": "not in the gene table",
    }
    assert str(report) == "2 names mapped, 2 lost, 0 of them summed into 0."


def test_versions_are_cut_and_many_to_one_summed(genes):
    adata = cells(["ENSG00000000002.1", "ENSG00000000003.7", "ENSG00000000001.9"])
    adata.layers["counts"] = adata.X * 2
    made, report = map_genes(adata, to="symbol", genes=genes)
    assert list(made.var_names) == ["BBB", "AAA"]
    assert made.X.toarray().tolist() == [[3, 3], [9, 6]]
    assert made.layers["counts"].toarray().tolist() == [[6, 6], [18, 12]]
    assert report.merged == {"BBB": ("ENSG00000000002.1", "ENSG00000000003.7")}
    assert next(iter(adata.var_names)) == "ENSG00000000002.1"


def test_aliases_only_where_there_is_one_answer(tmp_path):
    path = tmp_path / "genes.tsv"
    path.write_text("gene_id\tsymbol\taliases\nE1\tNEW\tOLD|BOTH\nE2\tOTHER\tBOTH|NEW\n")
    table = GeneTable.read(path)
    made, report = map_genes(cells(["OLD", "NEW", "BOTH"]), to="symbol", genes=table)
    assert list(made.var_names) == ["NEW"]
    assert report.merged == {"NEW": ("OLD", "NEW")}
    assert list(report.lost) == ["BOTH"]


def test_orthologues(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("A,a\nB,b\nB,b2\nC,a\nD,\n")
    pairs = read_orthologues(path)
    made, report = map_genes(cells(["A", "B", "C", "D"]), to="orthologue", orthologues=pairs)
    assert list(made.var_names) == ["a"]
    assert made.X.toarray().ravel().tolist() == [1 + 3, 5 + 7]
    assert report.lost == {"B": "has 2 orthologues: b, b2", "D": "has no orthologue in the table"}
    kept, _ = map_genes(cells(["A", "B"]), to="orthologue", orthologues=pairs, keep_unmapped=True)
    assert list(kept.var_names) == ["a", "B"]


def test_duplicates_are_summed():
    made, report = sum_duplicates(cells(["A", "B", "A"]))
    assert list(made.var_names) == ["A", "B"]
    assert made.X.toarray().tolist() == [[4, 2], [10, 5]]
    assert report.merged == {"A": ("A", "A")}


def test_refusals(genes, tmp_path):
    with pytest.raises(ConfigError, match="to='symbol' needs genes"):
        map_genes(cells(["A"]), to="symbol")
    with pytest.raises(DataError, match=r"None of 1 features \(such as 'A'\)"):
        map_genes(cells(["A"]), to="symbol", genes=genes)
    (tmp_path / "empty.tsv").write_text("# nothing\n")
    with pytest.raises(UnreadableFileError, match="holds no genes"):
        GeneTable.read(tmp_path / "empty.tsv")
    with pytest.raises(UnreadableFileError, match="Cannot read genes"):
        GeneTable.read(tmp_path / "absent.gtf")
