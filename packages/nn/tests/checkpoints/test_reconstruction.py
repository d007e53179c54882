"""Hidden genes: what is hidden, who is asked, and the baselines, against loops."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from cellweave.errors import ConfigError
from cellweave.records import Provenance
from cellweave.tokenizing import BinTokenizer, RankTokenizer
from cellweave_nn.checkpoints.reconstruction import reconstruct

WHO = Provenance(component="test", version="1")


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    return anndata.AnnData(sp.csr_matrix(rng.poisson(0.8, (40, 30)).astype(np.float32)))


class Asked:
    """Says its number of hidden tokens so far, and remembers what it saw."""

    def __init__(self):
        self.parts = []

    def __call__(self, tokens, hidden):
        self.parts.append((tokens, hidden))
        return np.arange(hidden.sum()) % 7


def run(cells, tokenizer, kind, fill, **changes):
    tokenizer = tokenizer.fit(cells)
    tokenizer.framing = int(tokenizer.start)
    settings = {"share": 0.3, "batch_size": 3, "seed": 1} | changes
    return reconstruct(
        cells, kind=kind, tokenizer=tokenizer, n_ids=len(tokenizer.vocabulary), fill=fill,
        provenance=WHO, **settings,
    )  # fmt: skip


def test_values_are_those_of_the_hidden_genes_in_input_order(cells):
    tokenizer, asked = BinTokenizer(rule="log2", n_bins=5, start=True), Asked()
    found = run(cells, tokenizer, "values", asked)
    tokens = tokenizer.encode(cells)
    value = {
        (i, int(g)): float(v)
        for i in range(40)
        for g, v in zip(
            tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]],
            tokens.values[tokens.offsets[i] : tokens.offsets[i + 1]],
            strict=True,
        )
    }
    keys = list(zip(found.cells.tolist(), found.ids.tolist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert [value[k] for k in keys] == found.truth.tolist()
    assert (np.diff(found.cells) >= 0).all()
    assert tokenizer.vocabulary.special["cls"] not in found.ids
    shown = {k: v for k, v in value.items() if k not in set(keys) and v > 0}
    assert set(range(40)) <= {i for i, _ in shown}  # every cell shows something
    overall = np.mean(list(shown.values()))
    own = {g: np.mean([v for (_, h), v in shown.items() if h == g]) for _, g in shown}
    np.testing.assert_allclose(found.baselines["mean of all values"], overall)
    expected = [own.get(g, overall) for _, g in keys]
    np.testing.assert_allclose(found.baselines["mean of the gene"], expected)
    share = len(keys) / sum(v > 0 for v in value.values())
    assert 0.22 < share < 0.38


def test_the_choice_is_the_same_again_whatever_the_batch(cells):
    first, again, other = (
        run(cells, BinTokenizer(rule="log2", n_bins=5), "values", Asked(), **changes)
        for changes in ({}, {"batch_size": 1}, {"seed": 2})
    )
    assert np.array_equal(first.ids, again.ids)
    assert not np.array_equal(first.ids, other.ids)


def test_genes_are_compared_with_the_commonest_at_their_place(cells):
    tokenizer, asked = RankTokenizer(scaling="none", max_length=None), Asked()
    found = run(cells, tokenizer, "genes", asked)
    assert np.array_equal(found.truth, found.ids)
    assert found.guess.dtype == np.int64
    at = {}
    for tokens, hidden in asked.parts:
        for i in range(tokens.n_cells):
            row = slice(tokens.offsets[i], tokens.offsets[i + 1])
            n = int(tokens.lengths[i])
            for k, (gene, hid) in enumerate(zip(tokens.ids[row], hidden[row], strict=True)):
                if not hid:
                    at.setdefault(int(k / n * 50), []).append(int(gene))
    said = found.baselines["commonest gene at the place"]
    for place, gene in zip(found.places, said, strict=True):
        shown = at.get(int(place * 50), [])
        assert not shown or shown.count(int(gene)) == max(map(shown.count, shown))


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_that_is_none_is_refused(cells, share):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        run(cells, BinTokenizer(rule="log2", n_bins=5), "values", Asked(), share=share)
