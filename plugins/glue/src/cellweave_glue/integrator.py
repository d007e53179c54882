"""GLUE: graph-linked unified embedding of two or more unpaired modalities.

Cao and Gao, "Multi-omics single-cell data integration and regulatory inference with graph-linked
embedding", Nature Biotechnology 2022. One variational autoencoder a modality, with decoders that
are linear in feature vectors V shared through a guidance graph, and a discriminator D:

    max_D  E log D_m(u_m),      u_m ~ q(u | x_m),  V ~ q(V | graph)
    min    sum_m -ELBO(x_m | u_m, V_m) / N_m - lam_graph K ELBO(graph | V) + lam_align log D_m(u_m)
    x_mj ~ p( . | scale_j <u_m, V_j> + bias_j)

Where we depart, and why (measured by ``benchmarks/bench_glue_ablation.py``):

- N_m is the number of features but at least ``feature_floor``: with 14 proteins a mean over
  features outweighs graph and adversary by a hundred times, and the alignment drifts.
- Anchors (``anchors.py``), mutual neighbours among linked features, hold the coarse match; the
  adversary, at half its weight, mixes what they have matched.
- Biases start at the data's means; the learning rate is annealed once within a budget of steps an
  order of magnitude smaller; one encoding a step serves discriminator, generator and anchors.
- Counts, feature vectors and edges go through compiled sweeps that form value and gradient at once
  (``fused.py``); the mathematics is that of the plain forms.
- Vectors are returned at unit length: their length tells a cell's depth, not its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.contracts import Estimate
from cellweave.errors import ConfigError, NotFittedError
from cellweave.records import IntegrationResult, Provenance
from cellweave.weaving.checks import parse_use_rep
from cellweave_glue.inputs import InputSettings

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import (
        ComponentState,
        FeatureLinks,
        Prediction,
        ProgressCallback,
    )
    from cellweave_glue.fitted import FittedGlue
    from cellweave_glue.regulation import Alternative, RegulatoryLinks

__all__ = ["GlueIntegrator"]

_POSITIVE = (
    "n_latent",
    "n_hidden",
    "depth",
    "batch_size",
    "learning_rate",
    "progress",
    "min_epochs",
    "n_negatives",
    "feature_floor",
    "n_anchor_neighbours",
    "n_smooth",
)
_NOT_NEGATIVE = ("lam_graph", "lam_align", "lam_kl", "lam_label", "lam_pair", "lam_anchor")


@dataclass(kw_only=True)
class GlueIntegrator:
    """Weave two or more modalities with GLUE.

    Parameters
    ----------
    n_latent, n_hidden, depth, dropout
        Sizes of the networks.
    lam_graph, lam_align, lam_kl
        Weights of the graph's loss, the adversary's, and the divergence from the prior.
    lam_label, lam_pair, lam_anchor
        Weights of partial labels, of paired cells, and of anchors between linked features.
    anchor_margin
        Cosine distance up to which anchors may stay apart.
    n_anchor_neighbours, n_smooth
        Neighbours among which anchors must be mutual; over which linked values are averaged.
    feature_floor
        Least number of features by which a modality's evidence is divided.
    batch_size
        Cells of each modality a step.
    learning_rate, progress, min_epochs
        Speed, and the longest phase: ``progress / learning_rate`` steps, at least ``min_epochs``.
    n_negatives
        Negative samples for each edge.
    validation_fraction
        Cells held out to tell when the loss stalls.
    balance
        Weigh cells by matched clusters before alignment.
    likelihoods
        Modality to ``nb``, ``zinb``, ``normal``, ``nb_mixture`` or ``bernoulli``. Counts are
        modelled by ``nb``, proteins and metabolites by ``normal`` on the prepared values.
    use_rep
        The ``obsm`` key that the encoders read: one for all that have it, or by modality as a
        mapping or ``"rna=X_scgpt,atac=X_lsi"``; any representation will do.
    batch_key
        Column of ``obs`` whose batches get decoder parameters of their own.
    label_key, unlabelled
        Column of ``obs`` with known labels of some cells; values that mean "not known".
    paired
        Whether cells of equal name in two modalities are one cell.
    checkpoint
        Folder that keeps the running fit; a killed fit goes on from there.
    seed, device
        For everything random; where to compute.
    """

    n_latent: int = 50
    n_hidden: int = 256
    depth: int = 2
    dropout: float = 0.2
    lam_graph: float = 0.02
    lam_align: float = 0.025
    lam_kl: float = 1.0
    lam_label: float = 0.02
    lam_pair: float = 0.02
    lam_anchor: float = 0.1
    anchor_margin: float = 0.4
    n_anchor_neighbours: int = 15
    n_smooth: int = 30
    feature_floor: int = 1000
    batch_size: int = 128
    learning_rate: float = 2e-3
    progress: float = 1.5
    min_epochs: int = 4
    n_negatives: int = 10
    validation_fraction: float = 0.1
    balance: bool = True
    likelihoods: Mapping[str, str] | None = None
    use_rep: str | Mapping[str, str] | None = None
    batch_key: str | None = None
    label_key: str | None = None
    unlabelled: Sequence[str] = ()
    paired: bool = False
    checkpoint: str | None = None
    seed: int = 0
    device: str = "cpu"
    _fitted: FittedGlue | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse values that no fit could use, all at once."""
        problems = [
            f"{name}={getattr(self, name)!r} must be above 0"
            for name in _POSITIVE
            if not getattr(self, name) > 0
        ]
        problems += [
            f"{name}={getattr(self, name)!r} must not be negative"
            for name in _NOT_NEGATIVE
            if not getattr(self, name) >= 0
        ]
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout={self.dropout!r} must lie in [0, 1)")
        if not 0 <= self.validation_fraction <= 0.5:
            problems.append(
                f"validation_fraction={self.validation_fraction!r} must lie in [0, 0.5]"
            )
        if problems:
            msg = f"GlueIntegrator cannot be made: {'; '.join(problems)}. Change these arguments."
            raise ConfigError(msg)

    # -- the contract ---------------------------------------------------------------------------

    def fit(
        self,
        mdata: MuData,
        links: Sequence[FeatureLinks] = (),
        *,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Train on prepared data and return ``self``; ``mdata`` is not changed."""
        from cellweave_glue.assembling import fit_glue

        self._fitted = None
        self._fitted = fit_glue(self, mdata, links, progress)
        return self

    def result(self) -> IntegrationResult:
        """Return embeddings, feature vectors, history and quality of the fit."""
        from cellweave_glue.fitted import unit_rows

        fitted = self.fitted_model("result")
        offsets = fitted.graph.offsets
        return IntegrationResult(
            embeddings={m: unit_rows(z) for m, z in fitted.latents.items()},
            obs_names={m: info.obs_names for m, info in fitted.modalities.items()},
            feature_embeddings={m: fitted.vectors[offsets[m]] for m in offsets},
            feature_names=dict(fitted.graph.features),
            history=dict(fitted.history),
            quality=dict(fitted.quality),
            advice=fitted.advice,
            provenance=self.provenance(),
        )

    def estimate(self, mdata: MuData) -> Estimate:
        """Tell seconds and peak bytes of a fit, from sizes alone."""
        from cellweave_glue.estimating import estimate

        return estimate(mdata, self)

    def transform(self, mdata: MuData) -> dict[str, np.ndarray]:
        """Return the embedding of new cells of one or more fitted modalities, without refitting.

        The encoder reads the ``obsm`` key of the fit, whose axes must be those of the fit.
        """
        from cellweave_glue.assembling import new_latents
        from cellweave_glue.fitted import unit_rows

        fitted = self.fitted_model("transform")
        return {m: unit_rows(z) for m, z in new_latents(fitted, mdata).items()}

    def state(self) -> ComponentState:
        """Return everything that ``result``, ``transform`` and ``decode`` need."""
        from cellweave.records import ComponentState

        fitted = self.fitted_model("state")
        return ComponentState(
            component="glue",
            parameters=self.parameters(),
            arrays=fitted.arrays(),
            extra=fitted.extra(),
            provenance=self.provenance(),
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted integrator; refuse a state of another component."""
        from cellweave.errors import StateMismatchError
        from cellweave_glue.fitted import FittedGlue

        if state.component != "glue":
            msg = f"This state is of {state.component!r}; GlueIntegrator takes that of 'glue'."
            raise StateMismatchError(msg)
        self = cls(**state.parameters)
        sizes = {n: getattr(self, n) for n in ("n_latent", "n_hidden", "depth", "dropout")}
        self._fitted = FittedGlue.rebuilt(state.arrays, state.extra, sizes)
        return self

    # -- beyond the contract --------------------------------------------------------------------

    def decode(self, source: str, target: str, *, batch: str | None = None) -> np.ndarray:
        """Return what the fitted cells of ``source`` would show in ``target``.

        Columns are ``result().feature_names[target]``. Counts come as shares of 1 over these.
        """
        fitted = self.fitted_model("decode")
        latent = fitted.latents[fitted.known(source)]
        return fitted.decode(latent, target, batch=batch)

    def regulatory_links(
        self,
        *,
        alternative: Alternative = "greater",
        others: Sequence[GlueIntegrator] = (),
        background: Sequence[GlueIntegrator] = (),
        seed: int = 0,
    ) -> RegulatoryLinks:
        """Return every link of the guidance graph with score, p-value and FDR.

        ``others`` are fits of the same data and links with other seeds; scores are averaged.
        ``background`` are as many fits of the same data with links from
        :func:`~cellweave_glue.shuffled_links`: p-values then say whether the data, not the graph
        alone, put two features together. Without it they only rank the links; see
        ``regulation.py``.
        """
        from cellweave_glue.assembling import vectors_of_all
        from cellweave_glue.regulation import infer_regulation

        fitted = self.fitted_model("regulatory_links")
        models = [fitted, *(other.fitted_model("regulatory_links") for other in others)]
        chance = [other.fitted_model("regulatory_links") for other in background]
        return infer_regulation(
            fitted.graph,
            vectors_of_all(models),
            alternative=alternative,
            background=(chance[0].graph, vectors_of_all(chance)) if chance else None,
            seed=seed,
        )

    def transfer_labels(
        self,
        labels: Sequence[Any] | np.ndarray,
        *,
        source: str,
        target: str,
        n_neighbours: int = 30,
    ) -> Prediction:
        """Carry ``labels`` of the fitted ``source`` cells to the ``target`` cells."""
        from cellweave_glue.transfer import transfer_labels

        fitted = self.fitted_model("transfer_labels")
        return transfer_labels(
            fitted.latents[fitted.known(source)],
            np.asarray(labels, dtype=object),
            fitted.latents[fitted.known(target)],
            query_names=fitted.modalities[target].obs_names,
            provenance=self.provenance(),
            n_neighbours=n_neighbours,
        )

    def classify(self, modality: str) -> Prediction:
        """Return the trained classifier's labels of all fitted cells of a modality."""
        from cellweave.records import Prediction

        fitted = self.fitted_model("classify")
        shares = fitted.label_shares(fitted.latents[fitted.known(modality)])
        names = np.asarray(fitted.labels, dtype=str)
        return Prediction(
            names=fitted.modalities[modality].obs_names,
            values=names[shares.argmax(1)],
            confidence=shares.max(1),
            columns=names,
            probabilities=shares,
            provenance=self.provenance(),
        )

    # -- inside -----------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        values["unlabelled"] = list(self.unlabelled)
        for name in ("likelihoods", "use_rep"):
            if isinstance(values[name], Mapping):
                values[name] = dict(values[name])
        return values

    def provenance(self) -> Provenance:
        """Return what made the result."""
        own = version("cellweave-glue")
        libraries = {name: version(name) for name in ("numpy", "torch")}
        inputs = dict(self._fitted.inputs) if self._fitted is not None else {}
        return Provenance(
            component="glue",
            version=own,
            parameters=self.parameters(),
            seed=self.seed,
            inputs=inputs,
            versions=libraries,
        )

    def input_settings(self, mdata: MuData) -> InputSettings:
        """Return where ``mdata`` are looked up."""
        return InputSettings(
            use_rep=parse_use_rep(self.use_rep, mdata),
            likelihoods=dict(self.likelihoods or {}),
            batch_key=self.batch_key,
            label_key=self.label_key,
            unlabelled=tuple(self.unlabelled),
        )

    def fitted_model(self, what: str) -> FittedGlue:
        """Return the fitted networks and graph that ``what`` needs."""
        if self._fitted is None:
            msg = f"`{what}` needs a fitted GlueIntegrator. Call `fit(mdata, links)` first."
            raise NotFittedError(msg)
        return self._fitted
