"""What a fit says of itself when links are few or nothing aligns."""

from __future__ import annotations

import numpy as np

from cellweave.records import FeatureLinks
from cellweave_glue.graph import build_graph
from cellweave_glue.quality import advice_on


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
    assert advice_on(_graph(12), consistency=(20, 0.4), mixing=0.69) == ()
    poor = advice_on(_graph(3), consistency=(20, 0.01), mixing=0.2)
    assert "Only 3 links" in poor[0]
    assert "consistency 0.010" in poor[1]
    assert "still tells the modalities apart" in poor[2]
    assert len(poor) == 3
