"""scMODAL: a common latent space by adversaries, cycles, mutual neighbours and geometry.

Wang, Zhao, Lin et al., "A general deep learning framework for comprehensive single-cell multi-omics
data alignment with feature links", Nature Communications 16:4994 (2025). For modalities a, b of a
linked pair, with encoders E, decoders G and a discriminator D:

    min_{E,G} max_D  1·E[log D(E_a x_a)] + E[log(1 − D(E_b x_b))]
        + 10·Σ|G_a E_a x_a − x_a|² + 10·Σ|E_b G_b z_a − z_a|²
        + w·Σ_{mutual neighbours}|z_a − z_b|² − 10·Σ cos(K(x_a), K(z_a))

Where we depart. (1) The networks see a modality's low-dimensional coordinates and its smoothed
linked features rather than thousands of columns: a step costs a thousandth, any ``obsm`` can be
woven, and features come back through a linear map. (2) Linked features are averaged over
neighbours and weighted by the variance that neighbours share (see ``inputs.py``), so that mutual
neighbours are reliable, and their term weighs more. (3) One discriminator update a step suffices
with layers of this size. (4) Learning rates fall along a cosine. (5) Modalities form a tree of
linked pairs, not a chain. Ablations: ``benchmarks/bench_scmodal.py``.

Cost: a step is independent of the number of cells; memory is linear in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
import torch

from cellweave.contracts import Estimate
from cellweave.errors import (
    ConfigError,
    DataError,
    NotFittedError,
    StateMismatchError,
    closest,
    one_of,
)
from cellweave.kernels.neighbours import nearest
from cellweave.records import (
    ComponentState,
    FeatureLinks,
    IntegrationResult,
    ProgressCallback,
    Provenance,
)
from cellweave_scmodal.decoding import FeatureMap, fit_feature_map
from cellweave_scmodal.inputs import LinkedPair, coordinates_of, linked_pair, spanning_pairs
from cellweave_scmodal.model import Networks
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
_WEAK_AGREEMENT = 0.01
_MAP_PARTS = ("mean", "slopes", "directions")
_POOR_MIXING = 0.5
_MIXING_CELLS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """Everything that ``result``, ``transform`` and ``impute`` need."""

    networks: Networks
    pairs: tuple[tuple[str, str], ...]
    widths: Mapping[str, int]
    maps: Mapping[str, FeatureMap]
    obs_names: Mapping[str, np.ndarray]
    embeddings: Mapping[str, np.ndarray]
    coordinates: Mapping[str, np.ndarray]
    history: Mapping[str, np.ndarray]
    quality: Mapping[str, float]


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
        ``obsm`` key for all modalities, or modality to key; ``X_pca`` or ``X_lsi`` otherwise.
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
        geometry: float = 10.0,
        use_rep: str | dict[str, str] | None = None,
        batch_key: str | None = None,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._parameters: dict[str, Any] = {
            k: v for k, v in locals().items() if k not in ("self", "__class__")
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
        self._fitted: _Fitted | None = None
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
        names = sorted(mdata.mod)
        tree = spanning_pairs(names, links) if len(names) > 1 else []
        _check_data(mdata, names)
        representation = {n: self._coordinates(mdata, n) for n in names}
        pairs = [self._linked(mdata, one, representation) for one in tree]
        inputs = _inputs_of(representation, pairs)
        generator = torch.Generator().manual_seed(self.seed)
        networks = Networks(
            widths={n: x.shape[1] for n, x in inputs.items()},
            pairs=[(p.source, p.target) for p in pairs],
            n_latent=self.n_latent,
            n_hidden=self.n_hidden,
            n_discriminator=self.n_discriminator,
            generator=generator,
        ).to(self.device)
        history = train(
            networks,
            {n: torch.from_numpy(x).to(self.device) for n, x in inputs.items()},
            {(p.source, p.target): self._tensors(p) for p in pairs},
            self._schedule(),
            generator=generator,
            progress=progress,
        )
        embeddings = {n: self._encoded(networks, n, x) for n, x in inputs.items()}
        self._fitted = _Fitted(
            networks=networks,
            pairs=tuple((p.source, p.target) for p in pairs),
            widths={n: x.shape[1] for n, x in inputs.items()},
            maps={n: _feature_map(mdata, n, x) for n, x in inputs.items()},
            obs_names={n: np.asarray(mdata.mod[n].obs_names, dtype=str) for n in names},
            embeddings=embeddings,
            coordinates=inputs,
            history=history,
            quality=_quality(embeddings, pairs, self.seed),
        )
        return self

    def result(self) -> IntegrationResult:
        """Return embeddings of all cells in input order."""
        fitted = self._need_fit()
        return IntegrationResult(
            embeddings={n: e.copy() for n, e in fitted.embeddings.items()},
            obs_names=fitted.obs_names,
            history=fitted.history,
            quality=fitted.quality,
            advice=_advice(fitted.quality),
            provenance=self._provenance(),
        )

    def transform(self, mdata: MuData) -> dict[str, np.ndarray]:
        """Return the embedding of new cells, prepared as those of ``fit`` were.

        A new cell's linked coordinates are the mean of those of its nearest cells of ``fit``, by
        the representation, which must be in the same basis.
        """
        fitted = self._need_fit()
        out = {}
        for name in mdata.mod:
            if name not in fitted.widths:
                msg = (
                    f"scmodal was not fitted on {name!r}.{closest(name, fitted.widths)} "
                    f"It knows: {one_of(fitted.widths)}. Fit again with it."
                )
                raise DataError(msg)
            out[name] = self._transform_one(fitted, mdata, name)
        return out

    def _transform_one(self, fitted: _Fitted, mdata: MuData, name: str) -> np.ndarray:
        new = self._coordinates(mdata, name)
        known = fitted.coordinates[name]
        if new.shape[1] > known.shape[1]:
            msg = (
                f"`mdata[{name!r}]` has a representation of {new.shape[1]} dimensions. Expected "
                f"the one of `fit`, at most {known.shape[1]}: prepare both together."
            )
            raise DataError(msg)
        k = min(self.smoothing_neighbors, len(known))
        at, _ = nearest(new, known[:, : new.shape[1]], k=k, metric="cosine")
        linked = known[:, new.shape[1] :][at].mean(axis=1)
        x = np.hstack([new, linked]).astype(np.float32)
        return self._encoded(fitted.networks, name, x)

    def impute(self, source: str, target: str) -> pd.DataFrame:
        """Return features of ``target`` for the cells of ``source``, in ``target``'s units of X."""
        import pandas as pd

        fitted = self._need_fit()
        self._check_names(fitted, source, target)
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
        self._check_names(fitted, source, target)
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
        arrays = {f"net/{k}": v.cpu().numpy() for k, v in fitted.networks.state_dict().items()}
        for name in fitted.widths:
            arrays[f"embedding/{name}"] = fitted.embeddings[name]
            arrays[f"coordinates/{name}"] = fitted.coordinates[name]
            feature_map = fitted.maps[name]
            for part in _MAP_PARTS:
                arrays[f"map/{name}/{part}"] = getattr(feature_map, part)
        arrays |= {f"history/{k}": v for k, v in fitted.history.items()}
        extra = {
            "pairs": [list(p) for p in fitted.pairs],
            "widths": dict(fitted.widths),
            "obs_names": {n: v.tolist() for n, v in fitted.obs_names.items()},
            "features": {n: m.features.tolist() for n, m in fitted.maps.items()},
            "quality": dict(fitted.quality),
        }
        return ComponentState(
            component="scmodal",
            parameters=self._parameters,
            arrays=arrays,
            extra=extra,
            provenance=self._provenance(),
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild the fitted integrator; every array is used, every parameter filled."""
        if state.component != "scmodal":
            msg = f"This is the state of {state.component!r}. Expected one of 'scmodal'."
            raise StateMismatchError(msg)
        made = cls(**state.parameters)
        made._fitted = _restored(made, state)
        return made

    def _coordinates(self, mdata: MuData, name: str) -> np.ndarray:
        rep = self.use_rep.get(name) if isinstance(self.use_rep, dict) else self.use_rep
        return coordinates_of(mdata.mod[name], name, use_rep=rep, batch_key=self.batch_key)

    def _linked(
        self, mdata: MuData, links: FeatureLinks, coordinates: Mapping[str, np.ndarray]
    ) -> LinkedPair:
        return linked_pair(
            mdata,
            links if links.source < links.target else links.reversed(),
            coordinates,
            n_neighbors=self.smoothing_neighbors,
            max_dims=self.max_linked,
            batch_key=self.batch_key,
        )

    def _tensors(self, pair: LinkedPair) -> tuple[torch.Tensor, torch.Tensor]:
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

    def _check_names(self, fitted: _Fitted, *names: str) -> None:
        for name in names:
            if name not in fitted.widths:
                msg = (
                    f"scmodal was not fitted on {name!r}.{closest(name, fitted.widths)} "
                    f"It knows: {one_of(fitted.widths)}."
                )
                raise DataError(msg)

    def _need_fit(self) -> _Fitted:
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


def _check_data(mdata: MuData, names: Sequence[str]) -> None:
    problems = []
    if len(names) < 2:
        problems.append(f"it holds {len(names)} modality; expected two or more")
    for name in names:
        if "counts" not in mdata.mod[name].layers:
            problems.append(f"`mdata[{name!r}].layers` has no 'counts'")
        if mdata.mod[name].n_obs < 3:
            problems.append(f"`mdata[{name!r}]` has {mdata.mod[name].n_obs} cells")
    if problems:
        msg = f"scmodal cannot use these data: {'; '.join(problems)}. Run `cellweave.prepare`."
        raise DataError(msg)


def _inputs_of(
    representation: Mapping[str, np.ndarray], pairs: Sequence[LinkedPair]
) -> dict[str, np.ndarray]:
    """Put representation and all linked coordinates of a modality side by side."""
    parts = {name: [values] for name, values in representation.items()}
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


def _quality(
    embeddings: Mapping[str, np.ndarray], pairs: Sequence[LinkedPair], seed: int
) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    quality = {}
    for pair in pairs:
        quality[f"agreement_{pair.source}_{pair.target}"] = pair.agreement
        a, b = (_sampled(embeddings[n], rng) for n in (pair.source, pair.target))
        both = np.vstack([a, b])
        is_first = np.arange(len(both)) < len(a)
        at, _ = nearest(both, k=min(15, len(both) - 1), exclude_self=True)
        other = (is_first[at] != is_first[:, None]).mean()
        expected = 2 * is_first.mean() * (1 - is_first.mean())
        quality[f"mixing_{pair.source}_{pair.target}"] = float(other / max(expected, 1e-9))
    return quality


def _sampled(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if len(values) <= _MIXING_CELLS:
        return values
    return values[np.sort(rng.choice(len(values), _MIXING_CELLS, replace=False))]


def _advice(quality: Mapping[str, float]) -> tuple[str, ...]:
    sentences = []
    for name, value in quality.items():
        kind, _, pair = name.partition("_")
        if kind == "agreement" and value < _WEAK_AGREEMENT:
            sentences.append(
                f"The linked features of {pair.replace('_', ' and ')} share {value:.1%} of their "
                "variance with their neighbours: they are close to noise. Link more features, or "
                "raise smoothing_neighbors."
            )
        if kind == "mixing" and value < _POOR_MIXING:
            sentences.append(
                f"{pair.replace('_', ' and ')} mix at {value:.0%} of what chance gives: they are "
                "not aligned. Raise n_steps or adversarial, or look whether they hold the same "
                "cell types."
            )
    return tuple(sentences)


def _restored(made: ScmodalIntegrator, state: ComponentState) -> _Fitted:
    extra = state.extra
    pairs = tuple((a, b) for a, b in extra["pairs"])
    networks = Networks(
        widths=extra["widths"],
        pairs=pairs,
        n_latent=made.n_latent,
        n_hidden=made.n_hidden,
        n_discriminator=made.n_discriminator,
        generator=torch.Generator().manual_seed(made.seed),
    )
    arrays = _checked_arrays(state, networks, list(extra["widths"]))
    tensors = {
        k[4:]: torch.from_numpy(np.array(v)) for k, v in arrays.items() if k.startswith("net/")
    }
    try:
        networks.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        msg = f"The state does not fit the networks: {reason}. Save it again from a fit."
        raise StateMismatchError(msg) from error
    maps = {
        name: FeatureMap(
            features=np.asarray(extra["features"][name], dtype=str),
            **{p: arrays[f"map/{name}/{p}"] for p in _MAP_PARTS},
        )
        for name in extra["widths"]
    }
    return _Fitted(
        networks=networks.to(made.device),
        pairs=pairs,
        widths=extra["widths"],
        maps=maps,
        obs_names={n: np.asarray(v, dtype=str) for n, v in extra["obs_names"].items()},
        embeddings={n: arrays[f"embedding/{n}"] for n in extra["widths"]},
        coordinates={n: arrays[f"coordinates/{n}"] for n in extra["widths"]},
        history={k[8:]: v for k, v in arrays.items() if k.startswith("history/")},
        quality=extra["quality"],
    )


def _checked_arrays(
    state: ComponentState, networks: Networks, names: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Refuse a state that lacks an array or holds one that nothing uses; show both lists."""
    expected = {f"net/{k}" for k in networks.state_dict()}
    expected |= {f"{group}/{n}" for group in ("embedding", "coordinates") for n in names}
    expected |= {f"map/{n}/{part}" for n in names for part in _MAP_PARTS}
    expected |= {f"history/{k}" for k in ("total", *asdict(Weights()))}
    missing, unused = expected - set(state.arrays), set(state.arrays) - expected
    if missing or unused:
        msg = (
            f"The state does not fit scmodal: missing {one_of(missing)}; "
            f"not used {one_of(unused)}. Save it again from a fit."
        )
        raise StateMismatchError(msg)
    return state.arrays
