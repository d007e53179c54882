from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, UnreadableFileError
from cellweave_atac import AtacModality, bin_counts, fragment_quality, peak_counts
from cellweave_atac.fragments import fragment_blocks, scan_fragments

PEAKS = ["chr1:100-200", "chr1:150-400", "2:1000-1500"]


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    n = 3000
    starts = rng.integers(0, 1600, n)
    return list(
        zip(
            rng.choice(["chr1", "chr2", "chrUn"], n),
            starts.tolist(),
            (starts + rng.integers(20, 400, n)).tolist(),
            rng.choice(["AAA-1", "CCC-1", "GGG-1"], n, p=[0.6, 0.395, 0.005]),
        )
    )


@pytest.fixture
def path(tmp_path, rows):
    text = "# id=x\n# another\n" + "".join(f"{c}\t{s}\t{e}\t{b}\t1\n" for c, s, e, b in rows)
    path = tmp_path / "fragments.tsv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


def spans():
    return [("chr1", 100, 200), ("chr1", 150, 400), ("chr2", 1000, 1500)]


@pytest.mark.parametrize("count", ["insertions", "fragments"])
def test_peak_counts_equal_a_loop(path, rows, count):
    got = peak_counts(path, PEAKS, barcodes=["CCC-1", "AAA-1"], count=count)
    expected = np.zeros((2, 3))
    for chrom, start, end, barcode in rows:
        for j, (c, s, e) in enumerate(spans()):
            if barcode != "GGG-1" and c == chrom:
                row = ["CCC-1", "AAA-1"].index(barcode)
                if count == "insertions":
                    expected[row, j] += (s <= start < e) + (s <= end - 1 < e)
                else:
                    expected[row, j] += start < e and s < end
    np.testing.assert_array_equal(got.X.toarray(), expected)
    assert got.var["chrom"].tolist() == ["chr1", "chr1", "2"]


def test_blocks_do_not_matter(path, monkeypatch):
    whole = peak_counts(path, PEAKS, min_fragments=1)
    monkeypatch.setattr("cellweave_atac.fragments._PENDING", 100)
    monkeypatch.setattr(
        fragment_blocks, "__kwdefaults__", {"max_bytes": 1 << 40, "rows": 77, "near": None}
    )
    again = peak_counts(path, PEAKS, min_fragments=1)
    assert (whole.X != again.X).nnz == 0
    assert whole.obs_names.tolist() == ["AAA-1", "CCC-1", "GGG-1"]


def test_cells_are_barcodes_with_enough_fragments(path, rows):
    scanned = scan_fragments(path)
    assert scanned.counts.to_dict() == pd.Series([r[3] for r in rows]).value_counts().to_dict()
    assert scanned.barcodes(min_fragments=100) == ["AAA-1", "CCC-1"]
    with pytest.raises(
        DataError, match=r"No barcode .* has 100,000 fragments. Lower min_fragments"
    ):
        peak_counts(path, PEAKS, min_fragments=100_000)


def test_bins_hold_every_cut(path, rows):
    got = bin_counts(path, bin_size=500, min_fragments=1)
    assert got.X.sum() == 2 * len(rows)
    at = got.var_names.get_loc("chr2:500-1000")
    mine = sum((c == "chr2") * ((500 <= s < 1000) + (500 <= e - 1 < 1000)) for c, s, e, _ in rows)
    assert got.X[:, at].sum() == mine


def test_quality_equals_a_loop(path, rows, tmp_path):
    genes = tmp_path / "genes.tsv"
    genes.write_text(
        "chrom\tstart\tend\tid\tsymbol\tstrand\nchr1\t1\t801\tENSG00000000001\tA\t-\n"
        "chr2\t701\t9000\tENSG00000000002\tB\t+\n"
    )
    table = fragment_quality(path, barcodes=["AAA-1", "GGG-1"], peaks=PEAKS, genes=genes)
    mine = [r for r in rows if r[3] == "AAA-1"]
    mono = sum(147 <= e - s < 294 for _, s, e, _ in mine)
    short = sum(e - s < 147 for _, s, e, _ in mine)
    cuts = [(c, at) for c, s, e, _ in mine for at in (s, e - 1)]
    inside = sum(any(c == d and s <= at < e for d, s, e in spans()) for c, at in cuts)
    tss = {"chr1": 800, "chr2": 700}
    centre = sum(c in tss and abs(at - tss[c]) <= 50 for c, at in cuts)
    flank = sum(c in tss and 1900 < abs(at - tss[c]) <= 2000 for c, at in cuts)
    row = table.loc["AAA-1"]
    assert row["n_fragments"] == len(mine)
    assert row["nucleosome_signal"] == pytest.approx(mono / (short + 1))
    assert row["frip"] == pytest.approx(inside / (2 * len(mine)))
    assert row["tss_enrichment"] == pytest.approx((centre / 101) / (max(flank, 1) / 200))


