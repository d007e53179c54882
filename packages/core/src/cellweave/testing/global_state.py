"""Global state: what a component must leave as it found it."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["GlobalState", "global_state_unchanged"]

# Set by pytest for each phase of a test, and by scikit-learn when it is first imported.
_OF_OTHERS = frozenset({"PYTEST_CURRENT_TEST", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"})


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalState:
    """Hold what can be seen of the process's global state, and how to put it back.

    ``values`` maps a name to something comparable; ``restore`` to what sets it again.
    """

    values: dict[str, Any]
    restore: dict[str, Callable[[], object]]

    @classmethod
    def now(cls) -> GlobalState:
        """Take the state as it is: random generators, torch flags, filters, handlers, places."""
        state = cls(values={}, restore={})
        for part in (_random, _numpy, _process, _logging, _torch, _matplotlib):
            part(state)
        return state

    def differences(self) -> list[str]:
        """Name what differs now; what a first import has added does not count."""
        now = GlobalState.now().values
        return [name for name, value in self.values.items() if now.get(name) != value]

    def put_back(self) -> None:
        """Restore everything."""
        for restore in self.restore.values():
            restore()

    def keep(self, name: str, value: Any, restore: Callable[[], object]) -> None:
        """Note one part of the state."""
        self.values[name] = value
        self.restore[name] = restore


@contextmanager
def global_state_unchanged() -> Iterator[None]:
    """Raise ``AssertionError`` when the block changes global state; put it back either way."""
    before = GlobalState.now()
    changed: list[str] = []
    try:
        yield
    finally:
        changed = before.differences()
        before.put_back()
    if changed:
        msg = (
            f"Global state was changed: {', '.join(changed)}. Use a local generator made from "
            "`seed`, pass settings as arguments, and leave global switches alone."
        )
        raise AssertionError(msg)


def _random(state: GlobalState) -> None:
    taken = random.getstate()
    state.keep("random.getstate()", taken, lambda: random.setstate(taken))


def _numpy(state: GlobalState) -> None:
    legacy = np.random.get_state()  # noqa: NPY002 - the global generator is what is guarded
    digest = hashlib.sha256(repr([np.asarray(p).tobytes() for p in legacy]).encode()).hexdigest()
    state.keep("numpy.random global state", digest, lambda: np.random.set_state(legacy))  # noqa: NPY002
    errors = np.geterr()
    state.keep("numpy.geterr()", dict(errors), lambda: np.seterr(**errors))
    shown = np.get_printoptions()
    state.keep("numpy print options", repr(shown), lambda: np.set_printoptions(**shown))


def _process(state: GlobalState) -> None:
    folder = Path.cwd()
    state.keep("working directory", folder, lambda: os.chdir(folder))
    environment = {k: v for k, v in os.environ.items() if k not in _OF_OTHERS}
    state.keep("environment variables", environment, lambda: _set_environment(environment))
    filters = list(warnings.filters)
    state.keep("warnings filters", filters, lambda: _set_filters(filters))
    path = list(sys.path)
    state.keep("sys.path", path, lambda: sys.path.__setitem__(slice(None), path))
    out, err = sys.stdout, sys.stderr
    state.keep("sys.stdout", id(out), lambda: setattr(sys, "stdout", out))
    state.keep("sys.stderr", id(err), lambda: setattr(sys, "stderr", err))


def _logging(state: GlobalState) -> None:
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable

    def restore() -> None:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)

    state.keep("root logging handlers and level", (handlers, level, disabled), restore)


def _torch(state: GlobalState) -> None:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_rng_state"):
        return
    rng = torch.get_rng_state()
    state.keep("torch random state", rng.numpy().tobytes(), lambda: torch.set_rng_state(rng))
    dtype = torch.get_default_dtype()
    state.keep("torch default dtype", dtype, lambda: torch.set_default_dtype(dtype))
    threads = torch.get_num_threads()
    state.keep("torch number of threads", threads, lambda: torch.set_num_threads(threads))
    grad = torch.is_grad_enabled()
    state.keep("torch grad mode", grad, lambda: torch.set_grad_enabled(grad))
    precise = torch.are_deterministic_algorithms_enabled()
    state.keep(
        "torch deterministic algorithms",
        precise,
        lambda: torch.use_deterministic_algorithms(precise),
    )
    matmul = torch.get_float32_matmul_precision()
    state.keep("torch matmul precision", matmul, lambda: torch.set_float32_matmul_precision(matmul))
    for flag in ("benchmark", "deterministic", "enabled"):
        _keep_attribute(state, f"torch.backends.cudnn.{flag}", torch.backends.cudnn, flag)


def _matplotlib(state: GlobalState) -> None:
    matplotlib = sys.modules.get("matplotlib")
    if matplotlib is None or not hasattr(matplotlib, "rcParams"):
        return
    # `dict.copy` keeps matplotlib from choosing a backend only because someone looked.
    settings = dict.copy(matplotlib.rcParams)
    shown = {k: repr(v) for k, v in settings.items() if not k.startswith("backend")}
    state.keep("matplotlib rcParams", shown, lambda: dict.update(matplotlib.rcParams, settings))


def _keep_attribute(state: GlobalState, name: str, owner: Any, attribute: str) -> None:
    value = getattr(owner, attribute)
    state.keep(name, value, lambda: setattr(owner, attribute, value))


def _set_environment(values: dict[str, str]) -> None:
    for name in set(os.environ) - set(values) - _OF_OTHERS:
        del os.environ[name]
    os.environ.update(values)


def _set_filters(filters: list[Any]) -> None:
    if list(warnings.filters) != filters:
        warnings.filters[:] = filters  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001 - as catch_warnings does
