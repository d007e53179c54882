"""cellweave: single-cell multi-omics foundation models and integration, from parts that fit.

Everything here is loaded when it is first asked for; ``import cellweave`` costs little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave import datasets as datasets
    from cellweave import pl as pl
    from cellweave import testing as testing
    from cellweave.errors import CellweaveError as CellweaveError
    from cellweave.hookspecs import hookimpl as hookimpl
    from cellweave.records import ComponentSpec as ComponentSpec
    from cellweave.verbs.compare import compare as compare
    from cellweave.verbs.components import available as available
    from cellweave.verbs.components import create as create
    from cellweave.verbs.evaluate import evaluate as evaluate
    from cellweave.verbs.hub import push as push
    from cellweave.verbs.integrate import integrate as integrate
    from cellweave.verbs.link import link as link
    from cellweave.verbs.models import embed as embed
    from cellweave.verbs.models import load as load
    from cellweave.verbs.prepare import prepare as prepare
    from cellweave.verbs.read import read as read
    from cellweave.verbs.read import write as write
    from cellweave.verbs.report import report as report
    from cellweave.verbs.tokenize import tokenize as tokenize
    from cellweave.verbs.validate import validate as validate

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_exports(
    __name__,
    {
        "CellweaveError": "cellweave.errors",
        "ComponentSpec": "cellweave.records",
        "available": "cellweave.verbs.components",
        "compare": "cellweave.verbs.compare",
        "create": "cellweave.verbs.components",
        "datasets": "cellweave.datasets:",
        "embed": "cellweave.verbs.models",
        "evaluate": "cellweave.verbs.evaluate",
        "hookimpl": "cellweave.hookspecs",
        "integrate": "cellweave.verbs.integrate",
        "link": "cellweave.verbs.link",
        "load": "cellweave.verbs.models",
        "pl": "cellweave.pl:",
        "prepare": "cellweave.verbs.prepare",
        "push": "cellweave.verbs.hub",
        "read": "cellweave.verbs.read",
        "report": "cellweave.verbs.report",
        "testing": "cellweave.testing:",
        "tokenize": "cellweave.verbs.tokenize",
        "validate": "cellweave.verbs.validate",
        "write": "cellweave.verbs.read",
    },
)
__all__ = [*_names, "__version__"]  # noqa: PLE0604 - the list is computed from the table above
