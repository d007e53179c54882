"""The page about a preparation: every section where its data are, none where they are not."""

import json
import re

import numpy as np
import pytest

import cellweave
from cellweave.cli import main
from cellweave.reporting.page import picture_bytes
from cellweave.reporting.preparation import preparation_page
from cellweave.verbs.report import report_preparation

KINDS = ("rna", "atac", "prot", "spatial", "metab")
COMPONENTS = {name: "X_lsi" if name == "atac" else "X_pca" for name in KINDS}


@pytest.fixture(scope="module")
def both():
    for name in ("rna", "prot", "spatial", "metab"):
        package = {"prot": "protein", "metab": "metabolomics"}.get(name, name)
        pytest.importorskip(f"cellweave_{package}", reason="a modality package prepares the data")
    names = ("rna", "spatial", "metab")
    raw = cellweave.datasets.simulate(n_cells=80, modalities=names, batches=2, seed=0)
    raw["metab"].obsm["spatial"] = np.stack(np.divmod(np.arange(80), 10), axis=1).astype(float)
    return raw, cellweave.prepare(raw)


def page_of(raw, ready):
    from cellweave.verbs.prepare import modality_of

    quality = {name: modality_of(name).quality(raw[name]) for name in ready.mod}
    return preparation_page(prepared=ready, quality=quality, representations=COMPONENTS)


def test_each_kind_of_data_has_its_pictures(both):
    page = page_of(*both)
    names = [figure.name for figure in page.figures()]
    for what in ("quality-n_counts", "umap-cell_type", "umap-batch", "umap-depth"):
        assert f"rna-{what}" in names
    assert [n for n in names if n.startswith("spatial-places")]
    assert len([n for n in names if n.startswith("metab-ion-")]) == 4
    assert not [n for n in names if n.startswith("rna-places")]
    for figure in page.figures():
        assert picture_bytes(figure.canvas, "png")[:4] == b"\x89PNG"


def test_steps_and_versions_are_told(both):
    table = page_of(*both).sections[0].blocks[0]
    assert [row[0] for row in table.rows][:2] == ["filter", "normalize_total"]
    assert "target_sum 10,000" in table.rows[1][1]
    assert re.search(r"Seed 0; .*scanpy \d", table.note)


def test_text_from_data_is_escaped_and_nothing_is_judged(both, tmp_path):
    raw, ready = both[0].copy(), both[1].copy()
    ready["rna"].obs["cell_type"] = ["<script>alert(1)</script>"] * 40 + ["b"] * 40
    one = report_preparation(tmp_path / "a.html", raw=raw, prepared=ready).read_bytes()
    two = report_preparation(tmp_path / "b.html", raw=raw, prepared=ready).read_bytes()
    assert one == two
    assert b"<script" not in one
    assert b'class="badge"' not in one


def test_the_command_writes_it(both, tmp_path, capsys):
    raw = cellweave.datasets.simulate(n_cells=60, modalities=("rna",), seed=0)
    cellweave.write(raw, tmp_path / "raw.h5mu")
    given = [str(tmp_path / "raw.h5mu"), "-o", str(tmp_path / "out.h5mu"), "--json"]
    code = main(["prepare", *given, "--report", str(tmp_path / "r.html"), "-q"])
    assert code == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("<img") >= 4


def test_a_modality_by_another_name_is_told_how_to_be_renamed(tmp_path, capsys):
    for package in ("cellweave_rna", "cellweave_protein"):
        pytest.importorskip(package, reason="the core prepares nothing by itself")
    raw = cellweave.datasets.simulate(n_cells=60, modalities=("rna", "prot"), seed=0)
    raw.mod["adt"] = raw.mod.pop("prot")
    raw.update()
    cellweave.write(raw, tmp_path / "raw.h5mu")
    assert main(["prepare", str(tmp_path / "raw.h5mu"), "-o", str(tmp_path / "o.h5mu"), "-q"]) == 2
    assert "prot=adt on the command line" in capsys.readouterr().err
    given = [str(tmp_path / "raw.h5mu"), "prot=adt", "-o", str(tmp_path / "o.h5mu"), "-q"]
    assert main(["prepare", *given]) == 0
    assert list(cellweave.read(tmp_path / "o.h5mu").mod) == ["rna", "prot"]
