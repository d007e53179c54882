"""bindSC for cellweave: bi-order canonical correlation, linear in the number of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave_bindsc.biorder import BiOrder as BiOrder
    from cellweave_bindsc.biorder import bi_order_cca as bi_order_cca
    from cellweave_bindsc.integrator import BindSC as BindSC

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BiOrder": "cellweave_bindsc.biorder",
        "BindSC": "cellweave_bindsc.integrator",
        "bi_order_cca": "cellweave_bindsc.biorder",
    },
)
