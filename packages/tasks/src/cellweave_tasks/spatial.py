"""Label regions and niches of a tissue from each cell and its neighbours.

A cell is described by its own embedding, the means over its nearest neighbours at several ranges,
and how dense its surroundings are. With several sections the mean of each is taken out of its cells
first: patients differ in level. Baselines: the commonest label, the same classifier without
the neighbourhood, and without the embedding (principal axes of ``X``, no neighbourhood). Cells of
one section never neighbour those of another. A section in training and in the test is refused
unless the split is by place (see :func:`cellweave_tasks.by_tiles`) and ``group_key`` is not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.errors import ConfigError, DataError, closest, one_of
from cellweave.kernels.neighbours import nearest
from cellweave.records import Prediction, Provenance, Score, Scores
from cellweave_tasks.annotation import AnnotationTask
from cellweave_tasks.differences import difference_sentence, paired_difference
from cellweave_tasks.features import as_dense, column_of, features_of, labels_of
from cellweave_tasks.records import arguments_of, need_fit, provenance_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["SpatialTask", "neighbourhood_features", "places_of"]

_KEY = "X_with_neighbourhood"
_OWN = "X_alone"
_SAME_PLACE = 0.3  # of two sections on one grid half do; of cells segmented in one, few
_SECTIONS = ("section", "section_id", "slide", "slide_id", "slice", "library_id", "sample",
             "sample_id", "fov")  # fmt: skip


class SpatialTask:
    """Label cells or spots of a tissue by region.

    Parameters
    ----------
    use_rep
        ``obsm`` key of an embedding; ``None`` takes ``X``.
    label_key
        ``obs`` column of regions.
    spatial_key
        ``obsm`` key of coordinates.
    section_key
        ``obs`` column of sections, whose cells neighbour each other alone; ``None`` takes
        ``group_key``, and without one a usual name (``section``, ``sample``, ``library_id`` …).
    group_key
        ``obs`` column of sections or patients that must not be in training and in the test.
    ranges
        Numbers of nearest neighbours whose means describe a place.
    method
        ``"linear"``, ``"knn"`` or ``"prototype"``.
    seed
        Of what is random.

    Examples
    --------
    >>> task = SpatialTask(label_key="region", ranges=[6, 18])
    >>> task.name
    'linear on X_pca + neighbours'
    """

    def __init__(
        self,
        *,
        use_rep: str | None = "X_pca",
        label_key: str = "cell_type",
        spatial_key: str = "spatial",
        section_key: str | None = None,
        group_key: str | None = None,
        ranges: list[int] | None = None,
        method: str = "linear",
        seed: int = 0,
    ) -> None:
        self._parameters: dict[str, Any] = arguments_of(locals())
        self.ranges = [6, 18, 60] if ranges is None else list(ranges)
        if not self.ranges or min(self.ranges) < 1:
            msg = f"ranges is {ranges!r}. Expected numbers of neighbours of 1 or more."
            raise ConfigError(msg)
        AnnotationTask(method=method)
        self.use_rep, self.label_key, self.spatial_key = use_rep, label_key, spatial_key
        self.section_key, self.group_key = section_key, group_key
        self.method, self.seed = method, seed
        self._fitted: tuple[AnnotationTask, AnnotationTask] | None = None
        self._several = False

    @property
    def default_split(self) -> str:
        """Say how cells are split when nobody does: whole groups, or else squares of tissue."""
        return f"unseen:{self.group_key}=0.2" if self.group_key else "tiles:0.2"

    @property
    def name(self) -> str:
        """Name the method and what it sees, as in tables."""
        return f"{self.method} on {self.use_rep or 'X'} + neighbours"

    def fit(self, adata: AnnData) -> Self:
        """Learn from labelled cells; the neighbourhood is that within ``adata``.

        Cells without a label are neighbours of the others, and teach nothing else.
        """
        self._several = len(set(self._sections(adata).tolist())) > 1
        described = self._labelled(self._described(adata, several=self._several))
        self._fitted = (
            self._classifier(_KEY).fit(described),
            self._classifier(_OWN).fit(described),
        )
        return self

    def predict(self, adata: AnnData) -> Prediction:
        """Predict for every cell: region, probability, probabilities of all regions."""
        with_neighbours, _ = need_fit(self._fitted, "SpatialTask")
        found = with_neighbours.predict(self._described(adata, several=self._several))
        return Prediction(
            names=found.names,
            values=found.values,
            confidence=found.confidence,
            columns=found.columns,
            probabilities=found.probabilities,
            provenance=self._provenance(),
        )

    def evaluate(self, adata: AnnData) -> Scores:
        """Score beside the baselines, and say what the neighbourhood brings.

        Cells without a label are neighbours of the others, and are not scored.
        """
        with_neighbours, alone = need_fit(self._fitted, "SpatialTask")
        described = self._labelled(self._described(adata, several=self._several), kinds=1)
        names = {with_neighbours.name: self.name, alone.name: f"{self.method} without neighbours"}
        items: list[Score] = []
        for task in (with_neighbours, alone):
            for score in task.evaluate(described).items:
                is_second_baseline = task is alone and score.method not in names
                if not is_second_baseline and "novel" not in score.metric:
                    items.append(_renamed(score, names.get(score.method, score.method)))
        truth = labels_of(described, self.label_key, kinds=1)
        right = [t.predict(described).values == truth for t in (with_neighbours, alone)]
        gap = paired_difference(right[0].astype(float), right[1].astype(float), seed=self.seed)
        text = difference_sentence(gap, self.name, "the same without neighbours", "accuracy")
        return Scores(
            items=tuple(items),
            provenance=self._provenance(),
            summary={"headline": text, **gap.to_dict()},
        )

    def _sections(self, adata: AnnData) -> np.ndarray:
        places = places_of(adata, self.spatial_key)
        return sections_of(adata, self.section_key or self.group_key, places)

    def _described(self, adata: AnnData, *, several: bool) -> AnnData:
        """Return a light copy with both descriptions of each cell.

        Where training had ``several`` sections, each section stands without its mean.
        """
        own = as_dense(features_of(adata, self.use_rep))
        places, sections = places_of(adata, self.spatial_key), self._sections(adata)
        own = _centred(own, sections) if several else own
        around = neighbourhood_features(own, places, sections, self.ranges)
        light = adata.copy()
        light.obsm.clear()
        light.obsm[_OWN] = own
        light.obsm[_KEY] = np.hstack([own, around]).astype(np.float32)
        return light

    def _labelled(self, described: AnnData, *, kinds: int = 2) -> AnnData:
        known = column_of(described, self.label_key) != ""
        kept = described if known.all() else described[known].copy()
        labels_of(kept, self.label_key, kinds=kinds)
        return kept

    def _classifier(self, key: str) -> AnnotationTask:
        return AnnotationTask(
            use_rep=key,
            label_key=self.label_key,
            group_key=self.group_key,
            method=self.method,
            unknown_rate=0.0,
            seed=self.seed,
        )

    def _provenance(self) -> Provenance:
        return provenance_of("tasks.spatial", self._parameters, self.seed)


def neighbourhood_features(
    own: np.ndarray, places: np.ndarray, sections: np.ndarray, ranges: list[int]
) -> np.ndarray:
    """Return the means over each cell's nearest neighbours, one block a range, and the density.

    Density is the logarithm of the distance to the last neighbour of each range, relative to the
    median of the section, so that units and platforms do not matter.
    """
    width = own.shape[1] + 1
    out = np.zeros((len(own), width * len(ranges)), dtype=np.float32)
    for section in sorted(set(sections.tolist())):
        rows = np.flatnonzero(sections == section)
        most = min(max(ranges), len(rows) - 1)
        if most < 1:
            continue
        at, away = nearest(places[rows], k=most, exclude_self=True)
        values = own[rows]
        for block, wanted in enumerate(ranges):
            # What is further than a twentieth of a section is no longer around the cell.
            k = min(wanted, most, max(min(ranges), len(rows) // 20))
            total = np.zeros_like(values)
            for step in range(k):
                total += values[at[:, step]]
            reach = away[:, k - 1]
            middle = float(np.median(reach)) or 1.0
            here = slice(block * width, (block + 1) * width)
            out[rows, here] = np.hstack(
                [total / k, np.log(np.maximum(reach / middle, 1e-3))[:, None]]
            )
    return out


def sections_of(adata: AnnData, key: str | None, places: np.ndarray) -> np.ndarray:
    """Return the section of each cell: of a column, or all one where no two share a place."""
    if key is None:
        key = next((k for k in _SECTIONS if k in adata.obs and adata.obs[k].nunique() > 1), None)
    if key is not None:
        return column_of(adata, key)
    n_same = len(places) - len(np.unique(places, axis=0))
    if n_same > _SAME_PLACE * len(places):
        msg = (
            f"{n_same} of {len(places)} cells stand at the place of another: these are several "
            f"sections. Name the column that tells them apart by `section_key`; obs has: "
            f"{one_of(map(str, adata.obs))}."
        )
        raise DataError(msg)
    return np.full(adata.n_obs, "")


def _centred(own: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """Take the mean of each section out: sections and patients differ in level first of all."""
    _, codes = np.unique(sections, return_inverse=True)
    counts = np.bincount(codes)
    means = np.zeros((len(counts), own.shape[1]))
    np.add.at(means, codes, own)
    means /= counts[:, None]
    return np.asarray(own - means[codes], dtype=np.float32)


def places_of(adata: AnnData, key: str) -> np.ndarray:
    """Return the coordinates of each cell."""
    if key not in adata.obsm:
        msg = (
            f"`adata.obsm` has no {key!r}.{closest(key, adata.obsm)} It has: "
            f"{one_of(adata.obsm)}. Give the coordinates of each cell."
        )
        raise DataError(msg)
    return np.asarray(features_of(adata, key), dtype=np.float64)


def _renamed(score: Score, method: str) -> Score:
    from dataclasses import replace

    return replace(score, method=method)
