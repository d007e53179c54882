"""Render the template of a third-party plugin: a package that works, with its tests and CI."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from cellweave.errors import ConfigError, closest

__all__ = ["KINDS", "TEMPLATE", "render"]

KINDS = ("integrator", "tokenizer")
TEMPLATE = Path(__file__).parent / "template_files" / "template"
_SUFFIX = ".jinja"


def render(
    destination: str | Path,
    *,
    name: str,
    kind: str = "integrator",
    author: str = "The authors",
) -> list[Path]:
    """Make a plugin in ``destination``, which must be new or empty; return its files.

    The same template serves ``copier copy templates/plugin DESTINATION``.

    Parameters
    ----------
    destination
        Folder of the new package.
    name
        Name of the plugin and of its component: lower case letters, digits, underscores.
    kind
        ``"integrator"`` or ``"tokenizer"``.
    author
        Goes into ``pyproject.toml``.
    """
    destination = Path(destination).absolute()
    _check(destination, name, kind)
    class_name = "".join(part.title() for part in name.split("_")) + kind.title()
    values: dict[str, str | bool] = {
        "name": name,
        "kind": kind,
        "author": author.replace("\\", "").replace('"', "'"),
        "package": f"cellweave_{name}",
        "class_name": class_name,
        "is_integrator": kind == "integrator",
    }
    texts = _rendered(values)
    _publish(texts, destination)
    return [destination / path for path in sorted(texts)]


def _check(destination: Path, name: str, kind: str) -> None:
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        problems.append(f"Name {name!r} is not valid; use lower case letters, digits and `_`.")
    if kind not in KINDS:
        problems.append(
            f"Kind {kind!r} is unknown.{closest(kind, KINDS)} Use {' or '.join(KINDS)}."
        )
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        problems.append(f"{str(destination)!r} is not an empty folder; name a new one.")
    if problems:
        msg = "Cannot make the plugin: " + " ".join(problems)
        raise ConfigError(msg)


def _rendered(values: dict[str, str | bool]) -> dict[str, str]:
    """Return the text of every file by its path; a path that renders to nothing is left out."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    texts = {}
    for source in sorted(p for p in TEMPLATE.rglob("*") if p.is_file()):
        place = source.relative_to(TEMPLATE)
        if "__pycache__" in place.parts:
            continue
        parts = [environment.from_string(p).render(values) for p in place.parts]
        if parts[-1] in ("", _SUFFIX):
            continue
        text = source.read_text()
        if parts[-1].endswith(_SUFFIX):
            parts[-1] = parts[-1].removesuffix(_SUFFIX)
            text = environment.from_string(text).render(values)
        texts["/".join(parts)] = text
    return texts


def _publish(texts: dict[str, str], destination: Path) -> None:
    """Write beside the place, then rename: the folder appears whole or not at all."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    try:
        for path, text in texts.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
        place.chmod(0o755)
        if destination.exists():
            destination.rmdir()
        place.rename(destination)
    finally:
        shutil.rmtree(place, ignore_errors=True)
