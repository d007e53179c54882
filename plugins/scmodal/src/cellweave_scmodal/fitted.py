"""What a fit leaves behind, and its way into a state and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cellweave.errors import DataError, StateMismatchError, closest, one_of
from cellweave.weaving import Basis, histories_of
from cellweave_scmodal.decoding import FeatureMap
from cellweave_scmodal.inputs import Axes
from cellweave_scmodal.model import Networks
from cellweave_scmodal.training import Weights

if TYPE_CHECKING:
    from cellweave.records import ComponentState

__all__ = ["Fitted", "restored"]

_MAP_PARTS = ("mean", "slopes", "directions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Hold everything that ``result``, ``transform`` and ``impute`` need; cells in input order."""

    networks: Networks
    pairs: tuple[tuple[str, str], ...]
    widths: Mapping[str, int]
    axes: Mapping[str, Axes]
    maps: Mapping[str, FeatureMap]
    obs_names: Mapping[str, np.ndarray]
    embeddings: Mapping[str, np.ndarray]
    coordinates: Mapping[str, np.ndarray]
    history: Mapping[str, np.ndarray]
    quality: Mapping[str, float]

    def require(self, *names: str) -> None:
        """Refuse modalities that were not fitted."""
        for name in names:
            if name not in self.widths:
                msg = (
                    f"scmodal was not fitted on {name!r}.{closest(name, self.widths)} "
                    f"It knows: {one_of(self.widths)}."
                )
                raise DataError(msg)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything numeric, by name."""
        out = {f"net/{k}": v.cpu().numpy() for k, v in self.networks.state_dict().items()}
        for name in self.widths:
            out[f"embedding/{name}"] = self.embeddings[name]
            out[f"coordinates/{name}"] = self.coordinates[name]
            out[f"means/{name}"] = self.axes[name].means
            for part in _MAP_PARTS:
                out[f"map/{name}/{part}"] = getattr(self.maps[name], part)
        return out | {f"history/{k}": v for k, v in self.history.items()}

    def extra(self) -> dict[str, Any]:
        """Return everything else, as JSON values."""
        return {
            "pairs": [list(p) for p in self.pairs],
            "widths": dict(self.widths),
            "axes": {
                n: {"basis": a.basis.to_json(), "batches": list(a.batches), "scale": a.scale}
                for n, a in self.axes.items()
            },
            "obs_names": {n: v.tolist() for n, v in self.obs_names.items()},
            "features": {n: m.features.tolist() for n, m in self.maps.items()},
            "quality": dict(self.quality),
        }


def restored(state: ComponentState, sizes: Mapping[str, Any], *, device: str) -> Fitted:
    """Rebuild from a state; every array must be there and used."""
    extra = state.extra
    pairs = tuple((a, b) for a, b in extra["pairs"])
    networks = Networks(
        widths=extra["widths"], pairs=pairs, generator=torch.Generator().manual_seed(0), **sizes
    )
    arrays = _checked_arrays(state, networks, list(extra["widths"]))
    _load(networks, arrays)
    return Fitted(
        networks=networks.to(device),
        pairs=pairs,
        widths=extra["widths"],
        axes={n: _axes(values, arrays[f"means/{n}"]) for n, values in extra["axes"].items()},
        maps={n: _map(n, extra, arrays) for n in extra["widths"]},
        obs_names={n: np.asarray(v, dtype=str) for n, v in extra["obs_names"].items()},
        embeddings={n: arrays[f"embedding/{n}"] for n in extra["widths"]},
        coordinates={n: arrays[f"coordinates/{n}"] for n in extra["widths"]},
        history=histories_of(arrays),
        quality=extra["quality"],
    )


def _axes(values: Mapping[str, Any], means: np.ndarray) -> Axes:
    return Axes(
        basis=Basis.from_json(values["basis"]),
        batches=tuple(values["batches"]),
        means=means,
        scale=values["scale"],
    )


def _map(name: str, extra: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FeatureMap:
    return FeatureMap(
        features=np.asarray(extra["features"][name], dtype=str),
        **{part: arrays[f"map/{name}/{part}"] for part in _MAP_PARTS},
    )


def _load(networks: Networks, arrays: Mapping[str, np.ndarray]) -> None:
    tensors = {
        k.removeprefix("net/"): torch.from_numpy(np.array(v))
        for k, v in arrays.items()
        if k.startswith("net/")
    }
    try:
        networks.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        msg = f"The state does not fit the networks: {reason}. Save it again from a fit."
        raise StateMismatchError(msg) from error


def _checked_arrays(
    state: ComponentState, networks: Networks, names: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Refuse a state that lacks an array or holds one that nothing uses; show both lists."""
    expected = {f"net/{k}" for k in networks.state_dict()}
    expected |= {f"{group}/{n}" for group in ("embedding", "coordinates", "means") for n in names}
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