def test_damage_is_named(path, tmp_path):
    cut = tmp_path / "cut.tsv.gz"
    cut.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFileError, match=r"cut\.tsv\.gz"):
        scan_fragments(cut)
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    cut.write_bytes(flipped)
    with pytest.raises(UnreadableFileError, match=r"cut\.tsv\.gz"):
        scan_fragments(cut)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("chr1\t10\tx\tAAA", "after line 1"),
        ("chr1\t20\t10\tAAA", r"line 2: .*is no fragment"),
        ("chr1 10 20 AAA", "after line 1"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, match):
    path = tmp_path / "f.tsv"
    path.write_text(f"# head\n{line}\n")
    with pytest.raises(UnreadableFileError, match=match):
        scan_fragments(path)


def test_bombs_and_empty_files(tmp_path, path):
    with pytest.raises(UnreadableFileError, match="unpacks to more than 1,000 bytes"):
        scan_fragments(path, max_bytes=1000)
    empty = tmp_path / "e.tsv"
    empty.write_text("# only a head\n")
    with pytest.raises(UnreadableFileError, match="holds no fragment"):
        scan_fragments(empty)
    with pytest.raises(ConfigError, match="count='cuts'"):
        peak_counts(path, PEAKS, count="cuts")


def test_reads_a_folder_of_peaks(tmp_path):
    counts = sp.random(3, 4, 0.6, random_state=0, format="csr") * 10
    counts.data = np.rint(counts.data) + 1
    scipy.io.mmwrite(tmp_path / "matrix.mtx", counts)
    (tmp_path / "peaks.bed").write_text("chr1\t1\t9\nchr1\t20\t30\nchr2\t5\t6\n")
    (tmp_path / "barcodes.tsv").write_text("a\nb\nc\nd\n")
    adata = AtacModality().read(tmp_path)
    assert adata.shape == (4, 3)
    np.testing.assert_array_equal(adata.X.toarray(), counts.T.toarray())
    assert adata.var_names.tolist() == ["chr1:1-9", "chr1:20-30", "chr2:5-6"]
    (tmp_path / "barcodes.tsv").write_text("a\n")
    with pytest.raises(UnreadableFileError, match="3 x 4, but there are 3 peaks and 1 barcodes"):
        AtacModality().read(tmp_path)


def test_preparation_measures_cells_in_their_fragments(path, tmp_path):
    genes = tmp_path / "genes.tsv"
    genes.write_text("chrom\tstart\tend\tid\tsymbol\tstrand\n1\t801\t1500\tG1\tA\t+\n")
    peaks = peak_counts(path, [f"chr1:{s}-{s + 150}" for s in range(0, 1500, 300)],
                        min_fragments=1)  # fmt: skip
    settings = {"fragments": str(path), "gene_table": str(genes), "n_components": 2}
    made = AtacModality().prepare(peaks, settings=settings)
    names = list(peaks.obs_names)
    expected = fragment_quality(path, barcodes=names, peaks=peaks.var, genes=genes)
    for column in ("n_fragments", "nucleosome_signal", "frip", "tss_enrichment"):
        np.testing.assert_array_equal(made.adata.obs[column], expected[column])
    assert "fragment_quality" in [step.name for step in made.preparation.steps]
    foreign = peaks.copy()
    foreign.obs_names = [f"other{i}" for i in range(peaks.n_obs)]
    with pytest.raises(DataError, match="holds no fragment of these"):
        AtacModality().prepare(foreign, settings=settings)
    with pytest.raises(ConfigError, match="needs fragments"):
        AtacModality().prepare(peaks, settings={"gene_table": str(genes)})
