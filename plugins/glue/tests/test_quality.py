"""What a fit says of itself when a type is missing, links are few or nothing aligns."""

from __future__ import annotations

import numpy as np
import pytest

from cellweave.records import FeatureLinks
from cellweave_glue.fitted import unit_rows
from cellweave_glue.graph import build_graph
from cellweave_glue.quality import advice_on, lonely_share, lonely_shares


def _types(rng, sizes):
    centres = np.eye(8, dtype=np.float32) * 4
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    return unit_rows(centres[kinds] + rng.normal(size=(len(kinds), 8)) * 0.6), kinds


def test_cells_of_a_type_that_the_other_side_lacks_are_lonely(rng):
    a, _ = _types(rng, (90, 80, 60, 70))
    b, _ = _types(rng, (200, 300, 150, 0))
    shares = lonely_shares({"rna": a, "prot": b}, seed=0)
    assert shares["lonely_rna_to_prot"] == pytest.approx(70 / 300, abs=0.02)
    assert shares["lonely_prot_to_rna"] == 0


def test_nobody_is_lonely_where_types_are_shared(rng):
    a, _ = _types(rng, (90, 80, 60, 10))
    b, _ = _types(rng, (20, 300, 1500, 200))
    assert lonely_share(a, b) < 0.02
    assert lonely_share(b, a) < 0.02
    assert lonely_share(a[:1], b) == 0


def _graph(n):
    link = FeatureLinks(
        source="rna",
        target="prot",
        source_features=np.array([f"g{i}" for i in range(n)]),
        target_features=np.array([f"p{i}" for i in range(n)]),
        rows=np.arange(n, dtype=np.int32),
        cols=np.arange(n, dtype=np.int32),
        weights=np.ones(n, dtype=np.float32),
        signs=np.ones(n, dtype=np.int8),
        evidence=np.array(["test"] * n),
    )
    features = {"rna": link.source_features, "prot": link.target_features}
    return build_graph(features, [link])


def test_advice_names_what_is_wrong_and_is_silent_otherwise():
    sound = {"lonely_rna_to_prot": 0.01, "lonely_prot_to_rna": 0.0}
    assert advice_on(sound, _graph(12), consistency=(20, 0.4), mixing=0.69) == ()
    poor = advice_on(
        {**sound, "lonely_rna_to_prot": 0.17}, _graph(3), consistency=(20, 0.01), mixing=0.2
    )
    assert "Only 3 links" in poor[0]
    assert "consistency 0.010" in poor[1]
    assert "still tells the modalities apart" in poor[2]
    assert "17% of the cells of 'rna' lie far from all cells of 'prot'" in poor[3]
    assert len(poor) == 4
