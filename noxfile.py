# /// script
# dependencies = ["nox>=2025.2"]
# ///
"""Sessions: demo, tests, lint, types, wheels, docs, bench; per package unit and conformance.

The sessions that need everything share one environment, `.nox/workspace`, made once and made again
when a `pyproject.toml` or `constraints.txt` changes. `unit(package)` and `conformance(package)`
install one package and nothing else, which proves what it declares.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["lint", "types", "tests", "wheels", "docs"]
nox.options.default_venv_backend = "virtualenv"

ROOT = Path(__file__).parent
PACKAGES = sorted(
    p.parent
    for p in [*ROOT.glob("packages/*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]
)
NAMES = [p.name for p in PACKAGES]
CONSTRAINTS = ROOT / "constraints.txt"
WORKSPACE = ROOT / ".nox" / "workspace"
SOURCES = [str(p.relative_to(ROOT) / "src") for p in PACKAGES]
TOOLS = [
    "build",
    "copier",
    "dask[array]",
    "editables",
    "hatchling",
    "hypothesis",
    "import-linter",
    "isal",
    "mypy",
    "pandas-stubs",
    "pyarrow",
    "pysam",
    "pytest",
    "pytest-xdist",
    "ruff",
    "scipy-stubs",
    "transformers",
    "types-PyYAML",
]


def workspace(session: nox.Session) -> Path:
    """Return the `bin` of the shared environment, made if needed."""
    stamp, digest = WORKSPACE / "stamp", _digest()
    bin_dir = WORKSPACE / ("Scripts" if os.name == "nt" else "bin")
    if stamp.exists() and stamp.read_text() == digest:
        return bin_dir
    if WORKSPACE.exists():
        shutil.rmtree(WORKSPACE)
    session.run(sys.executable, "-m", "venv", str(WORKSPACE), external=True)
    python = str(bin_dir / "python")
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]
    constrained = [*install, "-c", str(CONSTRAINTS)]
    # torch first and by its exact version: a later step may then not choose another build.
    session.run(*constrained, _pinned("torch"), external=True)
    session.run(*constrained, *_third_party(), *TOOLS, external=True)
    editable = [x for p in PACKAGES for x in ("-e", str(p))]
    session.run(*install, "--no-deps", "--no-build-isolation", *editable, external=True)
    session.run(python, "-m", "pip", "check", external=True, success_codes=[0, 1], silent=True)
    stamp.write_text(digest)
    return bin_dir


def _digest() -> str:
    files = [ROOT / "noxfile.py", CONSTRAINTS, *(p / "pyproject.toml" for p in PACKAGES)]
    text = sys.version.encode() + b"".join(f.read_bytes() for f in files)
    return hashlib.sha256(text).hexdigest()


def _pinned(name: str) -> str:
    return next(
        line for line in CONSTRAINTS.read_text().splitlines() if line.startswith(f"{name}==")
    )


def _third_party() -> list[str]:
    """Collect what our packages declare, less each other."""
    found: set[str] = set()
    for package in PACKAGES:
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        found |= set(project["dependencies"]) | set(
            project.get("optional-dependencies", {}).get("test", [])
        )
    return sorted(d for d in found if not d.startswith("cellweave-"))


def _environment() -> dict[str, str]:
    # One thread a process: results are then the same on every machine, and tests do not crowd.
    threads = {f"{n}_NUM_THREADS": "1" for n in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    return {**threads, "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}


@nox.session(venv_backend="none")
def demo(session: nox.Session) -> None:
    """Set up and run the main job on data that it makes itself; say where the report is."""
    bin_dir = workspace(session)
    session.run(
        str(bin_dir / "cellweave"), "demo", *session.posargs, external=True, env=_environment()
    )


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """Set up and run all tests: unit, conformance, integration, code blocks of the docs."""
    bin_dir = workspace(session)
    arguments = session.posargs or ["-q", "-n", "auto", "--dist", "worksteal", "--durations=15"]
    session.run(
        str(bin_dir / "python"), "-m", "pytest", *arguments, external=True, env=_environment()
    )


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style, format and who may import whom."""
    bin_dir = workspace(session)
    session.run(str(bin_dir / "ruff"), "check", ".", external=True)
    session.run(str(bin_dir / "ruff"), "format", "--check", ".", external=True)
    session.run(str(bin_dir / "lint-imports"), external=True)


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types strictly, one package after the other."""
    bin_dir = workspace(session)
    session.run(str(bin_dir / "mypy"), *SOURCES, external=True)


@nox.session(venv_backend="none")
def wheels(session: nox.Session) -> None:
    """Build every wheel, install the core alone outside the repository, and use it there."""
    bin_dir = workspace(session)
    with tempfile.TemporaryDirectory(prefix="cellweave-wheels-") as place:
        for package in [ROOT, *PACKAGES]:
            session.run(
                str(bin_dir / "python"),
                "-m",
                "build",
                "--wheel",
                "--no-isolation",
                "--outdir",
                place,
                str(package),
                external=True,
                silent=True,
            )
        session.log(f"built {len(list(Path(place).glob('*.whl')))} wheels")
        _try_core_alone(session, Path(place))


def _try_core_alone(session: nox.Session, place: Path) -> None:
    environment = place / "environment"
    session.run(sys.executable, "-m", "venv", str(environment), external=True)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    wheel = next(place.glob("cellweave_core-*.whl"))
    session.run(
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--only-binary",
        ":all:",
        "-c",
        str(CONSTRAINTS),
        str(wheel),
        external=True,
    )
    probe = (
        "import importlib.util, sys, cellweave; "
        "assert not any(importlib.util.find_spec(m) for m in ('torch', 'scanpy', 'muon')); "
        "assert not {'numpy', 'pandas', 'anndata'} & set(sys.modules)"
    )
    with session.chdir(str(place)):
        session.run(str(python), "-I", "-c", probe, external=True)
        session.run(str(python), "-I", "-m", "cellweave", "plugins", external=True)


@nox.session
@nox.parametrize("package", NAMES, ids=NAMES)
def unit(session: nox.Session, package: str) -> None:
    """Test one package with only what it declares installed."""
    folder = _install_alone(session, package)
    session.run("pytest", "-q", str(folder / "tests"), *session.posargs, env=_environment())


@nox.session
@nox.parametrize("package", NAMES, ids=NAMES)
def conformance(session: nox.Session, package: str) -> None:
    """Run one package's conformance suites with only what it declares installed."""
    folder = _install_alone(session, package)
    session.run("pytest", "-q", str(folder / "tests" / "test_conformance.py"), env=_environment())


