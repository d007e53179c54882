"""One integration in a process of its own, so that its memory is its own.

Started by :func:`cellweave.verbs.compare.compare` as ``python -m cellweave.verbs._compare_run
FOLDER JOB``; reads prepared data and links from the folder, leaves a result and its cost there.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from cellweave.errors import CellweaveError

__all__ = ["DATA", "run_job"]

DATA = "prepared.h5mu"


def run_job(folder: Path, job: str) -> int:
    """Integrate as ``job`` says; write ``RESULT-job.npz`` and ``COST-job.json``."""
    from mudata import read_h5mu

    from cellweave.records import FeatureLinks
    from cellweave.verbs.integrate import integrate

    plan = json.loads((folder / f"{job}.json").read_text())
    links = [FeatureLinks.load(path) for path in sorted(folder.glob("links-*.npz"))]
    mdata = read_h5mu(folder / DATA)
    cost: dict[str, float | str] = {"failure": ""}
    started, cpu = time.perf_counter(), time.process_time()
    try:
        result = integrate(
            mdata,
            plan["method"],
            links=links,
            seed=plan["seed"],
            parameters=plan["parameters"],
        )
        result.save(folder / f"{job}-result.npz")
    except CellweaveError as error:
        cost["failure"] = str(error)
    cost["seconds"] = time.perf_counter() - started
    cost["cpu_seconds"] = time.process_time() - cpu
    cost["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (folder / f"{job}-cost.json").write_text(json.dumps(cost))
    return 0


if __name__ == "__main__":
    sys.exit(run_job(Path(sys.argv[1]), sys.argv[2]))
