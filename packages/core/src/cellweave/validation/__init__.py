"""Refuse wrong input before work starts: all values, all findings at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.validation.checks import validate as validate
    from cellweave.validation.fixes import fix as fix
    from cellweave.validation.names import NameSummary as NameSummary
    from cellweave.validation.names import describe_names as describe_names
    from cellweave.validation.prepared import check_prepared as check_prepared
    from cellweave.validation.values import ValueKind as ValueKind
    from cellweave.validation.values import ValueSummary as ValueSummary
    from cellweave.validation.values import classify_values as classify_values
    from cellweave.validation.values import summarise_values as summarise_values

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "NameSummary": "cellweave.validation.names",
        "ValueKind": "cellweave.validation.values",
        "ValueSummary": "cellweave.validation.values",
        "check_prepared": "cellweave.validation.prepared",
        "classify_values": "cellweave.validation.values",
        "describe_names": "cellweave.validation.names",
        "fix": "cellweave.validation.fixes",
        "summarise_values": "cellweave.validation.values",
        "validate": "cellweave.validation.checks",
    },
)
