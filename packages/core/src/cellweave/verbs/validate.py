"""Check data before work starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FindingReport

__all__ = ["validate"]


def validate(
    mdata: MuData, *, batch_key: str = "batch", label_key: str = "cell_type"
) -> FindingReport:
    """Look at all values of ``mdata`` and return everything that is wrong, with its mending.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.datasets.simulate(n_cells=60, seed=0)
    >>> cellweave.validate(mdata).ok
    True
    """
    from cellweave.validation import validate as validate_all

    return validate_all(mdata, batch_key=batch_key, label_key=label_key)
