"""The whole evaluation: with and without labels and pairs, its words, and the comparison."""

import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData

from cellweave.errors import ConfigError, DataError
from cellweave.evaluation import ComparedRun, compare_table, evaluate
from cellweave.joins import without_pulling
from cellweave.records import Score, Scores

N = 150


def make(*, noise=0.05, shift=0.0, random=False):
    rng = np.random.default_rng(0)
    types = np.repeat(["B", "NK", "T"], N // 3)
    base = np.repeat(8 * np.eye(3, 6), N // 3, axis=0) + rng.normal(size=(N, 6))
    mods = {}
    for i, name in enumerate(("rna", "prot")):
        order = rng.permutation(N)
        values = rng.normal(size=(N, 6)) if random else base + noise * rng.normal(size=(N, 6))
        adata = AnnData(np.ones((N, 3), dtype=np.float32))
        adata.obs_names = [f"{name}{j}" for j in range(N)]
        adata.obs["cell_type"] = types[order]
        adata.obs["id"] = [f"c{j}" for j in order]
        adata.obs["batch"] = np.array(["x", "y"])[rng.integers(0, 2, N)]
        adata.obsm["X_pca"] = base[order]
        adata.obsm["X_test"] = (values + i * shift)[order].astype(np.float32)
        mods[name] = adata
    with without_pulling():
        return MuData(mods)


def test_good_poor_and_deterministic():
    mdata = make()
    scores = evaluate(mdata, use_rep="X_test", pairing="id", batch_key="batch")
    assert scores.summary["verdict"] == "good"
    assert scores.summary["integration_score"] > 0.85
    assert scores.value("foscttm") < 0.01
    assert scores.value("foscttm", group="prot->rna") < 0.01
    assert (
        scores.to_json()
        == evaluate(mdata, use_rep="X_test", pairing="id", batch_key="batch").to_json()
    )
    assert {s.method for s in scores.items} == {"X_test"}
    bad = evaluate(make(random=True), use_rep="X_test", pairing="id")
    assert bad.summary["verdict"] == "poor"
    assert bad.summary["integration_score"] < 0.2  # although noise mixes well
    assert bad.value("entropy_mixing") > 0.9


def test_apart_is_not_good():
    scores = evaluate(make(shift=500.0), use_rep="X_test", pairing="id")
    assert scores.summary["verdict"] != "good"
    assert any("stay apart" in s for s in scores.summary["sentences"])


def test_the_order_of_modalities_does_not_matter():
    mdata = make(noise=1.0)
    with without_pulling():
        turned = MuData({m: mdata.mod[m] for m in reversed(list(mdata.mod))})
    one, two = (evaluate(m, use_rep="X_test", pairing="id").to_json() for m in (mdata, turned))
    assert one == two


def test_without_labels_and_pairs_each_gap_is_told(tmp_path):
    scores = evaluate(make(), use_rep="X_test", label_key="nothing")
    by_name = {s.metric: s for s in scores.items if not s.group}
    assert by_name["foscttm"].value is None
    assert by_name["foscttm"].note == "which cells are the same is not known: set `pairing`"
    assert "obs['nothing']: set `label_key`" in by_name["ari"].note
    assert by_name["seurat_alignment"].value > 0.9
    assert by_name["asw_batch"].value is None
    assert scores.summary["verdict"] == "unknown"
    scores.save(tmp_path / "scores.json")
    assert Scores.load(tmp_path / "scores.json").to_json() == scores.to_json()
    names = evaluate(make(), use_rep="X_test", pairing="obs_names")
    assert "prot and rna share 0 cells" in next(
        s.note for s in names.items if s.metric == "foscttm"
    )


def _with_agreement(mdata, value):
    for one, other in (("rna", "prot"), ("prot", "rna")):
        obs = mdata.mod[one].obs
        obs[f"X_test_agreement_{other}"] = np.full(N, value, dtype=np.float32)
    return mdata


def test_without_labels_and_pairs_linked_features_tell_a_failure():
    good = evaluate(_with_agreement(make(), 0.9), use_rep="X_test", label_key=None)
    assert good.summary["verdict"] == "unknown"  # the links alone prove no success
    assert good.value("linked_agreement") == pytest.approx(0.9)
    assert good.value("linked_agreement", group="rna->prot") == pytest.approx(0.9)
    noise = _with_agreement(make(random=True), 0.05)
    poor = evaluate(noise, use_rep="X_test", label_key=None)
    assert poor.value("entropy_mixing") > 0.9
    assert poor.summary["verdict"] == "poor"
    assert poor.summary["integration_score"] < 0.5 * good.summary["integration_score"]
    assert any("Linked features disagree: 0.05" in s for s in poor.summary["sentences"])


def test_where_types_are_known_linked_features_change_no_verdict():
    plain = evaluate(make(), use_rep="X_test", pairing="id").summary
    told = evaluate(_with_agreement(make(), 0.05), use_rep="X_test", pairing="id").summary
    for name in ("verdict", "integration_score", "families"):
        assert told[name] == plain[name]


def test_one_modality_is_enough_for_what_needs_no_other():
    mdata = make()
    del mdata.mod["prot"].obsm["X_test"]
    by_name = {s.metric: s for s in evaluate(mdata, use_rep="X_test").items if not s.group}
    assert by_name["asw_type"].value > 0.7
    assert by_name["entropy_mixing"].note == "there is one modality only"


def test_errors_say_what_there_is():
    mdata = make()
    with pytest.raises(DataError, match=r"obsm\['X_tets'\].*Did you mean 'X_test'"):
        evaluate(mdata, use_rep="X_tets")
    with pytest.raises(DataError, match=r"pairing='idd' is no column.*Did you mean 'id'"):
        evaluate(mdata, use_rep="X_test", pairing="idd")
    with pytest.raises(DataError, match="more than once in mdata"):
        evaluate(mdata, use_rep="X_test", pairing="cell_type")
    with pytest.raises(ConfigError, match=r"'foscttn'.*Did you mean 'foscttm'"):
        evaluate(mdata, use_rep="X_test", metrics=["foscttn"])
    mdata.mod["rna"].obsm["X_test"][3] = np.nan
    with pytest.raises(DataError, match="holds NaN or infinity"):
        evaluate(mdata, use_rep="X_test")


def test_chosen_metrics_only_and_the_data_stay_as_they_are():
    mdata = make()
    before = {m: sorted(a.obsm) + sorted(a.obs) for m, a in mdata.mod.items()}
    scores = evaluate(mdata, use_rep="X_test", metrics=["core.map", "entropy_mixing"])
    assert {s.metric for s in scores.items} == {"map", "entropy_mixing"}
    assert {m: sorted(a.obsm) + sorted(a.obs) for m, a in mdata.mod.items()} == before


def run(method, seed, value, seconds, verdict="good"):
    scores = Scores(
        items=(Score(metric="foscttm", value=1 - value, best=0.0, higher_is_better=False),),
        summary={"integration_score": value, "verdict": verdict},
    )
    return ComparedRun(
        method=method, seed=seed, scores=scores, seconds=seconds, peak_bytes=2 * 10**9
    )


def test_compare_prefers_quality_then_speed():
    runs = [run("glue", s, v, 100.0) for s, v in enumerate((0.8, 0.9, 0.85))]
    runs += [run("maxfuse", s, v, 5.0) for s, v in enumerate((0.82, 0.84, 0.83))]
    runs += [run("bindsc", s, 0.4, 1.0) for s in range(3)]
    failed = ComparedRun(
        method="odd", seed=0, scores=None, seconds=0, peak_bytes=0, failure="no links"
    )
    scores, text = compare_table([*runs, failed])
    assert scores.summary["order"] == ["glue", "maxfuse", "bindsc", "odd"]
    assert text.startswith("Take maxfuse: integration score 0.83")
    assert "glue did as well within the spread over seeds, but slower" in text
    assert "Behind: bindsc 0.40." in text
    assert "Did not finish: odd." in text
    assert scores.value("integration_score", method="glue") == 0.85
    assert scores.value("peak_gb", method="glue") == 2.0
    assert "3 seeds, 0.8 to 0.9" in next(s.note for s in scores.items if s.method == "glue")
    with pytest.raises(DataError, match="no links"):
        scores.value("seconds", method="odd")
    scores, text = compare_table([run("a", 0, 0.1, 1.0, "poor")])
    assert "even this result is poor" in text
    assert compare_table([failed])[1].startswith("No method finished")
    with pytest.raises(DataError, match="no runs to compare"):
        compare_table([])
