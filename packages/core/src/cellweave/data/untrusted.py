"""Let a child process with limits read files that nobody vouches for, before we do.

A damaged HDF5 file can hang its reader or crash it, and no exception handler helps in the same
process. So a file without our manifest is first read in full by a child with limits on memory,
processor time and wall-clock time; only when the child came to the end do we read it here. A file
that our manifest vouches for needs no child: its digest is checked instead.

The price is one start of Python (about 0.2 s) and a second reading of the file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cellweave.errors import IntegrityError, UnreadableFileError
from cellweave.storage import has_manifest, verify_or_raise

__all__ = ["check_before_reading", "unreadable"]

_WALKER = Path(__file__).with_name("_walker.py")
_SECONDS = 20
_SECONDS_PER_GIB = 120
_MEMORY = 3 << 30
_MEMORY_PER_BYTE = 1
_UNPACKED = 1 << 30
_UNPACKED_PER_BYTE = 100


def check_before_reading(path: Path) -> None:
    """Vouch for an HDF5 file: by our digest where there is one, else by a child that reads it.

    Raises
    ------
    UnreadableFileError
        When the file is not as written, damaged, of another format, or takes too long or too much.
    """
    if has_manifest(path):
        check_digest(path)
        return
    if not path.is_file():
        raise unreadable(path, "it is not a regular file")
    size = path.stat().st_size
    seconds = _SECONDS + int(_SECONDS_PER_GIB * size / 2**30)
    memory = _MEMORY + _MEMORY_PER_BYTE * size
    verdict = _walk(
        path, memory=memory, seconds=seconds, most=_UNPACKED + _UNPACKED_PER_BYTE * size
    )
    if verdict:
        raise unreadable(path, verdict)


def check_digest(path: Path) -> None:
    """Compare with our manifest; what differs is unreadable, never silently different."""
    try:
        verify_or_raise(path)
    except IntegrityError as error:
        raise UnreadableFileError(str(error)) from error


def unreadable(path: Path, why: object) -> UnreadableFileError:
    """Say that ``path`` cannot be read, and what to do."""
    text = " ".join(str(why).split())[:400]
    msg = f"Cannot read {str(path)!r}: {text}. Get the file again, or restore it from a copy."
    return UnreadableFileError(msg)


def _walk(path: Path, *, memory: int, seconds: int, most: int) -> str:
    """Return why the child could not read the file; empty when it could."""
    command = [
        sys.executable,
        str(_WALKER),
        str(path.absolute()),
        *map(str, (memory, seconds, most)),
    ]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        close_fds=True,
        # Ctrl-C is for the parent, which may have work to put away first; it ends the child itself.
        process_group=0,
    )
    try:
        said, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"reading it did not end within {seconds} s, so it is damaged or hostile"
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return _verdict(said, child.returncode)


def _verdict(said: bytes, code: int) -> str:
    try:
        values = json.loads(said[:100_000])
        return "" if values["ok"] is True else str(values["why"])
    except (ValueError, KeyError, TypeError):
        ended = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return f"the HDF5 library could not survive it ({ended}), so it is damaged or hostile"


def _environment() -> dict[str, str]:
    """Give the child our import path and one thread; thread pools count as memory."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    search = os.pathsep.join(p for p in sys.path if p)
    return {**os.environ, **threads, "PYTHONPATH": search, "HDF5_USE_FILE_LOCKING": "FALSE"}
