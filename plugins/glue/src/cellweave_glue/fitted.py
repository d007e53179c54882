"""A fitted GLUE: its networks, its graph, and what they give for old and new cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cellweave.errors import DataError, StateMismatchError, closest, one_of
from cellweave.weaving import Basis
from cellweave_glue.graph import GuidanceGraph
from cellweave_glue.model import GlueNetwork, ModalityShape

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["FittedGlue", "FittedModality", "unit_rows"]

_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModality:
    """What is kept of one modality's input."""

    shape: ModalityShape
    basis: Basis
    batches: tuple[str, ...]
    obs_names: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedGlue:
    """Hold everything that a fit leaves behind, on the CPU.

    Parameters
    ----------
    graph
        The guidance graph.
    network
        The trained networks.
    modalities
        Modality to what is known of its input.
    latents
        Modality to posterior means of the fitted cells, not brought to unit length.
    vectors
        Feature vectors in vertex order.
    labels
        Names of the classifier's labels.
    history, quality, advice
        As in the result.
    inputs
        Modality to the digest of what it was fitted on.
    """

    graph: GuidanceGraph
    network: GlueNetwork
    modalities: Mapping[str, FittedModality]
    latents: Mapping[str, np.ndarray]
    vectors: np.ndarray
    labels: tuple[str, ...]
    history: Mapping[str, np.ndarray]
    quality: Mapping[str, float]
    advice: tuple[str, ...]
    inputs: Mapping[str, str]

    @torch.no_grad()
    def encode(self, modality: str, representation: np.ndarray) -> np.ndarray:
        """Return posterior means of cells."""
        self.network.eval()
        encoder = self.network.encoder(self.known(modality))
        x = torch.as_tensor(np.ascontiguousarray(representation, dtype=np.float32))
        parts = [encoder(x[i : i + _CHUNK]).mean for i in range(0, len(x), _CHUNK)]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def decode(self, latent: np.ndarray, target: str, *, batch: str | None = None) -> np.ndarray:
        """Return what cells at ``latent`` would show in ``target``.

        Counts are returned as shares that add up to 1 over the modelled features, Normal values
        in their own units, Bernoulli as chances. ``batch`` names the batch to look like.
        """
        self.network.eval()
        code = self._batch_code(self.known(target), batch)
        v = torch.as_tensor(self.vectors[self.graph.offsets[target]])
        u = torch.as_tensor(np.ascontiguousarray(latent, dtype=np.float32))
        decoder = self.network.decoder(target)
        parts = []
        for i in range(0, len(u), _CHUNK):
            part = u[i : i + _CHUNK]
            codes = torch.full((len(part),), code)
            parts.append(decoder.expected(part, v, codes))
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def label_shares(self, latent: np.ndarray) -> np.ndarray:
        """Return the classifier's probability of every label."""
        classifier = self.network.classifier
        if classifier is None:
            msg = (
                "This fit saw no labels, so there is no classifier. "
                "Fit with GlueIntegrator(label_key='cell_type'), or use transfer_labels."
            )
            raise DataError(msg)
        logits: Tensor = classifier(torch.as_tensor(latent))
        return logits.softmax(1).numpy()

    def _batch_code(self, target: str, batch: str | None) -> int:
        batches = self.modalities[target].batches
        if batch is None:
            return 0
        if batch not in batches:
            msg = (
                f"{target!r} was fitted without a batch {batch!r}.{closest(batch, batches)} "
                f"It has: {one_of(batches)}."
            )
            raise DataError(msg)
        return batches.index(batch)

    def known(self, modality: str) -> str:
        """Return the name of a fitted modality, or say which there are."""
        if modality not in self.modalities:
            msg = (
                f"GLUE was not fitted on {modality!r}.{closest(modality, self.modalities)} "
                f"It knows: {one_of(self.modalities)}."
            )
            raise DataError(msg)
        return modality

    # -- state ----------------------------------------------------------------------------------

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything numeric, by name."""
        graph = self.graph
        out = {f"network/{k}": v.numpy() for k, v in self.network.state_dict().items()}
        out |= {f"latent/{m}": z for m, z in self.latents.items()}
        out |= {f"history/{k}": np.asarray(h, dtype=np.float64) for k, h in self.history.items()}
        edges = ("sources", "targets", "weights", "signs")
        out |= {f"graph/{name}": getattr(graph, name) for name in edges}
        return out | {"vectors": self.vectors}

    def extra(self) -> dict[str, Any]:
        """Return everything else, as JSON values."""
        return {
            "order": list(self.graph.modalities),
            "features": {m: f.tolist() for m, f in self.graph.features.items()},
            "modalities": {
                m: {
                    "shape": asdict(info.shape),
                    "basis": info.basis.to_json(),
                    "batches": list(info.batches),
                    "obs_names": info.obs_names.tolist(),
                }
                for m, info in self.modalities.items()
            },
            "labels": list(self.labels),
            "quality": dict(self.quality),
            "advice": list(self.advice),
            "n_history": len(self.history),
            "inputs": dict(self.inputs),
        }

    @classmethod
    def rebuilt(
        cls, arrays: Mapping[str, np.ndarray], extra: Mapping[str, Any], sizes: Mapping[str, Any]
    ) -> FittedGlue:
        """Rebuild from :meth:`arrays` and :meth:`extra`; every array must be there and used."""
        modalities = {
            m: FittedModality(
                shape=ModalityShape(**info["shape"]),
                basis=Basis.from_json(info["basis"]),
                batches=tuple(info["batches"]),
                obs_names=np.asarray(info["obs_names"], dtype=str),
            )
            for m, info in extra["modalities"].items()
        }
        graph = _rebuilt_graph(arrays, extra)
        network = GlueNetwork(
            shapes={m: modalities[m].shape for m in graph.modalities},
            n_vertices=graph.n_vertices,
            n_labels=len(extra["labels"]),
            generator=torch.Generator().manual_seed(0),
            **sizes,
        )
        fitted = cls(
            graph=graph,
            network=network,
            modalities=modalities,
            latents=_group(arrays, "latent/"),
            vectors=arrays.get("vectors", np.zeros(0, dtype=np.float32)),
            labels=tuple(extra["labels"]),
            history=_group(arrays, "history/"),
            quality=extra["quality"],
            advice=tuple(extra["advice"]),
            inputs=extra["inputs"],
        )
        _require_same_keys(arrays, fitted.arrays(), graph.modalities, extra["n_history"])
        _load_strictly(network, _group(arrays, "network/"))
        return fitted


def unit_rows(values: np.ndarray) -> np.ndarray:
    """Return rows at unit length."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    out: np.ndarray = (values / np.maximum(norms, 1e-12)).astype(np.float32)
    return out


