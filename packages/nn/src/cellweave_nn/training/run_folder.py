"""The folder of a run: what it is, where it got to, and one writer at a time.

run.json         identity: configuration, data, seed, world size, version
metrics.jsonl    one line a logged step
report.html      curves, pace and record of the run
checkpoints/     step-000000200/ …
model/           the model folder, when the run is done
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellweave.errors import StateMismatchError, UnreadableFileError, UnwritableError
from cellweave.storage import verify_or_raise, write_bytes

__all__ = ["RunFolder", "read_metrics"]

_KIND = "cellweave_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Know the places in a run's folder."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints stand."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Where the finished model stands."""
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        """One JSON line a logged step."""
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """The report, when the run has ended or stopped."""
        return self.path / "report.html"

    @property
    def record(self) -> Path:
        """What the run is."""
        return self.path / "run.json"

    def begin(self, identity: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write down what the run is, or refuse when the folder is another run's."""
        if self.record.exists():
            self._refuse_other(identity)
            return
        if self.path.exists() and any(p.name != ".lock" for p in self.path.iterdir()):
            msg = f"{str(self.path)!r} is not empty and holds no run. Choose a new or empty folder."
            raise UnwritableError(msg)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"identity": identity, "config": config}, sort_keys=True, indent=1)
        write_bytes(self.record, text.encode(), kind=_KIND)

    def identity(self) -> dict[str, Any]:
        """Read what the run is."""
        return dict(self._read()["identity"])

    def config(self) -> dict[str, Any]:
        """Read the configuration it was started with."""
        return dict(self._read()["config"])

    def cut_metrics(self, step: int) -> None:
        """Drop lines after ``step``, and a half line a killed process left."""
        if not self.metrics.exists():
            return
        kept = [line for line in _lines(self.metrics) if line["step"] <= step]
        temporary = self.metrics.with_name(".metrics.cut")
        with _room_for(self.metrics):
            temporary.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in kept))
            temporary.replace(self.metrics)

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        text = json.dumps(line, sort_keys=True) + "\n"
        with _room_for(self.metrics), self.metrics.open("a") as file:
            file.write(text)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; a second process is refused."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT)
        try:
            _lock(descriptor, self.path)
            yield
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, Any]:
        if not self.record.exists():
            msg = f"{str(self.path)!r} is not a run: it has no run.json. Give a run's folder."
            raise UnreadableFileError(msg)
        verify_or_raise(self.record)
        values: dict[str, Any] = json.loads(self.record.read_text())
        return values

    def _refuse_other(self, identity: Mapping[str, Any]) -> None:
        before, now = self.identity(), json.loads(json.dumps(dict(identity)))
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if not changed:
            return
        shown = "; ".join(f"{k} was {before.get(k)!r} and is {now.get(k)!r}" for k in changed[:5])
        msg = (
            f"Cannot resume the run in {str(self.path)!r}: {shown}. "
            "Put it back as it was, or start a new run in another folder."
        )
        raise StateMismatchError(msg)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a ``metrics.jsonl``; none when there is no such file."""
    return _lines(path) if path.exists() else []


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # the half line of a process that was killed
            break
    return lines


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = (
            f"Cannot write to {str(path)!r}: {error.strerror}. Checkpoints are untouched. "
            "Make room, then run the same command to go on."
        )
        raise UnwritableError(msg) from error


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two runs in one folder are not told apart there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = f"Another process trains in {str(path)!r}. Wait for it, or use another folder."
        raise UnwritableError(msg) from error
