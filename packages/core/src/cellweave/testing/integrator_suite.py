"""The suite of the integrator contract."""

from __future__ import annotations

from cellweave.testing.integrator_fit_checks import FitChecks
from cellweave.testing.integrator_independence_checks import IndependenceChecks
from cellweave.testing.integrator_result_checks import ResultChecks
from cellweave.testing.integrator_state_checks import StateChecks, TransformChecks

__all__ = ["IntegratorSuite"]


class IntegratorSuite(FitChecks, ResultChecks, IndependenceChecks, StateChecks, TransformChecks):
    """Check an integrator.

    Besides :meth:`create`, an author may set:

    Attributes
    ----------
    modalities
        The modalities to weave in the checks.
    n_cells
        Cells of each modality; fewer are faster.
    tags
        ``save`` (``state`` and ``from_state``), ``transform`` (new cells join), ``deterministic``
        (nothing is random: the seed changes nothing and the order of cells only rounding),
        ``paired`` (cells of equal name are used as pairs), ``linkless`` (needs no links).
    """
