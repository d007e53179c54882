from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave.preparing import (
    Recipe,
    principal_components,
    raw_values,
    settings_from,
    signed_components,
    standardized,
)
from cellweave.records import Preparation


@pytest.mark.parametrize("shape", [(60, 12), (12, 60), (40, 2600)])
def test_components_equal_an_exact_decomposition(shape, monkeypatch):
    monkeypatch.setattr("cellweave.preparing.components._BLOCK", 7)
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(shape[0], 6)) * np.geomspace(30, 1, 6)
    values = (hidden @ rng.normal(size=(6, shape[1])) + rng.normal(size=shape)).astype("f4")
    scores, loadings, share = principal_components(values, 4, seed=0)
    centred = values.astype(float) - values.mean(0, dtype=float)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(share, (singular**2 / (singular**2).sum())[:4], rtol=1e-3)
    expected, _ = signed_components(left[:, :4] * singular[:4], right[:4])
    np.testing.assert_allclose(scores, expected, atol=1e-2 * np.abs(expected).max())
    assert scores.dtype == loadings.dtype == np.float32
    again = principal_components(values, 4, seed=0)[0]
    assert scores.tobytes() == again.tobytes()


def test_constants_standardise_to_zero():
    got = standardized(np.array([[1.0, 5.0], [3.0, 5.0]]), axis=0)
    np.testing.assert_allclose(got, [[-(0.5**0.5), 0], [0.5**0.5, 0]])


def test_raw_values_come_from_counts_first_and_are_a_copy():
    adata = ad.AnnData(np.full((2, 2), 0.5, "f4"))
    adata.layers["counts"] = sp.csc_matrix(np.array([[1, 0], [0, 2]]))
    raw = raw_values(adata, modality="thing")
    assert raw.format == "csr"
    assert raw.dtype == np.float32
    raw.data[:] = 9
    assert adata.layers["counts"].toarray().tolist() == [[1, 0], [0, 2]]
    del adata.layers["counts"]
    assert raw_values(adata, modality="thing", integers=False)[0, 0] == 0.5


def test_what_is_not_raw_is_told_with_its_place():
    adata = ad.AnnData(np.array([[1, 2], [0.25, np.nan]], "f4"))
    with pytest.raises(DataError) as error:
        raw_values(adata, modality="thing")
    assert "X[1, 1] = nan is not finite (1 such values)" in str(error.value)
    assert "X[1, 0] = 0.25 is not a whole number" in str(error.value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    depth: int = 3


def test_a_recipe_closes_into_a_record():
    adata = ad.AnnData(np.ones((2, 2), "f4"))
    recipe = Recipe(modality="thing", distribution="none", settings=Settings(), seed=7)
    recipe.add("dig", outcome={"found": 1}, depth=3)
    prepared = recipe.close(adata)
    back = Preparation.from_json(adata.uns["preparation"])
    assert back.to_dict() == prepared.preparation.to_dict()
    assert back.steps[0].outcome == {"found": 1}
    assert back.provenance.parameters["depth"] == 3


def test_settings_are_coerced_and_misfits_refused():
    assert settings_from(Settings, {"depth": "5"}, name="thing").depth == 5
    with pytest.raises(ConfigError, match="Unknown setting 'deep'"):
        settings_from(Settings, {"deep": 1}, name="thing")


def test_nothing_but_zeros_is_no_data():
    empty = ad.AnnData(sp.csr_matrix((4, 3), dtype=np.float32))
    with pytest.raises(DataError, match="X holds nothing but zeros"):
        raw_values(empty, modality="prot")
