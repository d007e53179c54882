"""Every block of Python or bash in README files and docs runs as it stands, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(?:\{code-cell\} )?(python|bash|ipython3)[^\n]*\n(.*?)^```", re.M | re.S)
PAGES = sorted(
    p
    for pattern in ("README.md", "docs/**/*.md", "packages/*/README.md", "plugins/*/README.md")
    for p in ROOT.glob(pattern)
    if "_build" not in p.parts
)

DRIVER = """
import json, subprocess, sys
names = {"__name__": "__main__"}
for language, line, code in json.loads(sys.stdin.read()):
    if language == "bash":
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)
    else:
        exec(compile("\\n" * line + code, sys.argv[1], "exec"), names)
"""


def blocks_of(page: Path) -> list[tuple[str, int, str]]:
    text = page.read_text()
    return [
        (match[1], text[: match.start()].count("\n") + 1, match[2])
        for match in FENCE.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_run_as_they_stand(page, tmp_path):
    import json

    blocks = blocks_of(page)
    if not blocks:
        pytest.skip("the page has no block of Python or bash")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(page)],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "CELLWEAVE_REPOSITORY": str(ROOT)},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


def test_every_hook_and_component_is_documented():
    from cellweave.hookspecs import PluginSpecs
    from cellweave.plugins import PluginManager

    text = "\n".join(p.read_text() for p in PAGES)
    hooks = [n for n in vars(PluginSpecs) if n.startswith("cellweave_")]
    missing = [h for h in hooks if h not in text]
    assert not missing, f"hooks that no page names: {missing}"
    components = {c.spec.name for c in PluginManager.discover().components()}
    missing = sorted(n for n in components if f"`{n}`" not in text)
    assert not missing, f"components that no page names: {missing}"
