"""Stop at the end of a step when asked to: Ctrl-C and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["stop_on_signals"]


@contextmanager
def stop_on_signals(told: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Yield a question that is answered with yes once a signal came.

    ``told`` is called at the first signal. A second Ctrl-C is not held back. Handlers are as
    before afterwards; outside the main thread, where none can be set, the answer is always no.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        if not asked.is_set():
            asked.set()
            told()

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
