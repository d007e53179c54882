"""What linear integrators share: links to columns, products without cells × cells, one message."""

from __future__ import annotations

import anndata
import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import DataError
from cellweave.records import FeatureLinks
from cellweave.weaving import (
    InputRules,
    basis_of,
    batch_codes,
    cells_of,
    check_inputs,
    linked_pair,
    new_cells_problem,
    one_per_pair,
    parse_use_rep,
    product_svd,
)


def part(n, p, prefix, seed, key="X_pca"):
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(2, (n, p)).astype(np.float32))
    adata = anndata.AnnData(counts.log1p())
    adata.obs_names = [f"{prefix}cell{i}" for i in range(n)]
    adata.var_names = [f"{prefix}{i}" for i in range(p)]
    adata.layers["counts"] = counts
    adata.obsm[key] = rng.standard_normal((n, 4)).astype(np.float32)
    return adata


@pytest.fixture
def small():
    mdata = mudata.MuData({"rna": part(20, 6, "g", 0), "prot": part(15, 3, "p", 1)})
    rows, cols = np.array([0, 1, 2, 4]), np.array([0, 0, 1, 2])
    links = FeatureLinks(
        source="rna",
        target="prot",
        source_features=mdata["rna"].var_names.to_numpy(str),
        target_features=mdata["prot"].var_names.to_numpy(str),
        rows=rows.astype(np.int32),
        cols=cols.astype(np.int32),
        weights=np.array([1, 0.5, 1, 1], dtype=np.float32),
        signs=np.array([1, 1, 1, -1], dtype=np.int8),
        evidence=np.full(4, "name"),
    )
    return mdata, links


@pytest.mark.parametrize("turned", [False, True])
def test_many_genes_add_up_to_one_protein(small, turned):
    mdata, links = small
    pair = linked_pair(links.reversed() if turned else links, mdata.mod)
    assert (pair.anchor, list(pair.names)) == ("prot", ["p0", "p1", "p2"])
    counts = mdata["rna"].layers["counts"].toarray()
    scale = 1e4 / counts.sum(1)
    got = pair.values("rna", mdata["rna"])
    np.testing.assert_allclose(
        got[:, 0], np.log1p((counts[:, 0] + 0.5 * counts[:, 1]) * scale), rtol=1e-5
    )
    np.testing.assert_allclose(got[:, 2], -np.log1p(counts[:, 4] * scale), rtol=1e-5)
    np.testing.assert_allclose(pair.values("prot", mdata["prot"]), mdata["prot"].X.toarray())


@pytest.mark.parametrize("width", [30, 700])
def test_product_svd_equals_the_product_made(width):
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((5, width)) * [[40], [20], [10], [6], [4]]
    a = (rng.standard_normal((80, 5)) @ basis).astype(np.float32)
    b = (rng.standard_normal((60, 5)) @ basis).astype(np.float32)
    u, s, v = product_svd(a, b, 5)
    product = a.astype(float) @ b.T
    np.testing.assert_allclose(s, np.linalg.svd(product, compute_uv=False)[:5], rtol=1e-4)
    np.testing.assert_allclose((u * s) @ v.T, product, atol=1e-3 * s[0])


def test_canonical_order_knows_neither_names_nor_positions(small):
    adata = small[0]["rna"]
    plain = cells_of("rna", adata, use_rep={})
    renamed = adata[::-1].copy()
    renamed.obs_names = [f"x{i}" for i in range(20)]
    other = cells_of("rna", renamed, use_rep={})
    np.testing.assert_array_equal(plain.representation, other.representation)
    back = plain.in_input_order(plain.representation + plain.means[plain.batch])
    np.testing.assert_allclose(back, adata.obsm["X_pca"], atol=1e-6)


def test_cells_are_centred_within_batches(small):
    adata = small[0]["rna"]
    adata.obs["batch"] = np.where(np.arange(20) < 7, "a", "b")
    cells = cells_of("rna", adata, use_rep={}, batch_key="batch")
    for code in (0, 1):
        assert np.abs(cells.representation[cells.batch == code].mean(0)).max() < 1e-6


