"""Every metric that the core offers, against the contract."""

from __future__ import annotations

import pytest

from cellweave.evaluation.specs import SPECS
from cellweave.plugins import PluginManager
from cellweave.records.component import ComponentKind
from cellweave.testing import check

REGISTRY = PluginManager.of().registry(ComponentKind.METRIC)


@pytest.mark.parametrize("name", [s.name for s in SPECS])
def test_metric_keeps_its_contract(name):
    component = REGISTRY[name]
    if missing := component.missing_modules():
        pytest.skip(f"the optional library {missing[0]} is not installed")
    failed = [
        r for r in check(component.load(), "metric", spec=component.spec) if r.outcome == "failed"
    ]
    assert not failed, "\n".join(f"{r.name}: {r.message}" for r in failed)
