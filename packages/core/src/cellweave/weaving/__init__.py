"""What integrators that work by linear algebra share: checked inputs and linked matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.weaving.cells import Cells as Cells
    from cellweave.weaving.cells import batch_means as batch_means
    from cellweave.weaving.cells import cells_of as cells_of
    from cellweave.weaving.checks import InputRules as InputRules
    from cellweave.weaving.checks import check_inputs as check_inputs
    from cellweave.weaving.checks import parse_use_rep as parse_use_rep
    from cellweave.weaving.checks import representation_key as representation_key
    from cellweave.weaving.linalg import product_svd as product_svd
    from cellweave.weaving.linalg import standardised as standardised
    from cellweave.weaving.linalg import unit_rows as unit_rows
    from cellweave.weaving.linked import LinkedPair as LinkedPair
    from cellweave.weaving.linked import linked_pair as linked_pair

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Cells": "cellweave.weaving.cells",
        "InputRules": "cellweave.weaving.checks",
        "LinkedPair": "cellweave.weaving.linked",
        "batch_means": "cellweave.weaving.cells",
        "cells_of": "cellweave.weaving.cells",
        "check_inputs": "cellweave.weaving.checks",
        "linked_pair": "cellweave.weaving.linked",
        "parse_use_rep": "cellweave.weaving.checks",
        "product_svd": "cellweave.weaving.linalg",
        "representation_key": "cellweave.weaving.checks",
        "standardised": "cellweave.weaving.linalg",
        "unit_rows": "cellweave.weaving.linalg",
    },
)