def _install_alone(session: nox.Session, package: str) -> Path:
    folders = {p.name: p for p in PACKAGES}
    needed = _siblings(package, folders)
    if "nn" in needed or package == "nn":
        session.install("-c", str(CONSTRAINTS), _pinned("torch"))
    session.install(
        "-c",
        str(CONSTRAINTS),
        "pytest",
        "hypothesis",
        *(str(folders[n]) for n in sorted({package, *needed})),
    )
    return folders[package]


def _siblings(package: str, folders: dict[str, Path]) -> set[str]:
    project = tomllib.loads((folders[package] / "pyproject.toml").read_text())["project"]
    names = {
        d.removeprefix("cellweave-").split(">")[0].split("[")[0]
        for d in [
            *project["dependencies"],
            *project.get("optional-dependencies", {}).get("test", []),
        ]
        if d.startswith("cellweave-")
    }
    return names | {n for name in names for n in _siblings(name, folders)}


@nox.session(python=["3.11", "3.12", "3.13"])
def pythons(session: nox.Session) -> None:
    """Test what needs no torch on each interpreter that is present."""
    names = ["core", "rna", "atac", "protein", "spatial", "metabolomics", "maxfuse", "bindsc"]
    folders = {p.name: p for p in PACKAGES}
    chosen = [folders[n] for n in names if n in folders]
    session.install("--only-binary", ":all:", "pytest", "hypothesis", *_third_party_of(chosen))
    session.install("--no-deps", *(str(p) for p in chosen))
    session.run(
        "pytest", "-q", *(str(p / "tests") for p in chosen), *session.posargs, env=_environment()
    )


def _third_party_of(packages: list[Path]) -> list[str]:
    found: set[str] = set()
    for package in packages:
        project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
        found |= {d for d in project["dependencies"] if not d.startswith("cellweave-")}
    return sorted(found)


