"""Reports: one self-contained HTML page that says what was done and whether it worked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.report.comparison import write_comparison_report as write_comparison_report
    from cellweave.report.integration import integration_page as integration_page
    from cellweave.report.integration import save_figures as save_figures
    from cellweave.report.integration import write_report as write_report
    from cellweave.report.page import Facts as Facts
    from cellweave.report.page import Figure as Figure
    from cellweave.report.page import Page as Page
    from cellweave.report.page import Section as Section
    from cellweave.report.page import Table as Table
    from cellweave.report.page import write_figures as write_figures
    from cellweave.report.page import write_page as write_page

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Facts": "cellweave.report.page",
        "Figure": "cellweave.report.page",
        "Page": "cellweave.report.page",
        "Section": "cellweave.report.page",
        "Table": "cellweave.report.page",
        "integration_page": "cellweave.report.integration",
        "save_figures": "cellweave.report.integration",
        "write_comparison_report": "cellweave.report.comparison",
        "write_figures": "cellweave.report.page",
        "write_page": "cellweave.report.page",
        "write_report": "cellweave.report.integration",
    },
)
