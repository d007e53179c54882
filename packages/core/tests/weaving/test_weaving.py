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
    cells_of,
    check_inputs,
    linked_pair,
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
