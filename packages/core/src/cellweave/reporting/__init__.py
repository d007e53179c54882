"""Reports: one self-contained HTML page that says what was done and whether it worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.reporting.comparison import write_comparison_report as write_comparison_report
    from cellweave.reporting.integration import integration_page as integration_page
    from cellweave.reporting.integration import save_figures as save_figures
    from cellweave.reporting.integration import write_report as write_report
    from cellweave.reporting.page import Facts as Facts
    from cellweave.reporting.page import Figure as Figure
    from cellweave.reporting.page import Page as Page
    from cellweave.reporting.page import Section as Section
    from cellweave.reporting.page import Table as Table
    from cellweave.reporting.page import write_figures as write_figures
    from cellweave.reporting.page import write_page as write_page
    from cellweave.reporting.preparation import preparation_page as preparation_page
    from cellweave.reporting.preparation import (
        write_preparation_report as write_preparation_report,
    )

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Facts": "cellweave.reporting.page",
        "Figure": "cellweave.reporting.page",
        "Page": "cellweave.reporting.page",
        "Section": "cellweave.reporting.page",
        "Table": "cellweave.reporting.page",
        "integration_page": "cellweave.reporting.integration",
        "save_figures": "cellweave.reporting.integration",
        "preparation_page": "cellweave.reporting.preparation",
        "write_comparison_report": "cellweave.reporting.comparison",
        "write_figures": "cellweave.reporting.page",
        "write_page": "cellweave.reporting.page",
        "write_preparation_report": "cellweave.reporting.preparation",
        "write_report": "cellweave.reporting.integration",
    },
)
