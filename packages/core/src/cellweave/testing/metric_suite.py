"""The suite of the metric contract."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cellweave.contracts import MetricInput
from cellweave.testing.digests import digest_of
from cellweave.testing.global_state import global_state_unchanged
from cellweave.testing.observing import require_keyword_only
from cellweave.testing.suite import Suite, refusal, require, unless_tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cellweave.records import Score

__all__ = ["MetricSuite"]


class MetricSuite(Suite):
    """Check a metric on made-up embeddings whose quality is known.

    Attributes
    ----------
    modalities
        Modalities in the checks; give one for a metric of one modality.
    tags
        ``descriptive`` (no direction), ``scale_dependent`` (a rotation or a factor may change it),
        ``sampled`` (looks at a random part of the cells).
    """

    kind: ClassVar[str] = "metric"
    modalities: ClassVar[tuple[str, ...]] = ("rna", "atac")
    n_cells: ClassVar[int] = 180

    def data(self, noise: float = 0.15, *, seed: int = 0) -> MetricInput:
        """Return embeddings of three types; ``noise`` is what tells true partners apart."""
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 3, self.n_cells)
        centres = 6 * np.eye(3, 5)
        truth = centres[labels] + rng.standard_normal((self.n_cells, 5))
        embeddings, names, pairing, batches = {}, {}, {}, {}
        for modality in self.modalities:
            order = rng.permutation(self.n_cells)
            spread = noise * rng.standard_normal(truth.shape)
            embeddings[modality] = (truth + spread)[order].astype(np.float32)
            names[modality] = np.array(["a", "b", "c"])[labels][order]
            pairing[modality] = np.array([f"p{i}" for i in range(self.n_cells)])[order]
            batches[modality] = np.array(["x", "y"])[rng.integers(0, 2, self.n_cells)]
        return MetricInput(
            embeddings=embeddings,
            labels=names,
            pairing=pairing,
            batches=batches,
            before={m: e.copy() for m, e in embeddings.items()},
            agreement={
                f"{a}->{b}": np.clip(1 - noise * rng.random(self.n_cells), -1, 1)
                for a, b in permutations(self.modalities, 2)
            },
            seed=seed,
        )

    def worthless(self) -> MetricInput:
        """Return the same cells at their worst: types mixed, modalities and batches apart."""
        data = self.data()
        rng = np.random.default_rng(17)
        mixed = {}
        for i, (modality, values) in enumerate(data.embeddings.items()):
            moved = values[rng.permutation(len(values))] + np.float32(15 * i)
            moved[(data.batches or {})[modality] == "x", 0] += 9
            mixed[modality] = moved
        agreement = {way: rng.uniform(-0.2, 0.2, len(v)) for way, v in data.agreement.items()}
        return replace(data, embeddings=mixed, agreement=agreement)

    def computed(self, data: MetricInput) -> list[Score]:
        """Return the scores of a new metric."""
        return list(self.create().compute(data))

    def whole(self, data: MetricInput) -> Score:
        """Return the first score: that of the whole."""
        return self.computed(data)[0]

    def test_constructor_takes_keywords_only(self) -> None:
        """Every argument of the constructor is named at the call."""
        require_keyword_only(self.create())

    def test_needs_are_fields_of_the_input(self) -> None:
        """``needs`` names fields of ``MetricInput``."""
        known = {f.name for f in fields(MetricInput)}
        wrong = [n for n in self.create().needs if n not in known]
        require(not wrong, f"`needs` names {wrong}, which MetricInput lacks. Known: {known}.")

    def test_missing_need_is_refused(self) -> None:
        """Data without what the metric needs are refused by name."""
        for need in self.create().needs:
            empty: Any = {} if need in ("embeddings", "before", "agreement") else None
            if need == "seed":
                continue
            with refusal(f"Input without {need!r}"):
                self.computed(replace(self.data(), **{need: empty}))

    def test_score_of_the_whole_comes_first(self) -> None:
        """The first score has no group and a finite value."""
        score = self.whole(self.data())
        require(not score.group, f"The first score is of group {score.group!r}. Whole first.")
        require(score.value is not None, f"No value on complete data: {score.note!r}.")

    def test_values_are_finite_or_explained(self) -> None:
        """Every value is finite, or ``None`` with a note."""
        for score in self.computed(self.data()):
            fine = np.isfinite(score.value) if score.value is not None else bool(score.note)
            require(fine, f"Score {score.metric!r} of {score.group!r} is {score.value}: say why.")

    def test_scores_have_names(self) -> None:
        """Scores name their metric, and no two have the same name and group."""
        keys = [(s.metric, s.group, s.method) for s in self.computed(self.data())]
        require(all(k[0] for k in keys), "A score has no metric name.")
        require(len(set(keys)) == len(keys), f"Scores repeat: {keys}.")

    def test_input_is_left_unchanged(self) -> None:
        """The arrays of the input are the same after as before."""
        data = self.data()
        before = digest_of(data)
        self.computed(data)
        require(digest_of(data) == before, "`compute` changed its input. Copy before sorting.")

    def test_global_state_is_left_unchanged(self) -> None:
        """Global generators and switches are as they were."""
        self.computed(self.data())
        with global_state_unchanged():
            self.computed(self.data())

    def test_prints_nothing(self) -> None:
        """``compute`` does not print."""
        import contextlib
        import io

        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.computed(self.data())
        require(not out.getvalue(), f"`compute` printed {out.getvalue()[:60]!r}. Use logging.")

    def test_same_seed_same_value(self) -> None:
        """Two computations give the same numbers."""
        first, second = self.computed(self.data()), self.computed(self.data())
        require(first == second, "Two computations differ. Draw from `data.seed`.")

    @unless_tag("descriptive")
    def test_good_is_better_than_chance(self) -> None:
        """A good embedding scores better than one that mixes types and parts modalities."""
        good, bad = self.whole(self.data()), self.whole(self.worthless())
        direction = 1 if good.higher_is_better else -1
        require(
            direction * (_number(good) - _number(bad)) > 0,
            f"{good.metric!r} is {good.value} for a good embedding and {bad.value} for a "
            f"worthless one, with higher_is_better={good.higher_is_better}. Check the direction.",
        )

    @unless_tag("descriptive")
    def test_values_lie_within_best(self) -> None:
        """No value is better than ``best``."""
        score = self.whole(self.data())
        if score.best is not None:
            direction = 1 if score.higher_is_better else -1
            within = direction * (score.best - _number(score)) > -1e-6
            require(within, f"{score.value} is better than best={score.best}.")

    @unless_tag("sampled")
    def test_order_of_cells_does_not_matter(self) -> None:
        """Cells in another order give the same value."""
        data = self.data()
        rng = np.random.default_rng(2)
        orders = {m: rng.permutation(len(e)) for m, e in data.embeddings.items()}
        self._require_value(_reordered(data, orders), "the order of cells")

    @unless_tag("sampled")
    def test_order_of_modalities_does_not_matter(self) -> None:
        """Modalities in another order give the same value."""
        data = self.data()
        turned = {m: data.embeddings[m] for m in reversed(list(data.embeddings))}
        self._require_value(replace(data, embeddings=turned), "the order of modalities")

    @unless_tag("scale_dependent")
    def test_rotation_does_not_matter(self) -> None:
        """A common rotation of the space gives the same value."""
        data = self.data()
        rotation, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((5, 5)))
        turned = {m: (e @ rotation).astype(np.float32) for m, e in data.embeddings.items()}
        self._require_value(replace(data, embeddings=turned), "a rotation", tolerance=0.02)

    @unless_tag("sampled")
    def test_names_of_types_do_not_matter(self) -> None:
        """Other names for the same types and batches give the same value."""
        data = self.data()
        names = {"a": "zeta", "b": "beta", "c": "alpha"}
        renamed = {m: np.array([names[x] for x in v]) for m, v in (data.labels or {}).items()}
        self._require_value(replace(data, labels=renamed), "the names of types")

    def _require_value(self, data: MetricInput, what: str, tolerance: float = 1e-5) -> None:
        known, found = self.whole(self.data()), self.whole(data)
        gap = abs(_number(known) - _number(found))
        require(
            gap <= tolerance * max(1.0, abs(_number(known))),
            f"{known.metric!r} changes from {known.value} to {found.value} with {what}.",
        )


def _number(score: Score) -> float:
    require(score.value is not None, f"{score.metric!r} has no value: {score.note!r}.")
    return float(score.value or 0.0)


def _reordered(data: MetricInput, orders: Mapping[str, np.ndarray]) -> MetricInput:
    def turned(values: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
        return None if values is None else {m: v[orders[m]] for m, v in values.items()}

    return replace(
        data,
        embeddings=turned(data.embeddings) or {},
        labels=turned(data.labels),
        pairing=turned(data.pairing),
        batches=turned(data.batches),
        before=turned(data.before) or {},
        agreement={way: v[orders[way.split("->")[0]]] for way, v in data.agreement.items()},
    )
