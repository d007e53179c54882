"""Tasks, metrics, models and modalities: one good of each, and ones with a planted bug."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.datasets.joining import joined
from cellweave.datasets.prepared import prepare_simulated
from cellweave.errors import (
    ConfigError,
    DataError,
    NotFittedError,
    StateMismatchError,
    UnreadableFileError,
    closest,
)
from cellweave.records import (
    ComponentState,
    Embedding,
    Prediction,
    Preparation,
    Prepared,
    Provenance,
    Score,
    Scores,
)
from cellweave.storage import atomic_folder, verify_or_raise
from cellweave.testing import MetricSuite, ModalitySuite, ModelSuite, TaskSuite, run_suite

# ruff: noqa: NPY002, T201 - these bugs are planted

MUTANTS = {}


def caught_by(suite, check):
    def keep(make):
        MUTANTS[make.__name__] = (suite, make, check)
        return make

    return keep


def provenance(name, seed=0):
    return Provenance(component=name, version="1", seed=seed)


# -- a task ----------------------------------------------------------------------------------


class NearestCentre:
    """Name a cell after the nearest mean of the types seen in ``fit``."""

    def __init__(self, *, use_rep="X_pca", label="cell_type", seed=0):
        self.use_rep, self.label, self.seed = use_rep, label, seed
        self.centres = None

    def fit(self, adata):
        labels = adata.obs[self.label].to_numpy(dtype=str)
        self.names = np.unique(labels)
        values = adata.obsm[self.use_rep]
        self.centres = np.stack([values[labels == n].mean(axis=0) for n in self.names])
        self.commonest = max(self.names, key=lambda n: (labels == n).sum())
        self.seen = set(adata.obs_names)
        return self

    def predict(self, adata):
        if self.centres is None:
            msg = "`predict` was asked before `fit`. Call `fit(adata)` first."
            raise NotFittedError(msg)
        away = ((adata.obsm[self.use_rep][:, None] - self.centres[None]) ** 2).sum(axis=2)
        weight = np.exp(away.min(axis=1, keepdims=True) - away)
        weight /= weight.sum(axis=1, keepdims=True)
        return Prediction(
            names=adata.obs_names.to_numpy(dtype=str),
            values=self.names[away.argmin(axis=1)],
            confidence=weight.max(axis=1),
            probabilities=weight,
            columns=self.names,
            provenance=provenance("centre", self.seed),
        )

    def evaluate(self, adata):
        found = self.predict(adata).values
        if self.seen & set(adata.obs_names):
            msg = "Some cells were seen in `fit`. Evaluate on others."
            raise DataError(msg)
        truth = adata.obs[self.label].to_numpy(dtype=str)
        return Scores(
            items=(
                Score(metric="accuracy", value=float((found == truth).mean()), method="centre"),
                Score(
                    metric="accuracy",
                    value=float((self.commonest == truth).mean()),
                    method="commonest",
                ),
            )
        )


def task(**methods):
    return type("Mutant", (NearestCentre,), methods)


def predicting(change):
    return task(predict=lambda self, adata: change(self, NearestCentre.predict(self, adata), adata))


@caught_by(TaskSuite, "test_predicts_every_cell_in_order")
def task_reverses_cells():
    return predicting(
        lambda s, p, a: Prediction(
            names=p.names[::-1], values=p.values[::-1], provenance=p.provenance
        )
    )


@caught_by(TaskSuite, "test_beats_the_commonest_label")
def task_reverses_values():
    rng = np.random.default_rng(0)
    return predicting(lambda s, p, a: replace(p, values=rng.permutation(p.values)))


@caught_by(TaskSuite, "test_answers_in_the_data_do_not_matter")
def task_leaks_the_answer():
    def peek(self, prediction, adata):
        if "cell_type" in adata.obs:
            return replace(prediction, values=adata.obs["cell_type"].to_numpy(dtype=str))
        return prediction

    return predicting(peek)


@caught_by(TaskSuite, "test_confidence_is_a_share")
def task_gives_per_cent():
    return predicting(lambda s, p, a: replace(p, confidence=100 * p.confidence))


@caught_by(TaskSuite, "test_probabilities_sum_to_one")
def task_forgets_to_normalise():
    return predicting(lambda s, p, a: replace(p, probabilities=2 * p.probabilities))


@caught_by(TaskSuite, "test_predict_before_fit_is_refused")
def task_predicts_before_fit():
    return task(predict=lambda self, adata: None)


@caught_by(TaskSuite, "test_predict_leaves_everything_unchanged")
def task_writes_its_prediction():
    def write(self, prediction, adata):
        adata.obs["predicted"] = prediction.values
        return prediction

    return predicting(write)


@caught_by(TaskSuite, "test_fit_leaves_everything_unchanged")
def task_seeds_numpy():
    def fit(self, adata):
        np.random.seed(self.seed)
        return NearestCentre.fit(self, adata)

    return task(fit=fit)


@caught_by(TaskSuite, "test_refit_forgets_the_first_fit")
def task_keeps_old_centres():
    def fit(self, adata):
        old = self.centres
        NearestCentre.fit(self, adata)
        self.centres = self.centres if old is None else old[::-1]
        return self

    return task(fit=fit)


@caught_by(TaskSuite, "test_scores_stand_beside_baselines")
def task_gives_no_baseline():
    def evaluate(self, adata):
        return replace(
            NearestCentre.evaluate(self, adata), items=NearestCentre.evaluate(self, adata).items[:1]
        )

    return task(evaluate=evaluate)


@caught_by(TaskSuite, "test_training_cells_are_refused")
def task_scores_itself_on_training_cells():
    def fit(self, adata):
        NearestCentre.fit(self, adata)
        self.seen = set()
        return self

    return task(fit=fit)


# -- a metric --------------------------------------------------------------------------------


class PairDistance:
    """Mean distance of true partners over the mean distance of all: 0 is best."""

    needs = ("pairing",)

    def compute(self, data):
        if not data.pairing:
            msg = "`pairing` is missing. Give an id for each cell of each modality."
            raise DataError(msg)
        first, second = sorted(data.embeddings)[:2]
        order = {p: i for i, p in enumerate(data.pairing[second])}
        at = np.array([order[p] for p in data.pairing[first]])
        left = data.embeddings[first].astype(float)
        right = data.embeddings[second].astype(float)[at]
        own = np.sqrt(((left - right) ** 2).sum(axis=1)).mean()
        every = np.sqrt(((left[:, None] - right[None]) ** 2).sum(axis=2)).mean()
        value = float(own / every)
        return (Score(metric="pair", value=value, higher_is_better=False, best=0.0, chance=1.0),)


def metric(change, **body):
    def compute(self, data):
        return change(PairDistance().compute(data), data)

    return type("Mutant", (PairDistance,), {"compute": compute, **body})


@caught_by(MetricSuite, "test_good_is_better_than_chance")
def metric_has_the_wrong_direction():
    return metric(lambda scores, _: (replace(scores[0], higher_is_better=True, best=None),))


@caught_by(MetricSuite, "test_values_lie_within_best")
def metric_is_better_than_best():
    return metric(lambda scores, _: (replace(scores[0], best=5.0),))


@caught_by(MetricSuite, "test_input_is_left_unchanged")
def metric_centres_in_place():
    def centre(scores, data):
        for values in data.embeddings.values():
            np.subtract(values, values.mean(axis=0), out=values)
        return scores

    return metric(centre)


@caught_by(MetricSuite, "test_order_of_cells_does_not_matter")
def metric_takes_rows_for_pairs():
    def rows(scores, data):
        left, right = (data.embeddings[m] for m in sorted(data.embeddings)[:2])
        return (replace(scores[0], value=float(np.abs(left - right).mean())),)

    return metric(rows)


@caught_by(MetricSuite, "test_global_state_is_left_unchanged")
def metric_draws_globally():
    return metric(lambda scores, _: scores if np.random.rand() >= 0 else ())


@caught_by(MetricSuite, "test_missing_need_is_refused")
def metric_needs_more_than_it_says():
    return metric(lambda scores, data: (data.labels["rna"], scores)[1], needs=("pairing", "labels"))


@caught_by(MetricSuite, "test_values_are_finite_or_explained")
def metric_gives_nan():
    return metric(lambda scores, _: (replace(scores[0], value=float("nan")),))


@caught_by(MetricSuite, "test_prints_nothing")
def metric_prints():
    return metric(lambda scores, _: (print("scoring"), scores)[1])


# -- a model ---------------------------------------------------------------------------------


class _Words:
    """The least tokenizer a model can have."""

    modality = "rna"

    def __init__(self, names=()):
        from cellweave.records import Vocabulary

        self.vocabulary = Vocabulary(names=tuple(names))

    def fit(self, adata):
        return self

    def encode(self, adata):
        raise NotImplementedError

    def state(self):
        return ComponentState(component="words", parameters={})

    @classmethod
    def from_state(cls, state):
        return cls()


class Projection:
    """A linear model: the shares of known genes, times fixed weights."""

    family = "projection"

    def __init__(self, *, names=None, weights=None):
        from cellweave.testing.planted import planted

        genes = planted(("rna",), n_cells=24).mod["rna"].var_names if names is None else names
        self.names = list(genes)
        rng = np.random.default_rng(0)
        self.weights = rng.standard_normal((len(self.names), 6)) if weights is None else weights
        self.tokenizer = _Words(self.names)

    def embed(self, adata, *, batch_size=32, device="cpu"):
        at = adata.var_names.get_indexer(self.names)
        if (at < 0).all():
            msg = "The model knows none of the genes. Give gene symbols."
            raise DataError(msg)
        known = at >= 0
        counts = sp.csr_matrix(adata.layers["counts"])[:, at[known]].toarray()
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        # One row at a time, so that rounding does not depend on the batch.
        values = np.stack([row @ self.weights[known] for row in shares]).astype(np.float32)
        return Embedding(
            values=values,
            names=adata.obs_names.to_numpy(dtype=str),
            provenance=provenance("projection"),
        )

    def save(self, folder):
        from safetensors.numpy import save_file

        with atomic_folder(folder, kind="model") as place:
            config = {"family": self.family, "names": self.names}
            (place / "config.json").write_text(json.dumps(config))
            save_file({"weights": self.weights}, place / "model.safetensors")

    @classmethod
    def recognises(cls, path):
        config = Path(path) / "config.json"
        return config.is_file() and json.loads(config.read_text()).get("family") == cls.family

    @classmethod
    def load(cls, path):
        from safetensors.numpy import load_file

        if not cls.recognises(path):
            msg = f"{str(path)!r} is no {cls.family} model. Give a folder that `save` wrote."
            raise StateMismatchError(msg)
        verify_or_raise(path)
        config = json.loads((Path(path) / "config.json").read_text())
        weights = load_file(Path(path) / "model.safetensors")["weights"]
        return cls(names=config["names"], weights=weights)


def embedding(change):
    def embed(self, adata, *, batch_size=32, device="cpu"):
        return change(Projection.embed(self, adata), adata, batch_size)

    return type("Mutant", (Projection,), {"embed": embed})


@caught_by(ModelSuite, "test_size_of_batches_does_not_matter")
def model_leaks_padding():
    return embedding(lambda e, a, size: replace(e, values=e.values + np.float32(size)))


@caught_by(ModelSuite, "test_embeds_every_cell_in_order")
def model_sorts_cells():
    return embedding(lambda e, a, _: replace(e, values=e.values[::-1], names=e.names[::-1]))


@caught_by(ModelSuite, "test_order_of_cells_does_not_matter")
def model_scales_by_the_first_cell():
    return embedding(lambda e, a, _: replace(e, values=e.values / e.values[0, 0]))


@caught_by(ModelSuite, "test_embedding_is_float32_and_finite")
def model_returns_float64():
    return embedding(lambda e, a, _: replace(e, values=e.values.astype(float)))


@caught_by(ModelSuite, "test_embed_leaves_everything_unchanged")
def model_writes_to_obsm():
    def write(result, adata, _):
        adata.obsm["X_model"] = result.values
        return result

    return embedding(write)


@caught_by(ModelSuite, "test_damaged_model_is_refused")
def model_does_not_verify():
    @classmethod
    def load(cls, path):
        from safetensors.numpy import load_file

        if not cls.recognises(path):
            msg = "This is no model of the family."
            raise StateMismatchError(msg)
        names = json.loads((Path(path) / "config.json").read_text())["names"]
        return cls(names=names, weights=load_file(Path(path) / "model.safetensors")["weights"])

    return type("Mutant", (Projection,), {"load": load})


@caught_by(ModelSuite, "test_recognises_its_own")
def model_recognises_everything():
    return type("Mutant", (Projection,), {"recognises": classmethod(lambda cls, path: True)})


@caught_by(ModelSuite, "test_saved_model_is_read_back")
def model_draws_weights_on_load():
    @classmethod
    def load(cls, path):
        good = Projection.load(path)
        return cls(names=good.names, weights=good.weights * 2)

    return type("Mutant", (Projection,), {"load": load})


@caught_by(ModelSuite, "test_unknown_genes_alone_are_refused")
def model_embeds_nothing():
    def embed(self, adata, *, batch_size=32, device="cpu"):
        adata = adata.copy()
        adata.var_names = self.names
        return Projection.embed(self, adata)

    return type("Mutant", (Projection,), {"embed": embed})


# -- a modality ------------------------------------------------------------------------------


class PlainProtein:
    """Proteins, prepared as the simulation prepares them."""

    name = "prot"
    representation = "X_pca"
    formats = (".plain",)

    def guess(self, adata):
        return 0.9 if "isotype_control" in adata.var else 0.1

    def read(self, path):
        msg = f"{str(path)!r} is no file of proteins. Give one that ends in .plain."
        raise UnreadableFileError(msg)

    def prepare(self, adata, *, settings=None, seed=0):
        unknown = sorted(set(settings or {}))
        if unknown:
            msg = f"Unknown setting {unknown[0]!r}.{closest(unknown[0], ())} There are none."
            raise ConfigError(msg)
        if not sp.issparse(adata.X) or not np.isfinite(adata.X.data).all():
            msg = "The values are not raw finite counts. Give raw counts as CSR."
            raise DataError(msg)
        part = prepare_simulated(joined({"prot": adata.copy()}, {}), seed=seed).mod["prot"]
        record = Preparation.from_json(part.uns["preparation"])
        return Prepared(adata=part, preparation=record)

    def quality(self, adata):
        import pandas as pd

        totals = np.asarray(adata.X.sum(axis=1)).ravel()
        return pd.DataFrame({"total": totals}, index=adata.obs_names)


def preparing(change):
    def prepare(self, adata, *, settings=None, seed=0):
        ready = PlainProtein.prepare(self, adata, settings=settings, seed=seed)
        return replace(ready, adata=change(ready.adata, adata) or ready.adata)

    return type("Mutant", (PlainProtein,), {"prepare": prepare})


@caught_by(ModalitySuite, "test_counts_are_the_raw_values")
def modality_keeps_no_raw_values():
    def lose(ready, _):
        ready.layers["counts"] = sp.csr_matrix(ready.layers["counts"] * 2)

    return preparing(lose)


@caught_by(ModalitySuite, "test_cells_keep_their_order")
def modality_reorders_cells():
    return preparing(lambda ready, _: ready[::-1].copy())


@caught_by(ModalitySuite, "test_finds_planted_types")
def modality_reorders_the_representation():
    def turn(ready, _):
        rng = np.random.default_rng(0)
        ready.obsm["X_pca"] = rng.permutation(ready.obsm["X_pca"])

    return preparing(turn)


@caught_by(ModalitySuite, "test_prepare_leaves_input_unchanged")
def modality_normalises_in_place():
    def write(_, raw):
        raw.X.data += 1

    return preparing(write)


@caught_by(ModalitySuite, "test_x_is_float32_and_finite")
def modality_gives_float64():
    def widen(ready, _):
        ready.X = ready.X.astype(float)

    return preparing(widen)


@caught_by(ModalitySuite, "test_features_to_model_are_marked")
def modality_marks_no_feature():
    def unmark(ready, _):
        ready.var["highly_variable"] = False

    return preparing(unmark)


@caught_by(ModalitySuite, "test_labels_do_not_matter")
def modality_looks_at_labels():
    def peek(ready, raw):
        first = raw.obs["cell_type"].astype(str).iloc[0]
        ready.obsm["X_pca"] = ready.obsm["X_pca"] * np.float32(1 + len(first))

    return preparing(peek)


@caught_by(ModalitySuite, "test_guess_is_lower_for_other_data")
def modality_claims_everything():
    return type("Mutant", (PlainProtein,), {"guess": lambda self, adata: 1.0})


@caught_by(ModalitySuite, "test_unknown_settings_are_refused")
def modality_ignores_settings():
    def prepare(self, adata, *, settings=None, seed=0):
        return PlainProtein.prepare(self, adata, seed=seed)

    return type("Mutant", (PlainProtein,), {"prepare": prepare})


GOOD = {
    TaskSuite: NearestCentre,
    MetricSuite: PairDistance,
    ModelSuite: Projection,
    ModalitySuite: PlainProtein,
}


def suite_of(base, component):
    body = {"create": lambda self, **arguments: component(**arguments)}
    if base is TaskSuite:
        body["tags"] = frozenset({"labels"})
    return type("Checked", (base,), body)


@pytest.mark.parametrize("base", GOOD, ids=lambda base: base.kind)
def test_reference_passes_every_check(base):
    results = run_suite(suite_of(base, GOOD[base]))
    failed = [f"{r.name}: {r.message}" for r in results if r.outcome not in ("passed", "skipped")]
    assert failed == []
    # Only what is for components with another tag may be left out.
    assert {r.name for r in results if r.outcome == "skipped"} <= {
        "test_labels_of_fit_do_not_matter"
    }
    assert sum(r.outcome == "passed" for r in results) >= 10


def test_a_task_that_reads_labels_is_not_transductive():
    body = {
        "create": lambda self, **arguments: NearestCentre(**arguments),
        "tags": frozenset({"labels", "transductive"}),
    }
    results = run_suite(type("Checked", (TaskSuite,), body))
    caught = {r.name for r in results if r.outcome == "failed"}
    assert "test_labels_of_fit_do_not_matter" in caught


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_mutant_is_caught(name):
    base, make, check = MUTANTS[name]
    (result,) = run_suite(suite_of(base, make()), only=[check])
    assert result.outcome == "failed"
    assert len(result.message) > 20