def _group(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _rebuilt_graph(arrays: Mapping[str, np.ndarray], extra: Mapping[str, Any]) -> GuidanceGraph:
    missing = [f"graph/{n}" for n in ("sources", "targets", "weights", "signs")]
    missing = [name for name in missing if name not in arrays]
    if missing:
        msg = f"The state lacks the arrays {missing!r}. Save the fitted integrator again."
        raise StateMismatchError(msg)
    return GuidanceGraph(
        modalities=tuple(extra["order"]),
        features={m: np.asarray(extra["features"][m], dtype=str) for m in extra["order"]},
        sources=arrays["graph/sources"],
        targets=arrays["graph/targets"],
        weights=arrays["graph/weights"],
        signs=arrays["graph/signs"],
    )


def _require_same_keys(
    given: Mapping[str, np.ndarray],
    rebuilt: Mapping[str, np.ndarray],
    modalities: tuple[str, ...],
    n_history: int,
) -> None:
    expected = set(rebuilt) | {"vectors"} | {f"latent/{m}" for m in modalities}
    missing = sorted(k for k in expected if k not in given)
    unknown = sorted(k for k in given if k not in expected)
    n_found = sum(k.startswith("history/") for k in given)
    if missing or unknown or n_found != n_history:
        msg = (
            f"The state does not fit its networks: missing arrays {missing[:5]!r}, unknown "
            f"{unknown[:5]!r}, {n_found} of {n_history} histories. Save the fit again."
        )
        raise StateMismatchError(msg)


def _load_strictly(network: GlueNetwork, arrays: Mapping[str, np.ndarray]) -> None:
    tensors = {k: torch.as_tensor(np.array(v)) for k, v in arrays.items()}
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        msg = f"The state's weights do not fit the networks: {error}. Save the fit again."
        raise StateMismatchError(msg) from error
