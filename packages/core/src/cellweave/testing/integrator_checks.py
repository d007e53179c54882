"""What the checks of integrators share: data, one watched fit, and how to judge a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cellweave.testing import planted as plant
from cellweave.testing.digests import digest_of
from cellweave.testing.observing import Observation, observed
from cellweave.testing.suite import Suite, require

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.records import FeatureLinks, IntegrationResult

__all__ = ["IntegratorChecks", "mislabelled", "rejoined", "same_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """One watched fit that many checks look at."""

    integrator: Any
    result: Any
    observation: Observation
    progress: tuple[Any, ...]
    returned_self: bool
    links_changed: bool


class IntegratorChecks(Suite):
    """Hold what every group of checks works with."""

    kind: ClassVar[str] = "integrator"
    modalities: ClassVar[tuple[str, ...]] = ("rna", "atac")
    n_cells: ClassVar[int] = 240

    def data(self, *, seed: int = 0, n_cells: int | None = None) -> MuData:
        """Return prepared data of three types whose modalities do not share cell names."""
        from cellweave.datasets import hide_pairing

        two = self.modalities[:2] if len(self.modalities) > 1 else ("rna", "atac")
        mdata = plant.planted(two, n_cells=n_cells or self.n_cells, seed=seed)
        return mdata if "paired" in self.tags else hide_pairing(mdata, seed=seed)

    def links(self, mdata: MuData) -> tuple[FeatureLinks, ...]:
        """Return the true links of ``mdata``."""
        return plant.links_between(mdata)

    def fitted(self, mdata: MuData, **arguments: Any) -> Any:
        """Return a new integrator fitted on ``mdata``."""
        return self.create(**arguments).fit(plant.without_truth(mdata), self.links(mdata))

    def woven(self, mdata: MuData, **arguments: Any) -> IntegrationResult:
        """Return the result of a new fit on ``mdata``."""
        result: IntegrationResult = self.fitted(mdata, **arguments).result()
        return result

    @property
    def reference(self) -> Any:
        """The watched fit, made once for the class."""
        return self.once("reference", self._make_reference)

    def _make_reference(self) -> _Reference:
        mdata = self.data()
        links = self.links(mdata)
        bare = plant.without_truth(mdata)
        before = digest_of(links)
        progress: list[Any] = []
        kept: dict[str, Any] = {}

        def fit(data: Any) -> Any:
            progress.clear()
            kept["integrator"] = self.create()
            kept["returned"] = kept["integrator"].fit(data, links, progress=progress.append)
            return kept["integrator"].result()

        observation = observed(fit, bare)
        return _Reference(
            integrator=kept["integrator"],
            result=observation.value,
            observation=observation,
            progress=tuple(progress),
            returned_self=kept["returned"] is kept["integrator"],
            links_changed=digest_of(links) != before,
        )

    @cached_property
    def truth(self) -> MuData:
        """The reference data with their truth."""
        return self.data()

    def labels(self, modality: str, mdata: MuData | None = None) -> np.ndarray:
        """Return the true types of one modality."""
        mdata = self.truth if mdata is None else mdata
        return mdata.mod[modality].obs["cell_type"].to_numpy(dtype=str)

    def transfer(self, embeddings: Mapping[str, np.ndarray], mdata: MuData) -> float:
        """Return the share of right types among the neighbours in the other modality."""
        first, second = list(mdata.mod)[:2]
        return plant.neighbour_vote(
            embeddings[second],
            embeddings[first],
            self.labels(second, mdata),
            self.labels(first, mdata),
        )

    def require_as_good(self, result: Any, mdata: MuData, what: str) -> None:
        """Fail when ``result`` finds the planted types clearly worse than the reference."""
        known = self.transfer(self.reference.result.embeddings, self.truth)
        found = self.transfer(result.embeddings, mdata)
        require(
            found > known - 0.2,
            f"With {what}, neighbours across modalities share a type in {found:.2f} of cases "
            f"instead of {known:.2f}. Look up modalities by name and cells by position.",
        )

    def require_same_geometry(self, result: Any, orders: Mapping[str, np.ndarray]) -> None:
        """Fail when distances between cells differ from the reference beyond rounding."""
        for modality, order in orders.items():
            expected = self.reference.result.embeddings[modality][order]
            before = plant.distances(expected, expected)
            after = plant.distances(result.embeddings[modality], result.embeddings[modality])
            gap = float(np.abs(np.sqrt(before) - np.sqrt(after)).max())
            require(
                gap < 0.02 * np.sqrt(before.max()) + 1e-3,
                f"Distances in {modality!r} change by {gap:.3g} with the order of cells.",
            )


def rejoined(parts: Mapping[str, Any], like: MuData) -> MuData:
    """Return a MuData of ``parts`` with the ``uns`` of ``like``."""
    from cellweave.datasets.joining import joined

    return joined(dict(parts), dict(like.uns))


def same_result(left: Any, right: Any) -> bool:
    """Tell whether the embeddings of two results are the same bytes."""
    return left.embeddings.keys() == right.embeddings.keys() and all(
        left.embeddings[m].tobytes() == right.embeddings[m].tobytes() for m in left.embeddings
    )


def mislabelled(mdata: MuData) -> MuData:
    """Return a copy whose labels and other truth are there, but false."""
    false = plant.copy_of(mdata)
    rng = np.random.default_rng(11)
    for adata in false.mod.values():
        order = rng.permutation(adata.n_obs)
        for column in set(adata.obs.columns) - {"batch"}:
            adata.obs[column] = adata.obs[column].to_numpy()[order]
        adata.obsm["true_state"] = adata.obsm["true_state"][order]
    return false
