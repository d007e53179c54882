"""The conformance kit: one suite a contract, that any author can run on a plugin's parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellweave.lazy import lazy_exports

if TYPE_CHECKING:
    from cellweave.testing.encoder_suite import EncoderSuite as EncoderSuite
    from cellweave.testing.global_state import global_state_unchanged as global_state_unchanged
    from cellweave.testing.integrator_suite import IntegratorSuite as IntegratorSuite
    from cellweave.testing.metric_suite import MetricSuite as MetricSuite
    from cellweave.testing.modality_suite import ModalitySuite as ModalitySuite
    from cellweave.testing.model_suite import ModelSuite as ModelSuite
    from cellweave.testing.objective_suite import ObjectiveSuite as ObjectiveSuite
    from cellweave.testing.runner import CheckResult as CheckResult
    from cellweave.testing.runner import check as check
    from cellweave.testing.runner import run_suite as run_suite
    from cellweave.testing.suite import Suite as Suite
    from cellweave.testing.task_suite import TaskSuite as TaskSuite
    from cellweave.testing.tokenizer_suite import TokenizerSuite as TokenizerSuite

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CheckResult": "cellweave.testing.runner",
        "EncoderSuite": "cellweave.testing.encoder_suite",
        "IntegratorSuite": "cellweave.testing.integrator_suite",
        "MetricSuite": "cellweave.testing.metric_suite",
        "ModalitySuite": "cellweave.testing.modality_suite",
        "ModelSuite": "cellweave.testing.model_suite",
        "ObjectiveSuite": "cellweave.testing.objective_suite",
        "Suite": "cellweave.testing.suite",
        "TaskSuite": "cellweave.testing.task_suite",
        "TokenizerSuite": "cellweave.testing.tokenizer_suite",
        "check": "cellweave.testing.runner",
        "global_state_unchanged": "cellweave.testing.global_state",
        "run_suite": "cellweave.testing.runner",
    },
)
