from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from cellweave.errors import ConfigError, DataError
from cellweave_metabolomics import (
    MassHistogram,
    adduct_mass,
    align_features,
    annotate,
    exact_mass,
    masses_of,
    nearest_masses,
)


@pytest.mark.parametrize(
    ("formula", "mass"),
    [
        ("C6H12O6", 180.063388),
        ("H2O", 18.010565),
        ("C10H16N5O13P3", 506.995745),
        ("C40H80NO8P", 733.562157),
        ("Ca(OH)2", 73.968070),
    ],
)
def test_exact_masses(formula, mass):
    assert exact_mass(formula) == pytest.approx(mass, abs=2e-5)


@pytest.mark.parametrize(
    ("adduct", "mz"),
    [
        ("[M+H]+", 181.070665),
        ("[M+Na]+", 203.052609),
        ("[M+K]+", 219.026547),
        ("[M+NH4]+", 198.097214),
        ("[M-H]-", 179.056112),
        ("[M+Cl]-", 215.032789),
        ("[M+FA-H]-", 225.061591),
        ("[M+H-H2O]+", 163.060100),
        ("[2M+H]+", 361.134053),
        ("[M+2H]2+", 91.038970),
    ],
)
def test_adducts_of_glucose(adduct, mz):
    """Masses as published for glucose in tables of adducts."""
    assert adduct_mass(exact_mass("C6H12O6"), adduct) == pytest.approx(mz, abs=5e-5)


@pytest.mark.parametrize("wrong", ["", "c6", "C6H12O6!", "Xx2", "(CH"])
def test_unreadable_formulas(wrong):
    with pytest.raises(DataError, match="Formula"):
        exact_mass(wrong)


@pytest.mark.parametrize("wrong", ["M+H", "[M+H]", "[X+H]+", "[M+Qq]+"])
def test_unreadable_adducts(wrong):
    with pytest.raises(DataError, match=r"Adduct|Formula"):
        adduct_mass(100, wrong)


def ions(masses, n=12, seed=0):
    values = np.random.default_rng(seed).gamma(2, 50, (n, len(masses))).astype("f4")
    var = pd.DataFrame(index=[f"mz-{m:.6f}" for m in masses])
    return ad.AnnData(sp.csr_matrix(values), var=var, obs=pd.DataFrame(index=map(str, range(n))))


def test_masses_come_from_columns_or_names():
    var = pd.DataFrame(index=["mz-426.92", "m/z 500.5", "77.25", "MZ_80.1"])
    assert masses_of(var).tolist() == [426.92, 500.5, 77.25, 80.1]
    assert masses_of(pd.DataFrame({"mz": ["5.5"]}, index=["x"])).tolist() == [5.5]
    with pytest.raises(DataError, match=r"2 of 3 features have no m/z, e.g. 'Glucose'"):
        masses_of(pd.DataFrame(index=["99.5", "Glucose", "12"]))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 500))
def test_nearest_masses_equal_brute_force(seed, ppm):
    rng = np.random.default_rng(seed)
    centres = np.unique(rng.uniform(100, 101, rng.integers(1, 30)))
    masses = rng.uniform(99.9, 101.1, 40)
    got = nearest_masses(masses, centres, ppm=ppm)
    for mass, at in zip(masses, got):
        best = int(np.argmin(np.abs(centres - mass)))
        near = abs(centres[best] - mass) <= ppm * 1e-6 * centres[best]
        assert at == (best if near else -1)


def test_histogram_finds_planted_ions():
    rng = np.random.default_rng(0)
    true = np.sort(rng.uniform(100, 900, 40))
    histogram = MassHistogram(ppm=10)
    for _ in range(200):
        seen = true[rng.random(40) < 0.6]
        histogram.add(seen * (1 + rng.normal(0, 1.5e-6, len(seen))), rng.gamma(2, 10, len(seen)))
    found = histogram.centres(min_spectra=20)
    assert len(found) == 40
    assert np.max(np.abs(found - true) / true) < 1e-6
    histogram.add(np.array([5.0, 99_999.0]), np.ones(2))
    assert histogram.outside == 2
    with pytest.raises(ConfigError, match="ppm=0"):
        MassHistogram(ppm=0)


def test_two_data_sets_get_the_same_columns():
    one, two = ions([100.0, 200.0, 300.0]), ions([100.0005, 250.0, 300.0], seed=1)
    aligned = align_features(two, ppm=10, reference=masses_of(one.var))
    assert aligned.var["mz"].tolist() == [100.0, 200.0, 300.0]
    dense = aligned.X.toarray()
    np.testing.assert_array_equal(dense[:, [0, 2]], two.X.toarray()[:, [0, 2]])
    assert not dense[:, 1].any()
    assert aligned.uns["alignment"]["left_out"] == 1


def test_own_columns_within_tolerance_are_summed():
    data = ions([100.0, 100.0002, 200.0])
    merged = align_features(data, ppm=10)
    assert merged.n_vars == 2
    np.testing.assert_allclose(merged.X.toarray()[:, 0], data.X.toarray()[:, :2].sum(1), rtol=1e-6)


def test_annotation_equals_brute_force(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"name": [f"m{i}" for i in range(30)], "mass": rng.uniform(100, 140, 30)})
    table.to_csv(tmp_path / "compounds.csv", index=False)
    adducts = ["[M+H]+", "[M+Na]+"]
    data = ions(np.sort(rng.uniform(100, 160, 50)))
    found = annotate(data, tmp_path / "compounds.csv", ppm=800, adducts=adducts)
    expected = set()
    for name, mz in zip(data.var_names, masses_of(data.var)):
        for compound, mass in table.itertuples(index=False):
            for adduct in adducts:
                theory = adduct_mass(mass, adduct)
                if abs(mz - theory) / theory * 1e6 <= 800:
                    expected.add((name, compound, adduct))
    assert set(found[["feature", "name", "adduct"]].itertuples(index=False, name=None)) == expected
    first = found.groupby("feature")["ppm_error"].apply(lambda e: abs(e).is_monotonic_increasing)
    assert first.all()


def test_annotation_from_formulas_and_refusals():
    data = ions([203.052609, 500.0])
    table = pd.DataFrame({"metabolite": ["glucose"], "formula": ["C6H12O6"], "hmdb": ["HMDB122"]})
    found = annotate(data, table)
    assert found[["name", "adduct", "hmdb"]].to_numpy().tolist() == [
        ["glucose", "[M+Na]+", "HMDB122"]
    ]
    assert abs(found["ppm_error"].iloc[0]) < 0.1
    with pytest.raises(DataError, match="Expected 'formula' or 'mass'"):
        annotate(data, pd.DataFrame({"x": [1]}))
    with pytest.raises(ConfigError, match="ppm=-1"):
        annotate(data, table, ppm=-1)
