"""Sphinx settings, in the scverse way."""

from __future__ import annotations

import importlib.metadata

project = "cellweave"
author = "the cellweave developers"
copyright = "2026, the cellweave developers"
release = version = importlib.metadata.version("cellweave-core")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "sphinx_book_theme"
html_title = "cellweave"
html_static_path = ["_static"]
html_theme_options = {"show_toc_level": 2}

# Code blocks are run by integration-tests/test_documentation.py, as a reader would run them.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autosummary_generate = True
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False
