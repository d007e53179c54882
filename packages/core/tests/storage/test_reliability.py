"""The reliability benchmark in small: nothing lost, every flip found, nothing read wrong."""

import importlib.util
import warnings
from pathlib import Path

import pytest

_path = Path(__file__).parents[4] / "benchmarks" / "bench_reliability.py"
if not _path.exists():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("bench_reliability", _path)
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)


@pytest.mark.parametrize("name", bench.OUTPUTS)
def test_kill_9_at_random_moments_loses_nothing(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost, left, _ = bench.kill_while_writing(name, tmp_path, 4)
    assert lost == []
    assert left == []


def test_one_bit_flips_are_found(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done, missed = bench.flip_bits(tmp_path, 70)
    assert (done, missed) == (70, [])
