"""Where metrics go besides ``metrics.jsonl``: TensorBoard, Weights & Biases, MLflow.

A sink is told at which step the run begins, then each logged step, then that it is over. A run that
goes on after a kill goes on in the same place of each.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from cellweave.errors import MissingDependencyError

__all__ = ["SINKS", "MetricSink", "check_sinks", "make_sinks", "opened"]

# Name to the module it needs; the extra of this package has the sink's name.
SINKS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class MetricSink(Protocol):
    """Take the metrics of a run."""

    def begin(self, step: int) -> None:
        """Open; steps after ``step`` that were told before are void."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of one step."""

    def close(self) -> None:
        """Finish writing."""


def check_sinks(names: Sequence[str]) -> None:
    """Raise when sinks need packages that are not installed; all at once."""
    missing = [n for n in names if not _is_installed(SINKS[n])]
    if missing:
        msg = (
            f"`sinks` names {', '.join(map(repr, missing))}, which is not installed. Run: "
            f"pip install 'cellweave-nn[{','.join(missing)}]', or take it out."
        )
        raise MissingDependencyError(msg)


def make_sinks(
    names: Sequence[str], folder: Path, config: Mapping[str, Any]
) -> tuple[MetricSink, ...]:
    """Build the sinks of a run folder; nothing is opened yet."""
    kinds: dict[str, Callable[[Path, Mapping[str, Any]], MetricSink]]
    kinds = {"tensorboard": TensorBoardSink, "wandb": WandbSink, "mlflow": MlflowSink}
    return tuple(kinds[name](folder, config) for name in names)


@contextmanager
def opened(sinks: Sequence[MetricSink], step: int) -> Iterator[None]:
    """Open sinks for a run that begins after ``step``, and close them however it ends."""
    with ExitStack() as stack:
        for sink in sinks:
            sink.begin(step)
            stack.callback(sink.close)
        yield


class TensorBoardSink:
    """Write event files to ``tensorboard/`` of the run's folder."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Open; steps after ``step`` are hidden from the plots."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder), purge_step=step + 1 if step else None)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write one point a metric."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, global_step=step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WandbSink:
    """Write to Weights & Biases; project, key and mode come from its own environment variables."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder, self._config = folder, dict(config)
        self._run: Any = None

    def begin(self, step: int) -> None:
        """Open the run, or go on with the one this folder began."""
        import wandb

        place = self._folder / "wandb-id.txt"
        self._run = wandb.init(
            id=_read(place), resume="allow", name=self._folder.name, dir=str(self._folder),
            config=self._config,
        )  # fmt: skip
        place.write_text(str(self._run.id))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MlflowSink:
    """Write to MLflow; the server and experiment come from its own environment variables."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder, self._config = folder, config
        self._client: Any = None
        self._run = ""

    def begin(self, step: int) -> None:
        """Open the run, or go on with the one this folder began."""
        from mlflow import MlflowClient

        self._client = MlflowClient()
        place = self._folder / "mlflow-id.txt"
        known = _read(place)
        self._run = known or self._begun()
        place.write_text(self._run)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one step."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self) -> None:
        """Mark the run as done."""
        self._client.set_terminated(self._run)

    def _begun(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "cellweave")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run = self._client.create_run(experiment, run_name=self._folder.name)
        for key, value in _flat(self._config).items():
            self._client.log_param(run.info.run_id, key, str(value)[:500])
        return str(run.info.run_id)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _is_installed(module: str) -> bool:
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(module) is not None
    return False


def _read(path: Path) -> str | None:
    return path.read_text().strip() or None if path.exists() else None
