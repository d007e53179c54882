"""The rules of the kit itself: tags, expected failures, no overriding, a runner, a guard."""

# ruff: noqa: NPY002 - the global generators are what is guarded

import os
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from cellweave.datasets import simulate
from cellweave.errors import ConfigError
from cellweave.testing import (
    IntegratorSuite,
    Suite,
    TokenizerSuite,
    check,
    global_state_unchanged,
    run_suite,
)
from cellweave.testing.digests import changed_parts, digests_of
from cellweave.testing.suite import needs_tag, refusal, require


class _Toy(Suite):
    __module__ = "cellweave.testing.toy"  # as if it were one of the shipped suites

    def create(self, **_):
        return object()

    def test_good(self):
        require(True, "never")

    def test_bad(self):
        require(1 == 2, "one is not two; write one")

    @needs_tag("wings")
    def test_flies(self):
        require(False, "it has wings but does not fly")


def outcomes(suite):
    return {r.name: r.outcome for r in run_suite(suite)}


def test_tags_choose_checks():
    assert outcomes(_Toy) == {"test_good": "passed", "test_bad": "failed", "test_flies": "skipped"}

    class Winged(_Toy):
        tags = frozenset({"wings"})

    assert outcomes(Winged)["test_flies"] == "failed"


def test_expected_failure_is_reported_with_its_reason():
    class Known(_Toy):
        expected_failures: ClassVar = {"test_bad": "numbers are hard"}

    result = next(r for r in run_suite(Known) if r.name == "test_bad")
    assert result.outcome == "expected failure"
    assert result.message == "numbers are hard"


def test_expected_failure_that_passes_is_a_failure():
    class Known(_Toy):
        expected_failures: ClassVar = {"test_good": "we thought so"}

    result = next(r for r in run_suite(Known) if r.name == "test_good")
    assert result.outcome == "failed"
    assert "Take it out of `expected_failures`" in result.message


def test_expected_failure_is_inherited_once():
    class Known(_Toy):
        expected_failures: ClassVar = {"test_bad": "numbers are hard"}

    class More(Known):
        pass

    assert outcomes(More)["test_bad"] == "expected failure"


def test_overriding_a_check_is_refused():
    with pytest.raises(ConfigError, match="overrides test_bad"):
        type("Sly", (_Toy,), {"test_bad": lambda self: None})


def test_overriding_a_check_by_a_mixin_is_refused():
    mixin = type("Mixin", (), {"test_bad": lambda self: None})
    with pytest.raises(ConfigError, match="overrides test_bad"):
        type("Sly", (mixin, _Toy), {})


def test_overriding_by_none_is_refused():
    with pytest.raises(ConfigError, match="overrides test_bad"):
        type("Sly", (_Toy,), {"test_bad": None})


def test_own_checks_may_be_added():
    more = type("More", (_Toy,), {"test_mine": lambda self: None})
    assert outcomes(more)["test_mine"] == "passed"


@pytest.mark.parametrize("reason", ["", "  "])
def test_empty_reason_is_refused(reason):
    with pytest.raises(ConfigError, match="has no reason"):
        type("Lazy", (_Toy,), {"expected_failures": {"test_bad": reason}})


def test_unknown_expected_failure_is_refused_with_the_closest():
    with pytest.raises(ConfigError, match="Did you mean 'test_good'"):
        type("Typo", (_Toy,), {"expected_failures": {"test_goood": "why"}})


def test_refusal_wants_one_of_our_errors_with_a_text():
    with pytest.raises(AssertionError, match="was accepted"), refusal("Rubbish"):
        pass
    told = pytest.raises(AssertionError, match="expected CellweaveError, got KeyError")
    with told, refusal("Rubbish"):
        raise KeyError("x")
    with pytest.raises(AssertionError, match="has no text"), refusal("Rubbish"):
        raise ConfigError("bad")


def test_suites_have_enough_checks():
    assert len(IntegratorSuite.checks()) >= 25
    assert len(TokenizerSuite.checks()) >= 25
    from cellweave import testing

    for name in testing.__all__:
        if name.endswith("Suite") and name != "Suite":
            assert len(getattr(testing, name).checks()) >= 10, name


def test_every_check_says_what_it_checks():
    from cellweave import testing

    for suite in ("Integrator", "Tokenizer", "Encoder", "Objective", "Task", "Metric", "Model"):
        cls = getattr(testing, f"{suite}Suite")
        for name in cls.checks():
            assert getattr(cls, name).__doc__, f"{suite}: {name}"


