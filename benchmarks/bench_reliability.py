"""kill -9 while writing, one-bit flips, malformed inputs.

Run: ``python benchmarks/bench_reliability.py [--kills 200] [--flips 1000] [--malformed 1000]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

from cellweave.data import read, write
from cellweave.errors import CellweaveError, IntegrityError
from cellweave.joins import without_pulling
from cellweave.records import ComponentState, Score, Scores, Tokens
from cellweave.storage import recover, verify, write_bytes

_ZOO = Path(__file__).parents[1] / "packages/core/tests/data/malformed.py"
_spec = importlib.util.spec_from_file_location("malformed", _ZOO)
zoo = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(zoo)


# --- outputs: name → (write version i to path, read the version back) -------------------


def _adata(i):
    adata = zoo.small_adata(300, 200)
    adata.uns["version"] = i
    return adata


def _mdata(i):
    import mudata

    with without_pulling():
        mdata = mudata.MuData({"rna": zoo.small_adata(200, 150), "prot": zoo.small_adata(200, 10)})
    mdata.uns["version"] = i
    return mdata


def _version_of(data):
    return int(data.uns["version"])


def _tokens(i):
    n = 20_000
    return Tokens(
        offsets=np.array([0, n]),
        ids=np.full(n, i, dtype=np.int32),
        obs_names=np.array(["c"]),
    )


def _state(i):
    return ComponentState(component="x", parameters={"i": i}, arrays={"a": np.full(20_000, i)})


def _scores(i):
    return Scores(items=tuple(Score(metric=f"m{k}", value=float(i)) for k in range(500)))


OUTPUTS = {
    "x.h5ad": (
        lambda i, p: write(_adata(i), p),
        lambda p: _version_of(read(f"rna={p}").mod["rna"]),
    ),
    "x.h5mu": (lambda i, p: write(_mdata(i), p), lambda p: _version_of(read(p))),
    "x.zarr": (lambda i, p: write(_mdata(i), p), lambda p: _version_of(read(p))),
    "tokens.npz": (
        lambda i, p: _tokens(i).save(p),
        lambda p: int(np.unique(Tokens.load(p).ids).item()),
    ),
    "state": (
        lambda i, p: _state(i).save(p),
        lambda p: int(np.unique(ComponentState.load(p).arrays["a"]).item()),
    ),
    "scores.json": (lambda i, p: _scores(i).save(p), lambda p: int(Scores.load(p).value("m0"))),
    "report.html": (
        lambda i, p: write_bytes(p, (f"{i}\n" * 50_000).encode(), kind="report"),
        lambda p: int({*p.read_text().split()}.pop()),
    ),
}


# --- kill -9 ----------------------------------------------------------------------------


def _write_again_and_again(name, path, first):
    warnings.simplefilter("ignore")
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    i = first
    while True:
        OUTPUTS[name][0](i, path)
        i += 1


def kill_while_writing(name, folder, n, seed=0):
    """Kill a writer ``n`` times at random moments; return what was lost or left over."""
    path, rng = folder / name, np.random.default_rng(seed)
    write_version, read_version = OUTPUTS[name]
    start = time.perf_counter()
    write_version(1, path)
    write_version(1, path)
    once = max((time.perf_counter() - start) / 2, 0.002)
    lost, seen, context = [], 1, multiprocessing.get_context("fork")
    for k in range(n):
        child = context.Process(target=_write_again_and_again, args=(name, path, seen + 1))
        child.start()
        time.sleep(rng.uniform(0, 2.5 * once))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        try:
            recover(path)
            problems = verify(path)
            found = read_version(path)
            if problems or found < seen:
                lost.append((k, problems, found))
            seen = max(found, seen)
        except (CellweaveError, OSError, ValueError, KeyError) as error:
            lost.append((k, repr(error)))
    write_version(seen + 1, path)
    left = [p.name for p in folder.iterdir() if ".cellweave-" in p.name]
    return lost, left, seen


# --- flips ------------------------------------------------------------------------------


def flip_bits(folder, n, seed=0):
    """Flip one bit at a time in every kind of output; return how many ``verify`` did not find."""
    rng, missed, per = np.random.default_rng(seed), [], -(-n // len(OUTPUTS))
    done = 0
    for name, (write_version, _) in OUTPUTS.items():
        path = folder / name
        write_version(1, path)
        files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
        files = [p for p in files if p.stat().st_size]
        weights = np.array([p.stat().st_size for p in files], dtype=float)
        for _ in range(per):
            file = files[rng.choice(len(files), p=weights / weights.sum())]
            at, bit = int(rng.integers(file.stat().st_size)), 1 << int(rng.integers(8))
            _flip(file, at, bit)
            done += 1
            try:
                if not verify(path):
                    missed.append((name, file.name, at))
            except IntegrityError:
                pass
            _flip(file, at, bit)
        assert verify(path) == []
    return done, missed


def _flip(file, at, bit):
    with file.open("r+b") as handle:
        handle.seek(at)
        byte = handle.read(1)[0]
        handle.seek(at)
        handle.write(bytes([byte ^ bit]))


# --- malformed --------------------------------------------------------------------------


def _damaged(data, rng):
    """Damage bytes in one of four ways."""
    data = bytearray(data)
    way, at = rng.integers(4), int(rng.integers(len(data)))
    if way == 0:
        return "truncated", bytes(data[:at])
    if way == 1:
        data[at] ^= 1 << int(rng.integers(8))
        return "bit flipped", bytes(data)
    length = int(rng.integers(1, 4096))
    block = bytes(length) if way == 2 else rng.bytes(length)
    data[at : at + length] = block[: len(data[at : at + length])]
    return ("zero block" if way == 2 else "garbage"), bytes(data)


def malformed(folder, n, seed=0):
    """Read the zoo, then ``n`` damaged files, half of them vouched for by a manifest.

    Returns counts of what happened, and everything that must not: other exceptions, files that
    take over 30 s, vouched-for files that read as something.
    """
    rng, counts, bad = np.random.default_rng(seed), {}, []
    for name, make in zoo.all_cases():
        place = Path(tempfile.mkdtemp(dir=folder))
        _attempt(make(place), f"zoo {name}", counts, bad, must_fail=True)
        shutil.rmtree(place)
    originals = {}
    for name in ("x.h5ad", "x.h5mu"):
        OUTPUTS[name][0](1, folder / name)
        originals[name] = (folder / name).read_bytes()
    for k in range(n):
        name = ("x.h5ad", "x.h5mu")[k % 2]
        way, data = _damaged(originals[name], rng)
        vouched = k % 4 < 2
        place = folder / (name if vouched else f"plain-{name}")
        place.write_bytes(data)
        must_fail = vouched and data != originals[name]
        said = f"{way}{', with manifest' if vouched else ''}"
        _attempt(place, said, counts, bad, must_fail=must_fail)
    return counts, bad


def _attempt(path, said, counts, bad, *, must_fail):
    start = time.perf_counter()
    try:
        read(path, guess=lambda _: "rna")
        outcome = "read"
        if must_fail:
            bad.append((said, "was read"))
    except CellweaveError:
        outcome = "refused"
    except Exception as error:  # noqa: BLE001 - any other exception is what we count
        outcome = "traceback"
        bad.append((said, repr(error)))
    if time.perf_counter() - start > 30:
        bad.append((said, f"took {time.perf_counter() - start:.0f} s"))
    group = "zoo" if said.startswith("zoo") else said
    counts[(group, outcome)] = counts.get((group, outcome), 0) + 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="for each kind of output")
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--malformed", type=int, default=1000, help="besides the crafted ones")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in OUTPUTS:
        with tempfile.TemporaryDirectory() as folder:
            lost, left, versions = kill_while_writing(name, Path(folder), arguments.kills)
        print(
            f"kill -9  {name:12s} {arguments.kills} kills, {versions} versions written: "
            f"{len(lost)} lost or unreadable, {len(left)} leftovers after the next write",
            flush=True,
        )
        for entry in lost[:5]:
            print("   ", *entry)
    with tempfile.TemporaryDirectory() as folder:
        done, missed = flip_bits(Path(folder), arguments.flips)
    print(f"one-bit flips  {done}: {len(missed)} not found by verify", *missed[:5], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        counts, bad = malformed(Path(folder), arguments.malformed)
    print(f"malformed inputs  {sum(counts.values())}: {len(bad)} tracebacks, hangs or silent reads")
    for (said, outcome), n in sorted(counts.items()):
        print(f"    {said:32s} {outcome:10s} {n}")
    for entry in bad[:20]:
        print("    BAD", *entry)


if __name__ == "__main__":
    main()