def test_every_problem_is_in_one_message(small):
    mdata, links = small
    mdata["rna"].obsm["X_pca"][3] = np.nan
    del mdata["prot"].layers["counts"]
    rules = InputRules(method="Weaver", batch_key="lane")
    with pytest.raises(DataError) as caught:
        check_inputs(mdata, [links], rules)
    text = str(caught.value)
    assert text.startswith("Weaver cannot use these data, for 3 reasons:")
    assert "`batch_key` is 'lane'" in text
    assert "first 'gcell3'" in text
    assert "no 'counts'" in text


def test_links_that_leave_parts_are_told(small):
    mdata, links = small
    three = mudata.MuData({**mdata.mod, "atac": part(12, 5, "a", 2, key="X_lsi")})
    with pytest.raises(DataError, match="separate parts"):
        check_inputs(three, [links], InputRules(method="Weaver"))


def test_use_rep_in_its_three_forms(small):
    mdata, _ = small
    assert parse_use_rep("X_pca", mdata) == {"rna": "X_pca", "prot": "X_pca"}
    assert parse_use_rep("rna=X_a, prot=X_b", mdata) == {"rna": "X_a", "prot": "X_b"}
    assert parse_use_rep(None, mdata) == {}
    with pytest.raises(DataError, match="Did you mean 'X_pca'"):
        parse_use_rep("X_pcaa", mdata)


def with_loadings(adata, seed=0):
    rng = np.random.default_rng(seed)
    adata.varm["PCs"] = rng.standard_normal((adata.n_vars, 4)).astype(np.float32)
    adata.varm["PCs"][0] = 0
    return adata


def test_a_basis_is_known_by_its_loadings_whatever_the_order_of_features(small):
    rna = with_loadings(small[0]["rna"])
    fitted = {"rna": basis_of(rna, "X_pca")}
    assert new_cells_problem("rna", rna[:5, ::-1].copy(), fitted) is None
    assert new_cells_problem("rna", rna[:, 1:].copy(), fitted) is None  # it had no loading
    for wrong in (with_loadings(rna.copy(), 1), rna[:, :-1].copy()):
        assert "stands on other axes" in new_cells_problem("rna", wrong, fitted)
    assert "'prot' was not fitted" in new_cells_problem("prot", rna, fitted)
    assert type(fitted["rna"]).from_json(fitted["rna"].to_json()) == fitted["rna"]


def test_a_representation_without_loadings_is_known_by_its_width_alone(small):
    rna = small[0]["rna"]
    rna.obsm["X_model"] = rna.obsm["X_pca"]
    fitted = {"rna": basis_of(rna, "X_model")}
    assert new_cells_problem("rna", rna, fitted) is None
    narrow = rna.copy()
    narrow.obsm["X_model"] = narrow.obsm["X_model"][:, :3]
    assert "shape (20, 3); the fit read 4 columns" in new_cells_problem("rna", narrow, fitted)
    narrow.obsm["X_model"] = np.full((20, 4), np.nan)
    assert "NaN or infinity for 20 cells" in new_cells_problem("rna", narrow, fitted)


def test_records_of_one_pair_are_joined_and_the_larger_weight_stays(small):
    _, links = small
    second = FeatureLinks(
        source="prot",
        target="rna",
        source_features=links.target_features,
        target_features=links.source_features,
        rows=np.array([0, 2], dtype=np.int32),
        cols=np.array([1, 5], dtype=np.int32),
        weights=np.array([0.75, 0.25], dtype=np.float32),
        signs=np.array([-1, 1], dtype=np.int8),
        evidence=np.full(2, "table"),
    )
    (pair, joined), *rest = one_per_pair([links, second]).items()
    assert (pair, rest) == (("prot", "rna"), [])
    expected = links.reversed().matrix().toarray()
    expected[0, 1], expected[2, 5] = -0.75, 0.25
    np.testing.assert_array_equal(joined.matrix().toarray(), expected)
    assert sorted(joined.evidence) == ["name", "name", "name", "table", "table"]
    assert one_per_pair([links])["prot", "rna"].matrix().nnz == 4


def test_a_batch_that_was_not_fitted_gets_a_code_of_its_own(small):
    rna = small[0]["rna"]
    rna.obs["plate"] = np.where(np.arange(20) < 4, "new", "b")
    np.testing.assert_array_equal(batch_codes(rna, "plate", ("a", "b")), [2] * 4 + [1] * 16)
    np.testing.assert_array_equal(batch_codes(rna, None, ("",)), 0)
    np.testing.assert_array_equal(batch_codes(rna, "lane", ("a", "b")), 2)
