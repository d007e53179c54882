"""Does each loss term of scMODAL earn its place: quality with the term, and with its weight at 0.

Run with CELLWEAVE_DATA set: ``python benchmarks/bench_scmodal.py --data cite --seeds 0,1,2``.
"""

from __future__ import annotations

import argparse
import time

from glue_real_data import load, scores

from cellweave_scmodal import ScmodalIntegrator

TERMS = ("adversarial", "autoencoder", "cycle", "neighbours", "geometry")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("cite", "snare"), default="cite")
    parser.add_argument("--whole", action="store_true", help="all cells, not the 2 500-cell draw")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--without", default=",".join(TERMS), help="terms to leave out in turn")
    arguments = parser.parse_args()
    case = load(arguments.data, draw=not arguments.whole)
    sizes = ", ".join(f"{n} {a.n_obs} × {a.n_vars}" for n, a in case.mdata.mod.items())
    print(f"{case.name}: {sizes}; pairing hidden, defaults; seconds are CPU seconds of fit")
    without = [t for t in arguments.without.split(",") if t]
    for seed in (int(s) for s in arguments.seeds.split(",")):
        for term in (None, *without):
            weights = {} if term is None else {term: 0.0}
            started = time.process_time()
            fitted = ScmodalIntegrator(seed=seed, **weights).fit(case.mdata, case.links)
            seconds = time.process_time() - started
            found = fitted.result().embeddings
            measured = scores(case, found["rna"], found[case.other])
            values = "  ".join(f"{k} {v:.4f}" for k, v in measured.items())
            name = "all terms" if term is None else f"without {term}"
            print(f"seed {seed}  {name:22s}  {values}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