@nox.session
def minimums(session: nox.Session) -> None:
    """Test the core with the lowest versions it declares."""
    core = ROOT / "packages" / "core"
    project = tomllib.loads((core / "pyproject.toml").read_text())["project"]
    lowest = [d.split(",")[0].replace(">=", "==") for d in project["dependencies"]]
    session.install("pytest", "hypothesis", *lowest)
    session.install("--no-deps", str(core))
    session.run("pytest", "-q", str(core / "tests"), *session.posargs, env=_environment())


@nox.session(venv_backend="none")
def integration(session: nox.Session) -> None:
    """Run only what needs several packages together."""
    bin_dir = workspace(session)
    session.run(
        str(bin_dir / "python"),
        "-m",
        "pytest",
        "-q",
        "integration-tests",
        *session.posargs,
        external=True,
        env=_environment(),
    )


@nox.session(venv_backend="none")
def template(session: nox.Session) -> None:
    """Render the template as an author would, install it and run its tests."""
    bin_dir = workspace(session)
    python = str(bin_dir / "python")
    with tempfile.TemporaryDirectory(prefix="cellweave-template-") as place:
        for kind in ("integrator", "tokenizer"):
            folder = Path(place) / f"my{kind}"
            session.run(
                str(bin_dir / "cellweave"),
                "plugins",
                "new",
                f"my{kind}",
                "--kind",
                kind,
                "-o",
                str(folder),
                external=True,
            )
            target = Path(place) / f"site-{kind}"
            session.run(
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--no-build-isolation",
                "--target",
                str(target),
                str(folder),
                external=True,
            )
            path = {**_environment(), "PYTHONPATH": str(target)}
            session.run(
                str(bin_dir / "cellweave"), "plugins", "check", f"my{kind}", external=True, env=path
            )
            session.run(python, "-m", "pytest", "-q", str(folder), external=True, env=path)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    bin_dir = workspace(session)
    python = str(bin_dir / "python")
    needs = [
        "sphinx",
        "myst-nb",
        "sphinx-book-theme",
        "sphinx-copybutton",
    ]
    if subprocess.run(
        [
            python,
            "-c",
            "import myst_nb, sphinx_book_theme, sphinx_copybutton",
        ],
        check=False,
        capture_output=True,
    ).returncode:
        session.run(
            python, "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), *needs, external=True
        )
    session.run(
        python,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        "docs",
        "docs/_build/html",
        *session.posargs,
        external=True,
        env=_environment(),
    )


@nox.session(venv_backend="none")
def version(session: nox.Session) -> None:
    """Move all versions in lockstep: `nox -s version -- 0.2.0`."""
    new = session.posargs[0]
    major, minor = (int(part) for part in new.split(".")[:2])
    below = f"{major}.{minor + 1}" if major == 0 else f"{major + 1}"
    for file in [ROOT / "pyproject.toml", *(p / "pyproject.toml" for p in PACKAGES)]:
        text = re.sub(r'(?m)^version = ".*"$', f'version = "{new}"', file.read_text())
        text = re.sub(r"(cellweave-[a-z]+(?:\[[a-z,]+\])?)==[^\"]+", rf"\1=={new}", text)
        lowest = f"{major}.{minor}" if major == 0 else f"{major}"
        text = re.sub(r"(cellweave-[a-z]+)>=[^\"]+", rf"\1>={lowest},<{below}", text)
        file.write_text(text)
    core = ROOT / "packages/core/src/cellweave/__init__.py"
    core.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{new}"', core.read_text()))


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Run a benchmark by name: `nox -s bench -- metrics`; without a name, list them."""
    names = sorted(p.stem.removeprefix("bench_") for p in (ROOT / "benchmarks").glob("bench_*.py"))
    if not session.posargs:
        session.log("benchmarks: " + ", ".join(names))
        return
    name, *arguments = session.posargs
    if name not in names:
        session.error(f"no benchmark {name!r}; there are: {', '.join(names)}")
    bin_dir = workspace(session)
    session.run(
        str(bin_dir / "python"),
        str(ROOT / "benchmarks" / f"bench_{name}.py"),
        *arguments,
        external=True,
        env=_environment(),
    )
