from __future__ import annotations

import numpy as np
import pytest
from pyimzml.ImzMLWriter import ImzMLWriter

from cellweave.errors import DataError, UnreadableFileError
from cellweave_metabolomics import MetabolomicsModality, read_imzml

TRUE = np.array([150.25, 300.5, 600.75])


def write(folder, *, mode="processed", jitter=1e-6):
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 20, (12, 3)).astype(np.float32)
    path = folder / "image.imzML"
    with ImzMLWriter(str(path), mode=mode) as writer:
        for i in range(12):
            masses = TRUE * (1 + (rng.normal(0, jitter, 3) if mode == "processed" else 0))
            writer.addSpectrum(masses, values[i], (i % 4 + 1, i // 4 + 1, 1))
    return path, values


@pytest.mark.parametrize("mode", ["processed", "continuous"])
def test_reads_what_was_written(tmp_path, mode):
    path, values = write(tmp_path, mode=mode)
    adata = MetabolomicsModality().read(path)
    assert np.max(np.abs(adata.var["mz"].to_numpy() - TRUE) / TRUE) < 2e-6
    np.testing.assert_allclose(adata.X.toarray(), values, rtol=1e-6)
    assert adata.obsm["spatial"][5].tolist() == [2, 2]
    assert MetabolomicsModality().guess(adata) == 1


def test_rare_features_are_left_out(tmp_path):
    path, _ = write(tmp_path)
    with pytest.raises(DataError, match="No m/z is seen in 24 pixels"):
        read_imzml(path, min_share=2.0)


@pytest.mark.parametrize(
    "insert",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]>',
        b'<!doctype a SYSTEM "file:///etc/passwd">',
        b" " * 1_048_570 + b'<!DOCTYPE a [<!ENTITY b "c">]>',
    ],
)
def test_entities_are_refused_before_parsing(tmp_path, insert):
    path, _ = write(tmp_path)
    text = path.read_bytes()
    at = text.index(b"?>") + 2
    path.write_bytes(text[:at] + insert + text[at:])
    with pytest.raises(UnreadableFileError, match="document type or entities"):
        read_imzml(path)


def test_other_encodings_are_refused(tmp_path):
    path, _ = write(tmp_path)
    text = path.read_bytes().decode("latin-1")
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(UnreadableFileError, match="not XML in UTF-8"):
        read_imzml(path)


def test_size_is_limited(tmp_path):
    path, _ = write(tmp_path)
    with pytest.raises(UnreadableFileError, match="at most 100 are read"):
        read_imzml(path, max_xml_bytes=100)


def test_numbers_beyond_the_binary_are_refused(tmp_path):
    path, _ = write(tmp_path)
    binary = path.with_suffix(".ibd")
    binary.write_bytes(binary.read_bytes()[:100])
    with pytest.raises(UnreadableFileError, match=r"lie outside the \.ibd file of 100 bytes"):
        read_imzml(path)


def test_absurd_lengths_are_refused_before_memory_is_taken(tmp_path):
    path, _ = write(tmp_path)
    text = path.read_bytes()
    start = text.index(b'name="external array length"')
    value = text.index(b'value="', start) + 7
    end = text.index(b'"', value)
    path.write_bytes(text[:value] + b"999999999999" + text[end:])
    with pytest.raises(UnreadableFileError, match=r"outside the \.ibd"):
        read_imzml(path)


def test_broken_xml_and_missing_files(tmp_path):
    path, _ = write(tmp_path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UnreadableFileError, match=r"Cannot read .*image\.imzML"):
        read_imzml(path)
    with pytest.raises(UnreadableFileError, match="There is nothing at"):
        read_imzml(tmp_path / "none.imzML")
    path, _ = write(tmp_path)
    path.with_suffix(".ibd").unlink()
    with pytest.raises(UnreadableFileError, match=r"its \.ibd beside it"):
        read_imzml(path)
