"""The column of var that names most known genes is taken."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError, DataError
from cellweave_rna.tokenizers import BinTokenizer
from cellweave_rna.tokenizers.naming import encode_known, known_places, without_version

GENES = ["A", "B", "C"]


def cells(names, **columns):
    counts = np.array([[1, 0, 3], [0, 2, 1]], dtype=np.float32)
    return anndata.AnnData(sp.csr_matrix(counts), var=pd.DataFrame(columns, index=names))


def tokenizer(names_from=None):
    made = BinTokenizer(rule="log2", n_bins=5).fit(cells(GENES))
    made.names_from = names_from
    return made


def test_names_are_found_where_they_are():
    expected = encode_known(tokenizer(), cells(GENES))
    moved = cells(["x", "y", "z"], gene_name=GENES)
    assert np.array_equal(encode_known(tokenizer(), moved).ids, expected.ids)
    odd = cells(["x", "y", "z"], mine=GENES)
    assert np.array_equal(encode_known(tokenizer(names_from="mine"), odd).ids, expected.ids)
    lower = encode_known(tokenizer(), cells(["a", "b", "c"]), spelling=str.upper)
    assert np.array_equal(lower.ids, expected.ids)


def test_what_is_not_found_is_told():
    with pytest.raises(DataError, match="None of 3 features is a gene that the model knows"):
        encode_known(tokenizer(), cells(["x", "y", "z"]))
    with pytest.raises(ConfigError, match="var has no column 'mine'"):
        encode_known(tokenizer(names_from="mine"), cells(GENES))


def test_places_and_versions():
    found = known_places(cells(["C", "x", "A"]), np.array(GENES), columns=[None], kind="genes")
    assert found.tolist() == [2, -1, 0]
    assert without_version("ENSG00000141510.18") == "ENSG00000141510"
    assert without_version("AC1.2") == "AC1.2"


def test_parts_of_one_data_set_are_looked_up_once():
    made, spelt = tokenizer(), []

    def spelling(name):
        spelt.append(name)
        return name

    data = cells(GENES)
    expected = encode_known(made, data, spelling=spelling)
    for part in (data[:1], data[1:]):
        encode_known(made, part, spelling=spelling)
    assert len(spelt) == 3
    turned = encode_known(made, data[:, ["C", "B", "A"]], spelling=spelling)
    assert len(spelt) == 6
    assert np.array_equal(turned.ids, expected.ids)
    moved = cells(["x", "y", "z"], gene_name=GENES)
    assert np.array_equal(encode_known(made, moved, spelling=spelling).ids, expected.ids)
