"""Do cells lie beside cells whose linked features agree with theirs; needs no types and no pairs.

The cells' agreement comes from ``cellweave.weaving.agreement``, where it is defined. Integrators
that rest on links make it high themselves: it tells a failed weave, but does not rank good ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellweave.contracts.metric import MetricInput
from cellweave.errors import DataError
from cellweave.records import Score

__all__ = ["LinkedAgreement"]


class LinkedAgreement:
    """Median agreement of linked features, each way and their mean."""

    needs = ("agreement",)
    metrics = ("linked_agreement",)

    def compute(self, data: MetricInput) -> Sequence[Score]:
        """Return the mean over directions, then each direction."""
        if not data.agreement:
            msg = "the agreement of linked features is not known"
            raise DataError(msg)
        ways = {way: float(np.median(values)) for way, values in sorted(data.agreement.items())}
        values = {"": float(np.mean(list(ways.values()))), **ways}
        return [
            Score(metric="linked_agreement", value=v, best=1.0, chance=0.0, group=way)
            for way, v in values.items()
        ]
