"""scMODAL: a common latent space by adversaries, cycles, mutual neighbours and geometry.

Wang, Zhao, Lin et al., "A general deep learning framework for comprehensive single-cell multi-omics
data alignment with feature links", Nature Communications 16:4994 (2025). For modalities a, b of a
linked pair, with encoders E, decoders G and a discriminator D:

    min_{E,G} max_D  1·E[log D(E_a x_a)] + E[log(1 − D(E_b x_b))]
        + 10·Σ|G_a E_a x_a − x_a|² + 10·Σ|E_b G_b z_a − z_a|²
        + w·Σ_{mutual neighbours}|z_a − z_b|² − 3·Σ corr(K(x_a), K(z_a))

Where we depart. (1) The networks see a modality's low-dimensional coordinates and its smoothed
linked features rather than thousands of columns: a step costs a thousandth, any ``obsm`` can be
woven, and features come back through a linear map. (2) Linked features are averaged over
neighbours and weighted by the variance that neighbours share (see ``inputs.py``), so that mutual
neighbours are reliable, and their term weighs more. (3) One discriminator update a step suffices
with layers of this size. (4) Learning rates fall along a cosine. (5) Modalities form a tree of
linked pairs, not a chain. (6) Kernels are compared by correlation, a cell's own entry left out
(see ``losses.py``), and weigh less: as raw cosines they cost quality on every measure.
Ablations: ``benchmarks/bench_scmodal.py``.

Cost: a step is independent of the number of cells; memory is linear in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
import torch

from cellweave.contracts import Estimate
from cellweave.errors import ConfigError, DataError, NotFittedError, StateMismatchError
from cellweave.kernels.neighbours import nearest
from cellweave.records import (
    ComponentState,
    FeatureLinks,
    IntegrationResult,
    ProgressCallback,
    Provenance,
)
from cellweave.weaving import (
    InputRules,
    LinkedCoordinates,
    cells_of,
    check_inputs,
    linked_coordinates,
    new_cells_problem,
    one_per_pair,
    parse_use_rep,
)
from cellweave_scmodal.decoding import FeatureMap, fit_feature_map
from cellweave_scmodal.fitted import Fitted, restored
from cellweave_scmodal.inputs import Ground, ground_of, spanning_pairs
from cellweave_scmodal.model import Networks
from cellweave_scmodal.quality import advice_on, quality_of
from cellweave_scmodal.training import Schedule, Weights, train

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData

__all__ = ["ScmodalIntegrator"]

_VERSION = "0.1.0"
_POSITIVE = (
    "n_latent",
    "n_hidden",
    "n_discriminator",
    "n_steps",
    "batch_size",
    "learning_rate",
    "mutual_neighbors",
    "smoothing_neighbors",
    "max_linked",
)


class ScmodalIntegrator:
    """Weave two or more modalities along a tree of feature links.

    Parameters
    ----------
    n_latent
        Dimensions of the common space.
    n_hidden, n_discriminator
        Hidden units of encoders and decoders, and of discriminators.
    n_steps, batch_size
        Steps of training and cells of each modality in a step.
    learning_rate, weight_decay
        Of Adam; the rate falls along a cosine.
    discriminator_steps
        Discriminator updates a step.
    mutual_neighbors
        Neighbours within a batch, of which the mutual ones attract each other.
    smoothing_neighbors
        Neighbours over which linked features are averaged.
    max_linked
        Linked features are reduced to at most so many joint components.
    adversarial, autoencoder, cycle, neighbours, geometry
        Weights of the loss terms.
    use_rep
        ``obsm`` keys: ``"X_scgpt"``, ``"rna=X_scgpt,prot=X_pca"`` or a mapping.
    batch_key
        ``obs`` column of batches; coordinates and linked features are centred per batch.
    seed
        Same seed, same machine, same bytes.
    device
        Where the networks train: ``"cpu"``, ``"cuda"``.

    Examples
    --------
    >>> import cellweave
    >>> mdata = cellweave.datasets.simulate(n_cells=200, modalities=("rna", "prot"), prepared=True)
    >>> links = cellweave.datasets.true_links(mdata)
    >>> result = ScmodalIntegrator(n_steps=20).fit(mdata, links).result()
    >>> result.embeddings["rna"].shape
    (200, 20)
    """

    def __init__(
        self,
        *,
        n_latent: int = 20,
        n_hidden: int = 256,
        n_discriminator: int = 128,
        n_steps: int = 1500,
        batch_size: int = 500,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        discriminator_steps: int = 1,
        mutual_neighbors: int = 20,
        smoothing_neighbors: int = 30,
        max_linked: int = 30,
        adversarial: float = 1.0,
        autoencoder: float = 10.0,
        cycle: float = 10.0,
        neighbours: float = 20.0,
        geometry: float = 3.0,
        use_rep: str | Mapping[str, str] | None = None,
        batch_key: str | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._parameters: dict[str, Any] = {
            k: dict(v) if isinstance(v, Mapping) else v
            for k, v in locals().items()
            if k not in ("self", "__class__")
        }
        self.n_latent, self.n_hidden, self.n_discriminator = n_latent, n_hidden, n_discriminator
        self.n_steps, self.batch_size = n_steps, batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.discriminator_steps, self.mutual_neighbors = discriminator_steps, mutual_neighbors
        self.smoothing_neighbors, self.max_linked = smoothing_neighbors, max_linked
        self.loss_weights = Weights(
            adversarial=adversarial,
            autoencoder=autoencoder,
            cycle=cycle,
            neighbours=neighbours,
            geometry=geometry,
        )
        self.use_rep, self.batch_key, self.seed, self.device = use_rep, batch_key, seed, device
        self._fitted: Fitted | None = None
        self._check_settings()

    def _check_settings(self) -> None:
        wrong = [f"{n}={self._parameters[n]!r}" for n in _POSITIVE if not self._parameters[n] > 0]
        losses = asdict(self.loss_weights)
        not_negative = {"weight_decay": self.weight_decay, **losses}
        wrong += [f"{n}={v!r}" for n, v in not_negative.items() if not v >= 0]
        if self.discriminator_steps < 0:
            wrong.append(f"discriminator_steps={self.discriminator_steps!r}")
        if wrong:
            msg = f"scmodal cannot use {', '.join(wrong)}. Give numbers above zero."
            raise ConfigError(msg)

    def estimate(self, mdata: MuData) -> Estimate:
        """Tell beforehand what ``fit`` will need."""
        cells = sum(adata.n_obs for adata in mdata.mod.values())
        width = 50 + self.max_linked
        flops_a_cell = 40 * self.n_hidden * (width + self.n_latent)
        flops_a_cell += 12 * self.discriminator_steps * self.n_discriminator**2
        training = self.n_steps * self.batch_size * len(mdata.mod) * flops_a_cell / 1e10
        search = 2e-9 * sum(float(a.n_obs) ** 2 for a in mdata.mod.values())
        stored = sum(
            a.n_obs * (width + 1000) * 4 + getattr(a.X, "nnz", a.n_obs * a.n_vars) * 24
            for a in mdata.mod.values()
        )
        return Estimate(seconds=training + search + 2e-5 * cells, peak_bytes=int(5e8 + stored))

    def fit(
        self,
        mdata: MuData,
        links: Sequence[FeatureLinks] = (),
        *,
        progress: ProgressCallback | None = None,
    ) -> Self:
        """Fit on prepared data and return ``self``; ``mdata`` is not changed."""
        self._fitted = None
        tree, grounds = self._laid_out(mdata, links)
        cells, graphs = (
            {n: getattr(g, at) for n, g in grounds.items()} for at in ("cells", "graph")
        )
        pairs = [
            linked_coordinates(mdata.mod, one, cells, graphs, max_dims=self.max_linked)
            for one in tree
        ]
        inputs = _inputs_of(grounds, pairs)
        generator = torch.Generator().manual_seed(self.seed)
        networks = Networks(
            widths={n: x.shape[1] for n, x in inputs.items()},
            pairs=[(p.source, p.target) for p in pairs],
            generator=generator,
            **self._sizes(),
        ).to(self.device)
        history = train(
            networks,
            {n: torch.from_numpy(x).to(self.device) for n, x in inputs.items()},
            {(p.source, p.target): self._tensors(p) for p in pairs},
            self._schedule(),
            generator=generator,
            progress=progress,
        )
        coordinates = {n: grounds[n].cells.in_input_order(x) for n, x in inputs.items()}
        embeddings = {n: self._encoded(networks, n, x) for n, x in coordinates.items()}
        self._fitted = Fitted(
            networks=networks,
            pairs=tuple((p.source, p.target) for p in pairs),
            widths={n: x.shape[1] for n, x in inputs.items()},
            axes={n: g.axes for n, g in grounds.items()},
            maps={n: _feature_map(mdata, n, x) for n, x in coordinates.items()},
            obs_names={n: g.cells.obs_names for n, g in grounds.items()},
            embeddings=embeddings,
            coordinates=coordinates,
            history=history,
            quality=quality_of(embeddings, pairs, self.seed),
        )
        return self

    def _laid_out(
        self, mdata: MuData, links: Sequence[FeatureLinks]
    ) -> tuple[list[FeatureLinks], dict[str, Ground]]:
        """Check everything; return the links of the tree, and every modality's coordinates."""
        use_rep = parse_use_rep(self.use_rep, mdata)
        rules = InputRules(method="scMODAL", use_rep=use_rep, batch_key=self.batch_key)
        aligned = check_inputs(mdata, links, rules)
        grounds = {
            n: ground_of(
                cells_of(n, mdata.mod[n], use_rep=use_rep, batch_key=self.batch_key),
                n_neighbors=self.smoothing_neighbors,
            )
            for n in sorted(mdata.mod)
        }
        return spanning_pairs(list(one_per_pair(aligned).values())), grounds

    def result(self) -> IntegrationResult:
        """Return embeddings of all cells in input order."""
        fitted = self._need_fit()
        return IntegrationResult(
            embeddings={n: e.copy() for n, e in fitted.embeddings.items()},
            obs_names=fitted.obs_names,
            history=fitted.history,
            quality=fitted.quality,
            advice=advice_on(fitted.quality),
            provenance=self._provenance(),
        )

    def transform(self, mdata: MuData) -> dict[str, np.ndarray]:
        """Return the embedding of new cells, prepared as those of ``fit`` were.

        A new cell's linked coordinates are the mean of those of its nearest cells of ``fit``, by
        the representation, which must be in the same basis.
        """
        fitted = self._need_fit()
        bases = {n: a.basis for n, a in fitted.axes.items()}
        problems = [p for n in mdata.mod if (p := new_cells_problem(n, mdata.mod[n], bases))]
        if problems:
            raise DataError(" ".join(problems))
        return {n: self._transform_one(fitted, mdata, n) for n in mdata.mod}

    def _transform_one(self, fitted: Fitted, mdata: MuData, name: str) -> np.ndarray:
        new = fitted.axes[name].coordinates(mdata.mod[name], self.batch_key)
        known, width = fitted.coordinates[name], new.shape[1]
        k = min(self.smoothing_neighbors, len(known))
        at, _ = nearest(new, known[:, :width], k=k, metric="cosine")
        linked = known[:, width:][at].mean(axis=1)
        x = np.hstack([new, linked]).astype(np.float32)
        return self._encoded(fitted.networks, name, x)

    def impute(self, source: str, target: str) -> pd.DataFrame:
        """Return features of ``target`` for the cells of ``source``, in ``target``'s units of X."""
        import pandas as pd

        fitted = self._need_fit()
        fitted.require(source, target)
        z = torch.from_numpy(fitted.embeddings[source]).to(self.device)
        with torch.no_grad():
            coordinates = fitted.networks.decode(target, z).cpu().numpy()
        feature_map = fitted.maps[target]
        return pd.DataFrame(
            feature_map.values(coordinates),
            index=fitted.obs_names[source],
            columns=feature_map.features,
        )

    def feature_relations(self, source: str, target: str, *, n_cells: int = 200) -> pd.DataFrame:
        """Return how a unit of each feature of ``source`` moves each feature of ``target``.

        The Jacobian of decoder after encoder, averaged over up to ``n_cells`` cells, between the
        direction in which a source feature moves the coordinates and the target's feature map.
        """
        import pandas as pd

        fitted = self._need_fit()
        fitted.require(source, target)
        rows = np.linspace(0, len(fitted.embeddings[source]) - 1, n_cells).astype(int)
        x = torch.from_numpy(fitted.coordinates[source][np.unique(rows)]).to(self.device)

        def composed(one: torch.Tensor) -> torch.Tensor:
            z = fitted.networks.encode(source, one[None])
            return fitted.networks.decode(target, z)[0]

        jacobian = torch.func.vmap(torch.func.jacrev(composed))(x).mean(0).detach().cpu().numpy()
        here, there = fitted.maps[source], fitted.maps[target]
        values = here.directions @ jacobian.T @ there.slopes
        return pd.DataFrame(values, index=here.features, columns=there.features)

    def state(self) -> ComponentState:
        """Return everything ``result``, ``transform`` and ``impute`` need."""
        fitted = self._need_fit()
        return ComponentState(
            component="scmodal",
            parameters=self._parameters,
            arrays=fitted.arrays(),
            extra=fitted.extra(),
            provenance=self._provenance(),
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild the fitted integrator; every array is used, every parameter filled."""
        if state.component != "scmodal":
            msg = f"This is the state of {state.component!r}. Expected one of 'scmodal'."
            raise StateMismatchError(msg)
        made = cls(**state.parameters)
        made._fitted = restored(state, made._sizes(), device=made.device)
        return made

    def _sizes(self) -> dict[str, int]:
        return {n: getattr(self, n) for n in ("n_latent", "n_hidden", "n_discriminator")}

    def _tensors(self, pair: LinkedCoordinates) -> tuple[torch.Tensor, torch.Tensor]:
        first = torch.from_numpy(pair.source_linked).to(self.device)
        return first, torch.from_numpy(pair.target_linked).to(self.device)

    def _schedule(self) -> Schedule:
        return Schedule(
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            discriminator_steps=self.discriminator_steps,
            n_neighbors=self.mutual_neighbors,
            weights=self.loss_weights,
        )

    def _encoded(self, networks: Networks, name: str, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            z = networks.encode(name, torch.from_numpy(x).to(self.device))
        return np.asarray(z.cpu().numpy(), dtype=np.float32)

    def _need_fit(self) -> Fitted:
        if self._fitted is None:
            msg = "ScmodalIntegrator has no result yet. Call `fit(mdata, links)` first."
            raise NotFittedError(msg)
        return self._fitted

    def _provenance(self) -> Provenance:
        return Provenance(
            component="scmodal",
            version=_VERSION,
            parameters=self._parameters,
            seed=self.seed,
            versions={"torch": torch.__version__, "numpy": np.__version__},
        )


def _inputs_of(
    grounds: Mapping[str, Ground], pairs: Sequence[LinkedCoordinates]
) -> dict[str, np.ndarray]:
    """Put coordinates and all linked coordinates of a modality side by side."""
    parts = {name: [ground.coordinates] for name, ground in grounds.items()}
    for pair in pairs:
        parts[pair.source].append(pair.source_linked)
        parts[pair.target].append(pair.target_linked)
    return {name: np.ascontiguousarray(np.hstack(p)) for name, p in parts.items()}


def _feature_map(mdata: MuData, name: str, coordinates: np.ndarray) -> FeatureMap:
    adata = mdata.mod[name]
    keep = np.ones(adata.n_vars, dtype=bool)
    if "highly_variable" in adata.var:
        keep = adata.var["highly_variable"].to_numpy(dtype=bool)
    values = sp.csr_matrix(adata.X)[:, np.flatnonzero(keep)].astype(np.float64)
    return fit_feature_map(coordinates, values, adata.var_names.to_numpy()[keep])
