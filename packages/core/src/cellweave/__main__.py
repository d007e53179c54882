"""Run ``python -m cellweave``."""

from __future__ import annotations

import sys

from cellweave.cli.app import main

sys.exit(main())
