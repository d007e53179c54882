"""What mudata does when modalities are put together, the same in both supported versions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

__all__ = ["without_pulling"]


def without_pulling() -> AbstractContextManager[object]:
    """Return a context in which a MuData copies no column of its modalities to its own tables.

    mudata 0.3 copies unless told otherwise; 0.4 never does and has no such option.
    """
    import mudata

    set_options = getattr(mudata, "set_options", None)
    return nullcontext() if set_options is None else set_options(pull_on_update=False)
