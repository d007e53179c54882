"""Round trips of records to disk, all through the one atomic writer."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellweave.errors import DataError, StateMismatchError, UnreadableFileError
from cellweave.storage import atomic_file, atomic_folder, verify_or_raise, write_bytes

__all__ = [
    "ArrayPieces",
    "load_arrays",
    "load_state_folder",
    "read_json_record",
    "save_array_pieces",
    "save_arrays",
    "save_state_folder",
    "write_json_record",
]

_FORMAT = 1
_HEADER = "__record__.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def save_arrays(
    path: str | Path, *, kind: str, arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> None:
    """Write arrays and JSON to one zip of ``.npy`` members; same content, same bytes."""
    pieces = {name: ArrayPieces.of(array) for name, array in arrays.items()}
    save_array_pieces(path, kind=kind, arrays=pieces, meta=meta)


@dataclass(frozen=True, slots=True)
class ArrayPieces:
    """Hold an array that comes in pieces along its first axis, each made when it is written."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[np.ndarray]]

    @classmethod
    def of(cls, array: Any) -> ArrayPieces:
        """Wrap an array in memory."""
        whole = np.ascontiguousarray(array)
        return cls(whole.dtype, whole.shape, lambda: (whole,))


def save_array_pieces(
    path: str | Path, *, kind: str, arrays: Mapping[str, ArrayPieces], meta: dict[str, Any]
) -> None:
    """Write as :func:`save_arrays` does, to the byte, with one piece in memory at a time."""
    header = {"kind": kind, "format": _FORMAT, "meta": meta}
    with (
        atomic_file(path, kind=kind) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
    ):
        archive.writestr(zipfile.ZipInfo(_HEADER, _EPOCH), json.dumps(header, sort_keys=True))
        for name in sorted(arrays):
            _write_member(archive, f"{name}.npy", arrays[name])


def _write_member(archive: zipfile.ZipFile, name: str, array: ArrayPieces) -> None:
    if array.dtype.hasobject:
        msg = f"{name!r} holds objects, which are not written. Turn them into text or numbers."
        raise DataError(msg)
    start = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(array.dtype),
        "fortran_order": False,
        "shape": array.shape,
    }
    np.lib.format.write_array_header_1_0(start, described)
    info = zipfile.ZipInfo(name, _EPOCH)
    n_bytes = array.dtype.itemsize * math.prod(array.shape)
    info.file_size = len(start.getvalue()) + n_bytes  # tells the archive which header it needs
    with archive.open(info, "w") as member:
        member.write(start.getvalue())
        for piece in array.pieces():
            flat = np.ascontiguousarray(piece, dtype=array.dtype).ravel()
            member.write(flat.view(np.uint8).data)


def load_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`save_arrays` wrote, digests checked, nothing unpickled."""
    path = Path(path)
    verify_or_raise(path)
    try:
        with zipfile.ZipFile(path) as archive:
            header = json.loads(archive.read(_HEADER))
            _check_header(path, header, kind)
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(name)), allow_pickle=False
                )
                for name in archive.namelist()
                if name != _HEADER
            }
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, StateMismatchError | UnreadableFileError):
            raise
        msg = f"Cannot read {str(path)!r} as a {kind} record: {error}. Write it again."
        raise UnreadableFileError(msg) from error
    return arrays, header["meta"]


def write_json_record(path: str | Path, *, kind: str, values: dict[str, Any]) -> None:
    """Write JSON values, atomically and with a manifest."""
    text = json.dumps({"kind": kind, "format": _FORMAT, **values}, sort_keys=True, indent=1)
    write_bytes(path, text.encode(), kind=kind)


def read_json_record(path: str | Path, *, kind: str) -> dict[str, Any]:
    """Read what :func:`write_json_record` wrote."""
    path = Path(path)
    verify_or_raise(path)
    try:
        values = json.loads(path.read_bytes())
        _check_header(path, values, kind)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        if isinstance(error, UnreadableFileError):
            raise
        msg = f"Cannot read {str(path)!r} as a {kind} record: {error}. Write it again."
        raise UnreadableFileError(msg) from error
    return {k: v for k, v in values.items() if k not in ("kind", "format")}


def save_state_folder(
    folder: str | Path, *, config: dict[str, Any], arrays: dict[str, np.ndarray]
) -> None:
    """Write ``config.json`` and ``arrays.safetensors`` as one folder with a manifest."""
    from safetensors.numpy import save

    packed = {k: np.ascontiguousarray(v) for k, v in arrays.items()}
    with atomic_folder(folder, kind="component_state") as place:
        text = json.dumps({"format": _FORMAT, **config}, sort_keys=True, indent=1)
        (place / "config.json").write_text(text)
        (place / "arrays.safetensors").write_bytes(save(packed))


def load_state_folder(folder: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what :func:`save_state_folder` wrote, digests checked."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = Path(folder)
    verify_or_raise(folder)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        arrays = load((folder / "arrays.safetensors").read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        msg = f"Cannot read the state in {str(folder)!r}: {error}. Save it again."
        raise UnreadableFileError(msg) from error
    if config.pop("format", None) != _FORMAT:
        msg = f"{str(folder)!r} has an unknown format. This cellweave reads format {_FORMAT}."
        raise StateMismatchError(msg)
    return config, arrays


def _check_header(path: Path, header: dict[str, Any], kind: str) -> None:
    if header.get("kind") != kind or header.get("format") != _FORMAT:
        msg = (
            f"{str(path)!r} holds a {header.get('kind')!r} record of format "
            f"{header.get('format')!r}. Expected {kind!r} of format {_FORMAT}."
        )
        raise UnreadableFileError(msg)
