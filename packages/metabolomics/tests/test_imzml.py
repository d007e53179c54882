from __future__ import annotations

import numpy as np
import pytest

from cellweave.errors import DataError, UnreadableFileError
from cellweave_metabolomics import MetabolomicsModality, read_imzml

TRUE = np.array([150.25, 300.5, 600.75])


HEAD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<mzML xmlns="http://psi.hupo.org/ms/mzml" version="1.1">
<fileDescription><fileContent>
<cvParam cvRef="IMS" accession="IMS:{mode}" name="mode" value=""/>
</fileContent></fileDescription>
<referenceableParamGroupList count="2">
<referenceableParamGroup id="mzArray">
<cvParam cvRef="MS" accession="MS:1000514" name="m/z array"/>
<cvParam cvRef="MS" accession="MS:1000523" name="64-bit float" value=""/>
</referenceableParamGroup>
<referenceableParamGroup id="intensityArray">
<cvParam cvRef="MS" accession="MS:1000515" name="intensity array"/>
<cvParam cvRef="MS" accession="MS:1000521" name="32-bit float" value=""/>
</referenceableParamGroup>
</referenceableParamGroupList>
<scanSettingsList count="1"><scanSettings id="scanSettings1">
<cvParam cvRef="IMS" accession="IMS:1000042" name="max count of pixels x" value="4"/>
<cvParam cvRef="IMS" accession="IMS:1000043" name="max count of pixels y" value="3"/>
</scanSettings></scanSettingsList>
<softwareList count="1"><software id="none" version="1"/></softwareList>
<instrumentConfigurationList count="1"><instrumentConfiguration id="IC1"/>
</instrumentConfigurationList>
<dataProcessingList count="1"><dataProcessing id="none"/></dataProcessingList>
<run id="run"><spectrumList count="12">
"""
SPECTRUM = """<spectrum defaultArrayLength="0" id="spectrum={n}" index="{n}">
<scanList count="1"><scan>
<cvParam accession="IMS:1000050" cvRef="IMS" name="position x" value="{x}"/>
<cvParam accession="IMS:1000051" cvRef="IMS" name="position y" value="{y}"/>
<cvParam accession="IMS:1000052" cvRef="IMS" name="position z" value="1"/>
</scan></scanList>
<binaryDataArrayList count="2">{arrays}</binaryDataArrayList>
</spectrum>
"""
ARRAY = """<binaryDataArray encodedLength="0">
<referenceableParamGroupRef ref="{group}"/>
<cvParam accession="IMS:1000103" cvRef="IMS" name="external array length" value="{length}"/>
<cvParam accession="IMS:1000104" cvRef="IMS" name="external encoded length" value="{size}"/>
<cvParam accession="IMS:1000102" cvRef="IMS" name="external offset" value="{offset}"/>
<binary/>
</binaryDataArray>
"""
MODES = {"continuous": "1000030", "processed": "1000031"}


def write(folder, *, mode="processed", jitter=1e-6):
    """Write twelve spectra by the standard's own rules, with no library."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 20, (12, 3)).astype(np.float32)
    path, binary, spectra = folder / "image.imzML", bytearray(16), []
    for i in range(12):
        masses = TRUE * (1 + (rng.normal(0, jitter, 3) if mode == "processed" else 0))
        if mode == "processed" or i == 0:
            masses_at = len(binary)
            binary += masses.astype("<f8").tobytes()
        values_at = len(binary)
        binary += values[i].astype("<f4").tobytes()
        arrays = ARRAY.format(group="mzArray", length=3, size=24, offset=masses_at)
        arrays += ARRAY.format(group="intensityArray", length=3, size=12, offset=values_at)
        spectra.append(SPECTRUM.format(n=i + 1, x=i % 4 + 1, y=i // 4 + 1, arrays=arrays))
    text = HEAD.format(mode=MODES[mode]) + "".join(spectra) + "</spectrumList></run></mzML>\n"
    path.write_bytes(text.encode("latin-1"))
    path.with_suffix(".ibd").write_bytes(bytes(binary))
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


def test_absurd_positions_are_refused(tmp_path):
    path, _ = write(tmp_path)
    text = path.read_bytes()
    start = text.index(b'name="position x"')
    value = text.index(b'value="', start) + 7
    end = text.index(b'"', value)
    path.write_bytes(text[:value] + b"999999999999999999999" + text[end:])
    with pytest.raises(UnreadableFileError, match=r"pixel 0 lies at .* \(1 such pixels\)"):
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
