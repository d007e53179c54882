"""Read imzML mass-spectrometry images; the XML is not trusted.

imzML is a pair of files: XML that says where each pixel's numbers lie, and a binary ``.ibd`` that
holds them. Before pyimzML parses the XML we refuse document types and entities (which can expand
without bound or name other files), encodings that could hide them, and files beyond a size; after,
we refuse numbers that would lie outside the binary file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import DataError, UnreadableFileError
from cellweave_metabolomics.alignment import MassHistogram, nearest_masses

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["read_imzml"]

MAX_XML_BYTES = 4 << 30
MAX_PIXELS = 5_000_000
MAX_POSITION = 1_000_000
_BLOCK = 1 << 20
_FORBIDDEN = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*encoding\s*=\s*["']([A-Za-z0-9_-]+)["']""")
_ENCODINGS = {b"utf-8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin-1", b"windows-1252"}
_ITEM_SIZE = {"f": 4, "d": 8, "i": 4, "l": 8}


def read_imzml(
    path: str | Path,
    *,
    ppm: float = 10.0,
    min_share: float = 0.01,
    max_xml_bytes: int = MAX_XML_BYTES,
) -> AnnData:
    """Read an imzML image into pixels × m/z, binned within ``ppm``.

    Parameters
    ----------
    path
        The ``.imzML`` file; its ``.ibd`` stands beside it.
    ppm
        Tolerance within which peaks of different pixels are one feature.
    min_share
        A feature seen in a smaller share of pixels is left out.
    max_xml_bytes
        Largest XML that is parsed.

    Returns
    -------
    anndata.AnnData
        CSR float32 intensities, ``var["mz"]``, ``obsm["spatial"]`` with x and y in pixels.
    """
    path = Path(path)
    _refuse_unsafe_xml(path, max_xml_bytes)
    with _Opened(path) as parser:
        _refuse_misplaced(parser, path)
        n_pixels = len(parser.coordinates)

        def spectra() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for i in range(n_pixels):
                yield _spectrum(parser, i, path)

        centres = _features(spectra, ppm, max(1, int(np.ceil(min_share * n_pixels))))
        matrix = _binned(spectra(), centres, ppm)
        return _as_adata(matrix, centres, np.asarray(parser.coordinates)[:, :2], path)


