"""What integrators share: checked inputs, linked matrices, the basis of new cells, states."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.weaving.agreement import advice_on_agreement as advice_on_agreement
    from cellweave.weaving.agreement import agreements as agreements
    from cellweave.weaving.agreement import doubtful_cells as doubtful_cells
    from cellweave.weaving.agreement import quality_of_agreement as quality_of_agreement
    from cellweave.weaving.basis import Basis as Basis
    from cellweave.weaving.basis import basis_of as basis_of
    from cellweave.weaving.basis import new_cells_problem as new_cells_problem
    from cellweave.weaving.cells import Cells as Cells
    from cellweave.weaving.cells import batch_codes as batch_codes
    from cellweave.weaving.cells import batch_means as batch_means
    from cellweave.weaving.cells import cells_of as cells_of
    from cellweave.weaving.checks import InputRules as InputRules
    from cellweave.weaving.checks import check_inputs as check_inputs
    from cellweave.weaving.checks import parse_use_rep as parse_use_rep
    from cellweave.weaving.checks import representation_key as representation_key
    from cellweave.weaving.comparing import LinkedCoordinates as LinkedCoordinates
    from cellweave.weaving.comparing import averaging as averaging
    from cellweave.weaving.comparing import linked_coordinates as linked_coordinates
    from cellweave.weaving.evidence import advice_on_links as advice_on_links
    from cellweave.weaving.evidence import link_agreement as link_agreement
    from cellweave.weaving.linalg import product_svd as product_svd
    from cellweave.weaving.linalg import standardised as standardised
    from cellweave.weaving.linalg import unit_rows as unit_rows
    from cellweave.weaving.linked import LinkedPair as LinkedPair
    from cellweave.weaving.linked import linked_pair as linked_pair
    from cellweave.weaving.linked import one_per_pair as one_per_pair
    from cellweave.weaving.settings import json_settings as json_settings
    from cellweave.weaving.settings import require_settings as require_settings
    from cellweave.weaving.states import histories_of as histories_of
    from cellweave.weaving.states import require_state as require_state

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Basis": "cellweave.weaving.basis",
        "Cells": "cellweave.weaving.cells",
        "InputRules": "cellweave.weaving.checks",
        "LinkedCoordinates": "cellweave.weaving.comparing",
        "LinkedPair": "cellweave.weaving.linked",
        "advice_on_agreement": "cellweave.weaving.agreement",
        "advice_on_links": "cellweave.weaving.evidence",
        "agreements": "cellweave.weaving.agreement",
        "averaging": "cellweave.weaving.comparing",
        "basis_of": "cellweave.weaving.basis",
        "batch_codes": "cellweave.weaving.cells",
        "batch_means": "cellweave.weaving.cells",
        "cells_of": "cellweave.weaving.cells",
        "check_inputs": "cellweave.weaving.checks",
        "doubtful_cells": "cellweave.weaving.agreement",
        "histories_of": "cellweave.weaving.states",
        "json_settings": "cellweave.weaving.settings",
        "link_agreement": "cellweave.weaving.evidence",
        "linked_coordinates": "cellweave.weaving.comparing",
        "linked_pair": "cellweave.weaving.linked",
        "new_cells_problem": "cellweave.weaving.basis",
        "one_per_pair": "cellweave.weaving.linked",
        "parse_use_rep": "cellweave.weaving.checks",
        "product_svd": "cellweave.weaving.linalg",
        "quality_of_agreement": "cellweave.weaving.agreement",
        "representation_key": "cellweave.weaving.checks",
        "require_settings": "cellweave.weaving.settings",
        "require_state": "cellweave.weaving.states",
        "standardised": "cellweave.weaving.linalg",
        "unit_rows": "cellweave.weaving.linalg",
    },
)
