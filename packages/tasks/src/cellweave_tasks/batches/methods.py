"""The names of the methods, what each needs installed, and how one is run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from io import StringIO

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError, MissingDependencyError, closest, one_of

__all__ = [
    "METHODS",
    "BatchCells",
    "Corrected",
    "Method",
    "correct",
    "kept_state",
    "method_of",
    "pip_install",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCells:
    """What a method may look at; no label is among it.

    Parameters
    ----------
    batches
        One a cell.
    logs
        Normalised logarithms of the variable genes, dense float32.
    axes
        The representation to correct: principal axes, or any ``obsm``.
    counts
        Raw counts of the variable genes, where there are any.
    seed
        Of what is random.
    """

    batches: np.ndarray
    logs: np.ndarray
    axes: np.ndarray
    counts: sp.csr_matrix | None
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """One row a cell, and what a reader must know."""

    values: np.ndarray
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Where a method lives, and which modules and extra it needs.

    ``from_genes`` methods start from the variable genes, others from the axes.
    """

    target: str
    requires: tuple[str, ...] = ()
    extra: str = ""
    needs_counts: bool = False
    from_genes: bool = False
    needs_batches: bool = True

    def missing(self) -> list[str]:
        """Name the modules that are not installed."""
        return [name for name in self.requires if find_spec(name) is None]


METHODS: dict[str, Method] = {
    "HVG": Method(target="plain:variable_genes", from_genes=True, needs_batches=False),
    "PCA": Method(target="plain:principal_axes", from_genes=True, needs_batches=False),
    "harmony": Method(target="harmony:harmony", requires=("harmonypy",)),
    "combat": Method(target="combat:combat", requires=("scanpy",), extra="combat", from_genes=True),
    "bbknn": Method(target="bbknn:bbknn", requires=("scanpy", "bbknn"), extra="bbknn"),
    "scanorama": Method(
        target="scanorama:scanorama", requires=("scanpy", "scanorama"), extra="scanorama"
    ),
    "scvi": Method(
        target="scvi:scvi",
        requires=("scvi",),
        extra="scvi",
        needs_counts=True,
        from_genes=True,
        needs_batches=False,
    ),
    "sysvi": Method(target="sysvi:sysvi", requires=("scvi",), extra="scvi", from_genes=True),
}


def method_of(name: str) -> Method:
    """Return a method by name."""
    if name not in METHODS:
        msg = f"Unknown method {name!r}.{closest(name, METHODS)} Available: {one_of(METHODS)}."
        raise ConfigError(msg)
    return METHODS[name]


def pip_install(name: str) -> str:
    """Return the command that installs what a method needs."""
    method = method_of(name)
    named = f'"cellweave-tasks[{method.extra}]"' if method.extra else " ".join(method.requires)
    return f"pip install {named}"


def correct(name: str, cells: BatchCells) -> Corrected:
    """Run a method, leaving global state and standard output alone."""
    method = method_of(name)
    if missing := method.missing():
        msg = f"{name} needs {one_of(missing)}, not installed here: {pip_install(name)}"
        raise MissingDependencyError(msg)
    if method.needs_counts and cells.counts is None:
        msg = f"{name} needs raw counts, and the cells have no layer of them. Set `layer`."
        raise DataError(msg)
    module, _, function = method.target.partition(":")
    run: Callable[[BatchCells], Corrected] = getattr(
        import_module(f"cellweave_tasks.batches.{module}"), function
    )
    with kept_state():
        found = run(cells)
    values = np.asarray(found.values, dtype=np.float32)
    if len(values) != len(cells.batches) or not np.isfinite(values).all():
        msg = f"{name} gave {values.shape} for {len(cells.batches)} cells, or NaN among them."
        raise DataError(msg)
    return Corrected(values=values, note=found.note)


@contextmanager
def kept_state() -> Iterator[None]:
    """Put global generators, filters and handlers back; swallow what libraries print and warn."""
    from cellweave.testing.global_state import GlobalState

    before = GlobalState.now()
    said = StringIO()
    try:
        warnings.simplefilter("ignore")  # put back below, with the rest
        with redirect_stdout(said), redirect_stderr(said):
            yield
    finally:
        before.put_back()