def test_component_that_cannot_be_built_gives_one_failure():
    class Needy:
        def __init__(self, *, size):
            self.size = size

    (result,) = check(Needy, "tokenizer")
    assert result.outcome == "failed"
    assert "conformance_suite" in result.message


def test_unknown_kind_names_the_closest():
    with pytest.raises(ConfigError, match="Did you mean 'integrator'"):
        check(object, "integrater")


def test_runner_and_suites_need_no_pytest_and_no_torch():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from cellweave.testing import IntegratorSuite, TokenizerSuite, check\n"
        "assert 'torch' not in sys.modules\n"
        "assert check(object, 'tokenizer')[0].outcome == 'failed'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# -- global state -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (np.random.rand, "numpy.random"),
        (random.random, "random.getstate"),
        (lambda: os.environ.__setitem__("CELLWEAVE_X", "1"), "environment"),
        (lambda: os.chdir("/"), "working directory"),
        (lambda: warnings.simplefilter("ignore"), "warnings filters"),
        (lambda: sys.path.append("x"), "sys.path"),
        (lambda: np.set_printoptions(precision=3), "print options"),
    ],
)
def test_guard_names_the_change_and_puts_it_back(change, named):
    folder, before = Path.cwd(), np.random.get_state()[1].copy()
    with pytest.raises(AssertionError, match=named), global_state_unchanged():
        change()
    assert Path.cwd() == folder
    assert "CELLWEAVE_X" not in os.environ
    assert "x" not in sys.path
    assert np.array_equal(before, np.random.get_state()[1])


def test_guard_sees_matplotlib_and_torch():
    matplotlib = pytest.importorskip("matplotlib")
    with pytest.raises(AssertionError, match="matplotlib rcParams"), global_state_unchanged():
        matplotlib.rcParams["lines.linewidth"] = 7
    torch = pytest.importorskip("torch")
    with pytest.raises(AssertionError, match="torch random state"), global_state_unchanged():
        torch.rand(1)
    with pytest.raises(AssertionError, match="torch matmul precision"), global_state_unchanged():
        torch.set_float32_matmul_precision("medium")
    assert torch.get_float32_matmul_precision() == "highest"


def test_guard_lets_the_blocks_own_error_through():
    with pytest.raises(ZeroDivisionError), global_state_unchanged():
        1 / 0  # noqa: B018


# -- digests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda a: a.X.data.__setitem__(0, 9), "X"),
        (lambda a: a.obs.insert(0, "new", 1), "obs"),
        (lambda a: a.obsm.__setitem__("Z", np.zeros((a.n_obs, 2))), "obsm"),
        (lambda a: setattr(a, "obs_names", pd.Index([f"x{i}" for i in range(a.n_obs)])), "obs"),
        (lambda a: a.uns.__setitem__("k", 1), "uns"),
        (lambda a: a.layers.__setitem__("l", a.X.copy()), "layers"),
        (lambda a: setattr(a, "X", a.X.tocsc()), "X"),
    ],
)
def test_digests_find_every_change(change, place):
    mdata = simulate(n_cells=20, modalities=("rna",), n_genes=30)
    before = digests_of(mdata)
    assert changed_parts(before, mdata) == []
    change(mdata.mod["rna"])
    assert any(place in part for part in changed_parts(before, mdata))


# -- the pytest plugin ------------------------------------------------------------------------


def test_fixtures_give_data_with_links(cellweave_prepared, cellweave_mdata, cellweave_links):
    assert "counts" in cellweave_prepared.mod["rna"].layers
    assert "counts" not in cellweave_mdata.mod["rna"].layers
    assert {links.source for links in cellweave_links} == {"rna", "atac"}


def test_fixture_data_are_fresh_copies(cellweave_prepared):
    from cellweave.testing.planted import planted

    cellweave_prepared.mod["rna"].X.data[:] = 0
    assert planted(("rna", "atac", "prot")).mod["rna"].X.data.any()


def test_manager_factory_refuses_discovery(plugin_manager_factory):
    from cellweave.plugins import PluginManager

    assert plugin_manager_factory().problems() == []
    with pytest.raises(AssertionError, match="Discovery"):
        PluginManager.discover()