class _Opened:
    """Open with pyimzML, turning what it raises into an error that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parser: Any = None

    def __enter__(self) -> Any:
        from pyimzml.ImzMLParser import ImzMLParser

        try:
            self._parser = ImzMLParser(str(self._path), parse_lib="ElementTree")
        except Exception as error:  # a broken file raises anything in there
            msg = f"Cannot read {str(self._path)!r}: {type(error).__name__}: {error}. "
            msg += "Expected an imzML file with its .ibd beside it. Export it again."
            raise UnreadableFileError(msg) from error
        return self._parser

    def __exit__(self, *_: object) -> None:
        self._parser.m.close()


def _refuse_unsafe_xml(path: Path, limit: int) -> None:
    if not path.exists():
        msg = f"There is nothing at {str(path)!r}. Give the path of an .imzML file."
        raise UnreadableFileError(msg)
    if path.stat().st_size > limit:
        msg = f"{str(path)!r} has {path.stat().st_size:,} bytes of XML; at most {limit:,} are read."
        raise UnreadableFileError(msg)
    with path.open("rb") as file:
        head = file.read(1024)
        declared = _ENCODING.match(head)
        if b"\0" in head or (declared and declared[1].lower() not in _ENCODINGS):
            msg = f"{str(path)!r} is not XML in UTF-8 or Latin-1. Export it again as UTF-8."
            raise UnreadableFileError(msg)
        tail = head
        while tail:
            if _FORBIDDEN.search(tail):
                msg = (
                    f"{str(path)!r} declares a document type or entities, which imzML never needs "
                    "and which can harm. Do not open it; ask who sent it."
                )
                raise UnreadableFileError(msg)
            block = file.read(_BLOCK)
            tail = tail[-16:] + block if block else b""


def _refuse_misplaced(parser: Any, path: Path) -> None:
    n_pixels = len(parser.coordinates)
    if not 0 < n_pixels <= MAX_PIXELS:
        msg = f"{str(path)!r} has {n_pixels:,} pixels. Expected 1 to {MAX_PIXELS:,}."
        raise UnreadableFileError(msg)
    places = np.asarray(parser.coordinates, dtype=np.float64)[:, :2]
    outside = np.flatnonzero(~((places >= 0) & (places <= MAX_POSITION)).all(axis=1))
    if len(outside):
        msg = (
            f"{str(path)!r}: pixel {outside[0]} lies at {places[outside[0]].tolist()} "
            f"({len(outside)} such pixels). Expected positions from 0 to {MAX_POSITION:,}."
        )
        raise UnreadableFileError(msg)
    size = path.with_suffix(".ibd").stat().st_size if path.with_suffix(".ibd").exists() else None
    if size is None:
        size = Path(parser.m.name).stat().st_size
    for what, offsets, lengths, kind in (
        ("m/z", parser.mzOffsets, parser.mzLengths, parser.mzPrecision),
        (
            "intensities",
            parser.intensityOffsets,
            parser.intensityLengths,
            parser.intensityPrecision,
        ),
    ):
        starts = np.asarray(offsets, dtype=np.float64)
        ends = starts + np.asarray(lengths, dtype=np.float64) * _ITEM_SIZE.get(kind, 8)
        wrong = np.flatnonzero((starts < 0) | (ends < starts) | (ends > size))
        if len(wrong):
            msg = (
                f"{str(path)!r}: the {what} of pixel {wrong[0]} lie outside the .ibd file of "
                f"{size:,} bytes ({len(wrong)} such pixels). The files are damaged or do not "
                "belong together. Fetch both again."
            )
            raise UnreadableFileError(msg)


def _spectrum(parser: Any, i: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    masses, intensities = parser.getspectrum(i)
    masses = np.asarray(masses, dtype=np.float64)
    intensities = np.asarray(intensities, dtype=np.float64)
    good = np.isfinite(masses).all() and np.isfinite(intensities).all()
    if len(masses) != len(intensities) or not good or (masses <= 0).any():
        msg = (
            f"{str(path)!r}: pixel {i} holds {len(masses)} m/z and {len(intensities)} intensities, "
            "or values that are not finite. The file is damaged. Fetch it again."
        )
        raise UnreadableFileError(msg)
    return masses, np.maximum(intensities, 0)


def _features(
    spectra: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]], ppm: float, min_spectra: int
) -> np.ndarray:
    histogram = MassHistogram(ppm=ppm)
    for masses, intensities in spectra():
        histogram.add(masses, intensities)
    centres = histogram.centres(min_spectra=min_spectra)
    if len(centres) == 0:
        msg = f"No m/z is seen in {min_spectra} pixels. Lower min_share or raise ppm."
        raise DataError(msg)
    return centres


def _binned(
    spectra: Iterator[tuple[np.ndarray, np.ndarray]], centres: np.ndarray, ppm: float
) -> sp.csr_matrix:
    indices, data, indptr = [], [], [0]
    for masses, intensities in spectra:
        at = nearest_masses(masses, centres, ppm=ppm)
        keep = (at >= 0) & (intensities > 0)
        columns, where = np.unique(at[keep], return_inverse=True)
        indices.append(columns.astype(np.int32))
        data.append(np.bincount(where, weights=intensities[keep]).astype(np.float32))
        indptr.append(indptr[-1] + len(columns))
    shape = (len(indptr) - 1, len(centres))
    return sp.csr_matrix((np.concatenate(data), np.concatenate(indices), indptr), shape=shape)


def _as_adata(
    matrix: sp.csr_matrix, centres: np.ndarray, places: np.ndarray, path: Path
) -> AnnData:
    import pandas as pd
    from anndata import AnnData as AnnDataClass

    names = pd.Index([f"{x}_{y}" for x, y in places])
    var = pd.DataFrame({"mz": centres}, index=[f"mz-{m:.6f}" for m in centres])
    adata = AnnDataClass(X=matrix, obs=pd.DataFrame(index=names), var=var)
    adata.obsm["spatial"] = places.astype(np.float64)
    adata.uns["imzml"] = {"file": path.name}
    return adata
