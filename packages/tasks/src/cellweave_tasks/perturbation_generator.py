"""scGPT's generator as a model of the response, asked of the family's plugin by the registry.

The plugin holds the network and its training, and brings torch; nothing of it is imported here
until the method is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from cellweave.errors import ConfigError
from cellweave_tasks.perturbation_models import Query, Training
from cellweave_tasks.token_models import token_model

__all__ = ["GeneratorSettings", "generator_response"]

_FAMILY = "scgpt"


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorSettings:
    """Weights to start from (a path, a loaded model or nothing), steps, device and seed."""

    model: Any
    steps: int
    device: str
    seed: int

    def __post_init__(self) -> None:
        """Refuse numbers of steps that train nothing."""
        if self.steps < 1:
            msg = f"steps is {self.steps!r}. Expected 1 or more."
            raise ConfigError(msg)


class _GeneratorResponse:
    """The mean change of control cells, or that of each."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def __call__(self, query: Query) -> np.ndarray:
        found: np.ndarray = self.generator.mean_change(query.control, query.unit.perturbations)
        return found

    def of_cells(self, query: Query) -> np.ndarray:
        """Return the change of each control cell."""
        found: np.ndarray = self.generator.changes(query.control, query.unit.perturbations)
        return found


def generator_response(
    training: Training, settings: GeneratorSettings, *, described: bool
) -> _GeneratorResponse:
    """Train a generator on the control cells and the means of what was perturbed.

    Parameters
    ----------
    training
        What was measured.
    settings
        Of the network's training.
    described
        Whether the embedding of genes was given: published weights, which know genes already,
        read no other.
    """
    contexts = list(training.controls)
    sizes = [training.controls[c].shape[0] for c in contexts]
    ends = np.cumsum(sizes)
    rows = {c: np.arange(e - n, e) for c, n, e in zip(contexts, sizes, ends, strict=True)}
    values = sp.vstack([sp.csr_matrix(training.controls[c]) for c in contexts]).tocsr()
    starts = {c: np.asarray(values[rows[c]].mean(axis=0)).ravel() for c in contexts}
    start = np.stack([starts[u.context] for u in training.units])
    generator = _new_generator(training, settings, described=described)
    generator.fit(
        values,
        perturbed=[u.perturbations for u in training.units],
        rows=[rows[u.context] for u in training.units],
        starts=start,
        goals=start + training.deltas,
        weights=_trust(training),
        steps=settings.steps,
    )
    return _GeneratorResponse(generator)


def _trust(training: Training) -> np.ndarray:
    """Return what each unit weighs: the share of its change that is not noise of few cells."""
    true = max(float((training.deltas**2).mean() - training.noise.mean()), 1e-12)
    return np.asarray(true / (true + training.noise))


def _new_generator(training: Training, settings: GeneratorSettings, *, described: bool) -> Any:
    more: dict[str, Any] = {"seed": settings.seed, "device": settings.device}
    if settings.model is None or described:
        more["gene_vectors"] = training.gene_embedding
    if settings.model is None:
        return _family().new_perturbation_generator(training.names, **more)
    model = token_model(settings.model)
    if not hasattr(model, "perturbation_generator"):
        msg = (
            f"{type(model).__name__} generates no perturbed cells. Give weights in scGPT's layout, "
            "or leave `model` out to train from scratch."
        )
        raise ConfigError(msg)
    return model.perturbation_generator(training.names, **more)


def _family() -> Any:
    """Return the class of the family, or say how to install it."""
    from cellweave.plugins import get_plugin_manager
    from cellweave.records import ComponentKind

    return get_plugin_manager().registry(ComponentKind.MODEL)[_FAMILY].load()
