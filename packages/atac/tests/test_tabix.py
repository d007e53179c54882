"""Reading by index against reading everything, in files that pysam sorted and indexed."""

import gzip
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cellweave.errors import UnreadableFileError
from cellweave_atac import fragments_near, peak_counts
from cellweave_atac.tabix import _bins_of, index_beside

CELLS = ["AAA-1", "CCC-1", "GGG-1"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Fragments over 40 Mb of three chromosomes, sorted, gzipped without an index."""
    rng = np.random.default_rng(0)
    n = 60_000
    chrom = np.sort(rng.choice(["chr1", "chr2", "chrX"], n))
    starts = rng.integers(0, 40_000_000, n)
    lengths = rng.integers(20, 700, n)
    order = np.lexsort((starts, chrom))
    names = rng.choice(CELLS, n)
    rows = (f"{chrom[i]}\t{starts[i]}\t{starts[i] + lengths[i]}\t{names[i]}\t1\n" for i in order)
    path = tmp_path_factory.mktemp("plain") / "fragments.tsv.gz"
    path.write_bytes(gzip.compress(("# a header\n" + "".join(rows)).encode(), 1))
    return path


@pytest.fixture
def indexed(plain, tmp_path):
    pysam = pytest.importorskip("pysam", reason="it makes the index that the test needs")
    text = tmp_path / "fragments.tsv"
    text.write_bytes(gzip.decompress(plain.read_bytes()))
    pysam.tabix_index(str(text), preset="bed", force=True)
    path = tmp_path / "fragments.tsv.gz"
    assert index_beside(path) is not None
    return path


REGIONS = [
    "chr1:16000-17000", "1:16384-16385", "chr2:3000000-3200000", "chr2:39990000-80000000",
    "chrX:0-30000", "chrX:20000000-20000001", "chrM:0-100",
]  # fmt: skip


def test_regions_hold_what_a_whole_reading_finds(plain, indexed):
    for region in REGIONS:
        one, other = fragments_near(plain, [region]), fragments_near(indexed, [region])
        assert one.equals(other), region
    assert fragments_near(plain, REGIONS).equals(fragments_near(indexed, REGIONS))
    assert len(fragments_near(indexed, REGIONS)) > 100


@pytest.mark.parametrize("count", ["insertions", "fragments"])
def test_few_peaks_are_counted_alike(plain, indexed, count):
    rng = np.random.default_rng(1)
    peaks = [f"chr{c}:{s}-{s + 4000}" for c, s in zip("12X" * 30, rng.integers(0, 4 * 10**7, 90))]
    one = peak_counts(plain, peaks, barcodes=CELLS, count=count)
    other = peak_counts(indexed, peaks, barcodes=CELLS, count=count)
    assert one.X.nnz > 50
    assert (one.X != other.X).nnz == 0


def test_little_of_the_file_is_unpacked(indexed, monkeypatch):
    from cellweave_atac import tabix

    seen = []
    block = tabix._Stretches._block
    monkeypatch.setattr(
        tabix._Stretches, "_block", lambda self, place: seen.append(place) or block(self, place)
    )
    fragments_near(indexed, ["chr2:20000000-20010000"])
    assert len(seen) <= 3
    assert len(set(seen)) == len(seen)


def test_bins_are_those_of_the_scheme():
    assert list(_bins_of(0, 1)) == [0, 1, 9, 73, 585, 4681]
    assert list(_bins_of(16384, 16385)) == [0, 1, 9, 73, 585, 4682]
    assert len(list(_bins_of(0, 1 << 29))) == 1 + 8 + 64 + 512 + 4096 + 32768


def test_a_damaged_index_is_named(indexed):
    index = indexed.with_name("fragments.tsv.gz.tbi")
    whole = gzip.decompress(index.read_bytes())
    for damage in (
        b"",
        whole[:60],
        b"BAI" + whole[3:],
        whole[:4] + b"\xff\xff\xff\x7f" + whole[8:],
    ):
        index.write_bytes(gzip.compress(damage))
        with pytest.raises(UnreadableFileError, match=r"tsv\.gz\.tbi' as a tabix index"):
            fragments_near(indexed, REGIONS)
    index.write_bytes(b"no gzip at all")
    with pytest.raises(UnreadableFileError, match=r"tabix index"):
        fragments_near(indexed, REGIONS)


def test_an_index_of_another_file_is_refused(indexed):
    data = indexed.read_bytes()
    index = indexed.with_name("fragments.tsv.gz.tbi")
    indexed.write_bytes(data[: len(data) // 2])
    index.touch()
    with pytest.raises(UnreadableFileError, match="points outside"):
        fragments_near(indexed, REGIONS)
    indexed.write_bytes(bytes(len(data)))
    index.touch()
    with pytest.raises(UnreadableFileError, match="there is no BGZF block"):
        fragments_near(indexed, REGIONS)


def test_an_older_index_is_passed_over(plain, tmp_path):
    path = tmp_path / "fragments.tsv.gz"
    path.with_name("fragments.tsv.gz.tbi").write_bytes(b"stale")
    shutil.copy(plain, path)
    path.touch()
    assert len(fragments_near(path, ["chr1:0-100000"])) == len(
        fragments_near(plain, ["chr1:0-100000"])
    )


PEAK = """
import functools, resource, sys
from cellweave_atac import fragments
fragments.fragment_blocks = functools.partial(fragments.fragment_blocks, rows=20_000)
fragments._PENDING = 50_000
peaks = [f"chr1:{s}-{s + 50_000}" for s in range(0, 40_000_000, 100_000)]
fragments.peak_counts(sys.argv[1], peaks, min_fragments=1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(plain, tmp_path):
    pytest.importorskip("resource", reason="the peak is known on POSIX only")
    longer = tmp_path / "longer.tsv.gz"
    lines = gzip.decompress(plain.read_bytes()).removeprefix(b"# a header\n")
    longer.write_bytes(gzip.compress(lines, 1) * 8)  # members of gzip may follow one another
    peaks = []
    for path in (plain, longer):
        command = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    # 420,000 lines more take 17 MB as text and several times that as a table.
    assert peaks[1] - peaks[0] < 8
