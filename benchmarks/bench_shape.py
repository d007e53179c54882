"""How the sources are built: length of functions, docstrings, types. Reads them, runs nothing.

Run: ``python benchmarks/bench_shape.py [FOLDER …]``.
"""

from __future__ import annotations

import argparse
import ast
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Hold what is counted of one function: lines of its body without the docstring."""

    where: str
    lines: int
    public: bool
    documented: bool
    slots: int
    typed: int


def functions_of(path: Path) -> list[Found]:
    """Return every function and method of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [_found(path, node) for node in ast.walk(tree) if isinstance(node, Function)]


def _found(path: Path, node: Function) -> Found:
    has_doc = ast.get_docstring(node) is not None
    body = node.body[1:] if has_doc and len(node.body) > 1 else node.body
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments = [a for a in arguments if a.arg not in ("self", "cls")]
    return Found(
        where=f"{path.relative_to(ROOT)}:{node.lineno} {node.name}",
        lines=(body[-1].end_lineno or 0) - body[0].lineno + 1,
        public=not node.name.startswith("_"),
        documented=has_doc,
        slots=len(arguments) + 1,
        typed=sum(a.annotation is not None for a in arguments) + (node.returns is not None),
    )


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    folders = parser.parse_args().folders or [
        *ROOT.glob("packages/*/src"),
        *ROOT.glob("plugins/*/src"),
    ]
    files = sorted(p for folder in folders for p in folder.resolve().rglob("*.py"))
    found = [f for path in files for f in functions_of(path)]
    lines = [f.lines for f in found]
    public = [f for f in found if f.public]
    slots = sum(f.slots for f in found)
    print(f"{len(files)} files, {sum(len(p.read_text().splitlines()) for p in files)} lines")
    print(
        f"{len(found)} functions: median {median(lines)} lines, p90 {quantiles(lines, n=10)[8]:g}"
    )
    print(f"public with a docstring: {sum(f.documented for f in public) / len(public):.1%}")
    print(f"arguments and results with a type: {sum(f.typed for f in found) / slots:.1%}")
    for f in sorted(found, key=lambda f: -f.lines)[:10]:
        print(f"  {f.lines:4d} {f.where}")


if __name__ == "__main__":
    main()
