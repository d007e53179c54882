"""Put the parts of a fit together, and read new cells for a fitted model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellweave.errors import DataError
from cellweave.weaving import Basis, basis_of, new_cells_problem
from cellweave_glue.checkpoint import Checkpoint, digest_of, fingerprint
from cellweave_glue.consistency import chosen_size, integration_consistency
from cellweave_glue.fitted import FittedGlue, FittedModality, unit_rows
from cellweave_glue.fitting import FitPlan, Run, histories, run_phases
from cellweave_glue.graph import GuidanceGraph, build_graph
from cellweave_glue.inputs import collect
from cellweave_glue.quality import advice_on
from cellweave_glue.settings import TrainingSettings
from cellweave_glue.training import Trainer

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, ProgressCallback
    from cellweave_glue.inputs import ModalityInput
    from cellweave_glue.integrator import GlueIntegrator

__all__ = ["fit_glue", "new_latents", "pair_ids", "settings_of", "vectors_of_all"]


def settings_of(integrator: GlueIntegrator) -> TrainingSettings:
    """Return the part of the arguments that training reads."""
    names = TrainingSettings.__slots__
    return TrainingSettings(**{name: getattr(integrator, name) for name in names})


def plan_of(integrator: GlueIntegrator) -> FitPlan:
    """Return the part of the arguments that the phases read."""
    return FitPlan(**{name: getattr(integrator, name) for name in FitPlan.__slots__})


def fit_glue(
    integrator: GlueIntegrator,
    mdata: MuData,
    links: Sequence[FeatureLinks],
    progress: ProgressCallback | None,
) -> FittedGlue:
    """Check, train, and look at what came out."""
    data, aligned, labels = collect(mdata, links, integrator.input_settings(mdata))
    graph = build_graph({m: d.features for m, d in data.items()}, aligned)
    parameters = integrator.parameters()
    identity = fingerprint(data, graph, {k: v for k, v in parameters.items() if k != "checkpoint"})
    checkpoint = Checkpoint(integrator.checkpoint, identity=identity)
    trainer = Trainer(
        data,
        graph,
        settings_of(integrator),
        pairs=pair_ids(data) if integrator.paired else None,
        n_labels=len(labels),
    )
    run = run_phases(trainer, mdata, data, aligned, plan_of(integrator), checkpoint, progress)
    bases = {m: basis_of(mdata.mod[m], d.representation_key) for m, d in data.items()}
    return _fitted(integrator, trainer, run, data, graph, labels, bases)


def _fitted(
    integrator: GlueIntegrator,
    trainer: Trainer,
    run: Run,
    data: Mapping[str, ModalityInput],
    graph: GuidanceGraph,
    labels: tuple[str, ...],
    bases: Mapping[str, Basis],
) -> FittedGlue:
    latents = trainer.latents()
    directions = {m: unit_rows(z) for m, z in latents.items()}
    consistency = integration_consistency(directions, data, graph, seed=integrator.seed)
    quality = {f"consistency_{n}": value for n, value in consistency.items()}
    at = chosen_size(list(consistency), min(d.n_cells for d in data.values()))
    quality["consistency"] = consistency[at]
    mixing = run.history["discriminator"][-1]
    quality |= {"n_links": float(graph.n_links), "mixing": mixing}
    return FittedGlue(
        graph=graph,
        network=trainer.network.cpu().eval(),
        modalities={
            m: FittedModality(
                shape=trainer.shapes[m],
                basis=bases[m],
                batches=d.batches,
                obs_names=d.obs_names,
            )
            for m, d in data.items()
        },
        latents=latents,
        vectors=trainer.feature_vectors(),
        labels=labels,
        history=histories(run),
        quality=quality,
        advice=advice_on(graph, consistency=(at, consistency[at]), mixing=mixing),
        inputs={m: digest_of(d) for m, d in data.items()},
    )


def pair_ids(data: Mapping[str, ModalityInput]) -> dict[str, np.ndarray]:
    """Return an id a cell by modality; cells of equal name have equal ids."""
    names = np.unique(np.concatenate([d.obs_names for d in data.values()]))
    return {m: np.searchsorted(names, d.obs_names) for m, d in data.items()}


def vectors_of_all(models: Sequence[FittedGlue]) -> list[np.ndarray]:
    """Return the feature vectors of models that were fitted on one graph."""
    first = models[0].graph
    for other in models[1:]:
        same = first.modalities == other.graph.modalities and all(
            np.array_equal(first.features[m], other.graph.features[m]) for m in first.modalities
        )
        if not same:
            msg = (
                "The other fits have other features than this one. Fit all on the same data and "
                "links, with other seeds."
            )
            raise DataError(msg)
    return [model.vectors for model in models]


def new_latents(fitted: FittedGlue, mdata: MuData) -> dict[str, np.ndarray]:
    """Encode the cells of every modality of ``mdata``; all problems are told at once."""
    bases = {m: info.basis for m, info in fitted.modalities.items()}
    problems = [p for m in mdata.mod if (p := new_cells_problem(m, mdata.mod[m], bases))]
    if not mdata.mod:
        problems = ["`mdata` has no modality. Give new cells of at least one."]
    if problems:
        raise DataError("\n".join(problems))
    return {m: fitted.encode(m, adata.obsm[bases[m].key]) for m, adata in mdata.mod.items()}
