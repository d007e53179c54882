"""Are cells of a type that the other modality lacks found, and others left alone, by any method.

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
    export CELLWEAVE_DATA=...
    python benchmarks/bench_missing_types.py --data cite --methods maxfuse,bindsc,scmodal,glue

The 2 500-cell draws, pairing hidden, defaults. Each of the commonest types in turn is taken out of
the modality that is not RNA. Agreement: median over the RNA cells of that type, and over all
others. Found: the share of that type's cells that are called doubtful. Right: the share of doubtful
cells that are of that type. Ranked: the chance that such a cell agrees less than another one.
"""

from __future__ import annotations

import argparse

import numpy as np
from glue_real_data import load
from sklearn.metrics import roc_auc_score

import cellweave
from cellweave.datasets.joining import joined


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cite,snare")
    parser.add_argument("--methods", default="maxfuse,bindsc")
    parser.add_argument("--types", type=int, default=5, help="how many types to take out in turn")
    options = parser.parse_args()
    head = f"{'data':11} {'without':12} {'method':8} {'cells':>6} {'agreement':>15}"
    print(f"{head} {'found':>6} {'right':>6} {'ranked':>7} {'other side doubted':>19}")
    for name in options.data.split(","):
        case = load(name, draw=True)
        kinds = case.labels[np.argsort(case.partner)]
        types, counts = np.unique(kinds, return_counts=True)
        for gone in (None, *types[np.argsort(-counts)][: options.types]):
            kept = kinds != gone
            other = case.mdata[case.other][kept].copy()
            mdata = joined({"rna": case.mdata["rna"].copy(), case.other: other}, {})
            for method in options.methods.split(","):
                result = cellweave.integrate(mdata, method, links=case.links)
                print(_row(case, gone, method, result), flush=True)


def _row(case, gone, method, result) -> str:
    by_source = {one.source: one for one in result.agreement}
    here, there = by_source["rna"], by_source[case.other]
    missing = case.labels == gone
    said = f"{case.name:11} {gone or '(nothing)':12} {method:8} {missing.sum():6d}"
    others = f"{np.median(here.scores[~missing]):.2f}"
    if gone is None:
        return (
            f"{said} {others:>15} {'':6} {here.doubtful.sum():6d} {'':7} {there.doubtful.sum():19d}"
        )
    found = here.doubtful[missing].mean()
    right = missing[here.doubtful].mean() if here.doubtful.any() else float("nan")
    ranked = roc_auc_score(missing, -here.scores)
    both = f"{np.median(here.scores[missing]):.2f} / {others}"
    return f"{said} {both:>15} {found:6.2f} {right:6.2f} {ranked:7.2f} {there.doubtful.sum():19d}"


if __name__ == "__main__":
    main()
