"""CPU time from nothing to ``import cellweave`` and ``cellweave plugins``, with 50 more plugins.

Run: ``python benchmarks/bench_startup.py [--repeats 15]``. Each command runs in a fresh
interpreter, the commands take turns, the least CPU time (user and system) of each counts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_PLUGIN = """
from cellweave.hookspecs import hookimpl
from cellweave.records import ComponentSpec
cellweave_api_version = 1

@hookimpl
def cellweave_integrators():
    yield ComponentSpec(name="dummy{i}", target="dummy{i}.parts:Part", summary="Does nothing.")
"""


def add_plugins(site: Path, n: int) -> None:
    """Write ``n`` distributions, each with an entry point and a package that is never imported."""
    for i in range(n):
        info, package = site / f"cellweave_dummy{i}-1.0.dist-info", site / f"dummy{i}"
        info.mkdir()
        package.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: cellweave-dummy{i}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(
            f"[cellweave.plugins]\ndummy{i} = dummy{i}._plugin\n"
        )
        (package / "__init__.py").write_text("")
        (package / "_plugin.py").write_text(_PLUGIN.format(i=i))


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Run a command; return user and system time of it."""
    before = os.times()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        add_plugins(Path(place), 50)
        plain = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        crowded = {**plain, "PYTHONPATH": place}
        commands = {
            "python -c pass": ([sys.executable, "-c", "pass"], plain),
            "import cellweave": ([sys.executable, "-c", "import cellweave"], plain),
            "cellweave plugins": ([sys.executable, "-m", "cellweave", "plugins"], plain),
            "cellweave plugins, 50 more": ([sys.executable, "-m", "cellweave", "plugins"], crowded),
            "import mudata": ([sys.executable, "-c", "import mudata"], plain),
        }
        listed = subprocess.run(
            commands["cellweave plugins, 50 more"][0], env=crowded, check=True, capture_output=True
        ).stdout
        assert listed.count(b"dummy") >= 50
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.repeats):
            for name, (command, environment) in commands.items():
                times[name].append(cpu_seconds(command, environment))
    mudata = min(times["import mudata"])
    print(f"least of {arguments.repeats}, CPU seconds of one process")
    for name, found in times.items():
        print(f"{name:28s} {min(found):6.3f} s   {min(found) / mudata:5.2f} of import mudata")


if __name__ == "__main__":
    main()
