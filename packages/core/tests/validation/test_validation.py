"""Validation: planted defects are told, clean data are left in peace, nothing is changed."""

import importlib.util
import os
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.validation import (
    ValueKind,
    check_prepared,
    classify_values,
    describe_names,
    fix,
    summarise_values,
    validate,
)

_path = Path(__file__).parents[4] / "benchmarks" / "bench_validation.py"
if not _path.exists():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)
_spec = importlib.util.spec_from_file_location("bench_validation", _path)
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)


@pytest.fixture(scope="module")
def clean():
    return bench.made(0)


@pytest.mark.parametrize("defect", bench.DEFECTS)
@pytest.mark.parametrize("style", ["human", "ensembl"])
def test_planted_defects_are_told(defect, style):
    data = bench.made(1, style, n=150)
    dirty, codes = bench.planted(data, defect, seed=3)
    assert codes & validate(dirty).codes()
    assert not codes & validate(data).codes()


@pytest.mark.parametrize("other", ["prot", "atac"])
@pytest.mark.parametrize("style", ["human", "mouse", "ensembl"])
def test_clean_data_are_left_in_peace(style, other):
    assert bench.alarms_of(bench.made(2, style, other)) == []


@pytest.mark.data
def test_no_false_alarm_on_real_data():
    root = os.environ.get("CELLWEAVE_DATA")
    if not root:
        pytest.skip("CELLWEAVE_DATA names no folder of real data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sets = bench.real(root)
    assert {name: [str(f) for f in bench.alarms_of(d)] for name, d in sets.items()} == {
        name: [] for name in sets
    }


def _by_hand(dense):
    finite = dense[np.isfinite(dense)]
    return {
        "n_nonzero": int((dense != 0).sum()),
        "n_nan": int(np.isnan(dense).sum()),
        "n_inf": int(np.isinf(dense).sum()),
        "n_negative": int((finite < 0).sum()),
        "n_fractional": int((finite != np.rint(finite)).sum()),
    }


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "bool", "f2"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_counters_agree_with_a_count_by_hand(dtype, form):
    rng = np.random.default_rng(5)
    dense = (rng.normal(0, 2, (40, 30)) * (rng.random((40, 30)) < 0.3)).astype(dtype)
    if dense.dtype.kind == "f":
        dense[3, 4], dense[7, 8] = np.nan, -np.inf
    if dtype == "f2" and form is not np.asarray:
        pytest.skip("scipy holds no half-precision sparse matrices")
    found = summarise_values(form(dense))
    assert {k: getattr(found, k) for k in _by_hand(dense)} == _by_hand(dense)
    assert np.array_equal(found.row_counts, (dense != 0).sum(1))
    assert np.array_equal(found.column_counts, (dense != 0).sum(0))
    if dense.dtype.kind == "f":
        assert found.first_nan == (3, 4)
        assert found.first_inf == (7, 8)
        assert classify_values(form(dense)) is ValueKind.NOT_FINITE


def test_one_wrong_value_in_a_million_is_found():
    matrix = sp.csr_matrix(np.ones((1000, 1000), dtype=np.float32) * 30)
    assert classify_values(matrix) is ValueKind.COUNTS
    matrix.data[765_432] = 30.5
    found = summarise_values(matrix)
    assert found.kind is ValueKind.NEARLY_COUNTS
    assert found.first_fractional == (765, 432)


def test_findings_have_place_value_reason_and_mending(clean):
    dirty, _ = bench.planted(clean, "fractions_1pc", seed=0)
    finding = next(f for f in validate(dirty).findings if f.code == "VALUES_NEARLY_COUNTS")
    assert finding.place == "mdata['rna'].X"
    assert "are not whole, the first is" in finding.value
    assert finding.why
    assert finding.fix
    assert validate(dirty).ok is False


def test_all_findings_come_at_once_most_severe_first(clean):
    data = clean
    for defect in ("nan", "duplicate_feature", "batch_is_label"):
        data, _ = bench.planted(data, defect, seed=1)
    report = validate(data)
    assert {"VALUES_NOT_FINITE", "VAR_NAMES_DUPLICATE", "BATCH_IS_LABEL"} <= report.codes()
    order = [f.severity for f in report.findings]
    assert order == sorted(order, key=["error", "warning", "note"].index)


def test_nothing_is_random_and_nothing_is_changed(clean):
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - that it is untouched is the point
    before = clean.copy()
    assert validate(clean).to_json() == validate(clean).to_json()
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    for key in clean.mod:
        assert (clean.mod[key].X != before.mod[key].X).nnz == 0
        assert clean.mod[key].obs.equals(before.mod[key].obs)


def test_fix_mends_what_is_safe_on_a_copy():
    data = bench.made(4, "ensembl")
    for defect in ("versioned", "empty_cell", "empty_feature"):
        data, _ = bench.planted(data, defect, seed=2)
    n_before = data.mod["rna"].shape
    mended, done = fix(data, validate(data))
    assert data.mod["rna"].shape == n_before
    assert mended.mod["rna"].shape == (n_before[0] - 1, n_before[1] - 1)
    assert any("version" in line for line in done)
    assert any("empty cells" in line for line in done)
    assert not {"IDS_VERSIONED", "CELLS_EMPTY", "FEATURES_EMPTY"} & validate(mended).codes()


def test_fix_leaves_what_is_not_safe(clean):
    dirty, _ = bench.planted(clean, "fractions_1pc", seed=0)
    mended, done = fix(dirty, validate(dirty))
    assert done == []
    assert (mended.mod["rna"].X != dirty.mod["rna"].X).nnz == 0


def test_an_anndata_is_validated_too(clean):
    assert validate(clean.mod["rna"]).ok
    with pytest.raises(DataError, match="Cannot validate list"):
        validate([])


def test_a_key_that_is_nowhere_is_told(clean):
    report = validate(clean, batch_key="bacth")
    assert "Did you mean 'batch'" in next(f.fix for f in report.findings if f.code == "KEY_MISSING")


def test_names():
    found = describe_names(
        pd.Index(["ENSG00000000001.5", "GAPDH", "Gapdh", "chr1:1-20", "mz-426.9288"])
    )
    assert (found.human_ids, found.versioned, found.peaks, found.masses) == (1, 1, 1, 1)
    assert (found.human_symbols, found.mouse_symbols) == (1, 1)


def test_check_prepared_lists_everything_at_once(clean):
    with pytest.raises(DataError) as caught:
        check_prepared(clean, "rna", "X_pca", highly_variable=True)
    for part in ("layers['counts']", "obsm['X_pca']", "highly_variable", "cellweave.prepare"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=r"no modality 'rn'\. Did you mean 'rna'"):
        check_prepared(clean, "rn")
    adata = ad.AnnData(sp.csr_matrix(np.eye(5, dtype=np.float32)))
    adata.layers["counts"] = adata.X.copy()
    adata.obsm["X_pca"] = np.ones((5, 2), dtype=np.float32)
    assert check_prepared(bench.woven({"rna": adata}), "rna", "X_pca").n_obs == 5
    adata.obsm["X_pca"][0, 0] = np.nan
    with pytest.raises(DataError, match="1 NaN"):
        check_prepared(bench.woven({"rna": adata}), "rna", "X_pca")
