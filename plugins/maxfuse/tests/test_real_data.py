"""MaxFuse on real CITE-seq, pairing hidden, defaults untouched."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cellweave_maxfuse import MaxFuse


@pytest.mark.data
def test_cite_seq_beats_the_official_figures():
    folder = os.environ.get("CELLWEAVE_DATA")
    if not folder:
        pytest.skip("CELLWEAVE_DATA is not set: it names the folder of real data sets")
    for needed in ("cellweave_rna", "cellweave_protein"):
        pytest.importorskip(needed, reason=f"preparing the real data needs {needed}")
    import mudata

    from cellweave.verbs.link import link
    from cellweave.verbs.prepare import prepare

    raw = mudata.read_h5mu(Path(folder) / "cite_pbmc10k_10x" / "cite_pbmc10k_10x.h5mu")
    names = (Path(folder) / "draws" / "cite2500.txt").read_text().split()
    rna, prot = raw["rna"][names].copy(), raw["adt"][names].copy()
    kinds = rna.obs["cell_type"].to_numpy(str)
    # The two sides get other names and another order: nothing of the pairing is left.
    order = np.random.default_rng(0).permutation(len(names))
    prot = prot[order].copy()
    rna.obs_names = [f"r{i}" for i in range(len(names))]
    prot.obs_names = [f"p{i}" for i in range(len(names))]
    ready = prepare(mudata.MuData({"rna": rna, "prot": prot}), seed=0)
    result = MaxFuse().fit(ready, link(ready)).result()
    left, right = result.embeddings["rna"], np.empty_like(result.embeddings["prot"])
    right[order] = result.embeddings["prot"]
    away = -(left @ right.T)
    own = np.diag(away)
    foscttm = ((away < own[:, None]).mean() + (away < own[None, :]).mean()) / 2
    assert foscttm < 0.09
    assert (kinds[away.argmin(0)] == kinds).mean() > 0.97
