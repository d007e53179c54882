"""The report: one file, escaped, whole without parts, the same bytes again."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData

from cellweave.errors import ConfigError, DataError
from cellweave.evaluation import ComparedRun, compare_table, evaluate
from cellweave.joins import without_pulling
from cellweave.records import (
    Agreement,
    FeatureLinks,
    IntegrationResult,
    Matches,
    Provenance,
    Score,
    Scores,
)
from cellweave.reporting import (
    Facts,
    Page,
    Section,
    Table,
    integration_page,
    save_figures,
    write_comparison_report,
    write_page,
    write_report,
)
from cellweave.reporting.page import render_page
from cellweave.storage import verify

EVIL = "<script>alert('x')</script>"
N = 60


class Reader(HTMLParser):
    """Collect tags and every address a page would ask for."""

    def __init__(self):
        super().__init__()
        self.tags, self.addresses, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset", "action")]
        assert not any(k.startswith("on") for k, _ in attrs)

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text())
    return reader


def make(label=EVIL):
    rng = np.random.default_rng(0)
    types = np.array([label, "B", "NK"], dtype=object)[np.arange(N) % 3]
    base = 6 * np.eye(3, 4)[np.arange(N) % 3] + rng.normal(size=(N, 4))
    mods = {}
    for name, p in (("rna", 4), ("atac", 6)):
        adata = AnnData(np.ones((N, p), dtype=np.float32))
        adata.obs_names = [f"c{i}" for i in range(N)]
        places = np.arange(p) * 10_000
        adata.var_names = (
            [f"G{i}" for i in range(p)]
            if name == "rna"
            else [f"chr1:{s}-{s + 500}" for s in places]
        )
        adata.var["chrom"], adata.var["chromStart"] = "chr1", places
        adata.var["chromEnd"], adata.var["strand"] = places + 500, "+"
        adata.obs["cell_type"], adata.obs["batch"] = types, ["b1", EVIL] * (N // 2)
        adata.obsm["X_glue"] = (base + 0.1 * rng.normal(size=base.shape)).astype(np.float32)
        mods[name] = adata
    with without_pulling():
        mdata = MuData(mods)
    result = IntegrationResult(
        embeddings={m: a.obsm["X_glue"] for m, a in mods.items()},
        obs_names={m: np.asarray(a.obs_names, dtype=str) for m, a in mods.items()},
        provenance=Provenance(
            component="glue",
            version="1",
            parameters={"note": EVIL},
            seed=0,
            versions={"numpy": "2"},
        ),
        matches=(
            Matches(source="rna", target="atac", rows=np.arange(N), cols=np.arange(N),
                    scores=np.linspace(0, 1, N)),
        ),
        history={EVIL: np.arange(5.0), "loss": np.arange(5.0)},
        quality={"consistency": 0.5},
        advice=(f"Look at {EVIL}",),
    )  # fmt: skip
    links = FeatureLinks(
        source="atac", target="rna", source_features=np.asarray(mods["atac"].var_names, dtype=str),
        target_features=np.asarray(mods["rna"].var_names, dtype=str),
        rows=np.array([0, 1, 2, 3]), cols=np.array([1, 1, 1, 2]),
        weights=np.array([0.9, 0.8, 0.7, 0.1]), signs=np.array([1, 1, -1, 1]),
        evidence=np.array(["distance"] * 4),
    )  # fmt: skip
    return mdata, result, [links]


@pytest.fixture(scope="module")
def parts():
    mdata, result, links = make()
    scores = evaluate(mdata, use_rep="X_glue", pairing="obs_names", batch_key="batch")
    return {"mdata": mdata, "result": result, "scores": scores, "links": links}


def test_one_file_escaped_and_the_same_again(parts, tmp_path):
    path = tmp_path / "report.html"
    write_report(path, title=f"A {EVIL}", **parts)
    assert verify(path) == []
    page = read(path)
    assert "script" not in page.tags
    assert EVIL.lower() not in path.read_text().lower()
    assert "&lt;script&gt;" in path.read_text()
    assert all(a.startswith("data:image/svg+xml;base64,") for a in page.addresses)
    assert not re.search(r"(src|href)=.?https?:|url\(|@import", path.read_text())
    first = path.read_bytes()
    write_report(path, title=f"A {EVIL}", **parts)
    assert path.read_bytes() == first


def test_says_first_whether_it_worked(parts):
    page = integration_page(**parts)
    assert page.verdict == "good"
    assert page.headline.startswith("It worked")
    assert page.tiles[0][0] == "Integration score"
    titles = [s.title for s in page.sections]
    assert titles[0] == "Do the cells meet"
    for wanted in ("How good is it", "Which types are taken for which", "Worst-matched types",
                   "What was optimised", "Top regulatory links", "What to try",
                   "Provenance and versions", "What was done to which data"):  # fmt: skip
        assert wanted in titles
    names = [f.name for f in page.figures()]
    assert {"umap-modality", "umap-type", "umap-batch", "umap-match-score"} <= set(names)
    assert "links-G1" in names  # the strongest gene, though the links were given region first
    assert len(names) == len(set(names))
    text = render_page(page).decode()
    assert text.index("It worked") < text.index("Do the cells meet")


def test_cells_to_doubt_are_shown_named_and_in_the_headline(parts):
    doubtful = np.arange(N) % 3 == 0
    one = Agreement(
        source="rna", target="atac", scores=np.where(doubtful, 0.3, 0.9).astype(np.float32),
        best=np.where(doubtful, 0.4, 0.95).astype(np.float32), doubtful=doubtful,
    )  # fmt: skip
    sound = replace(one, source="atac", target="rna", doubtful=np.zeros(N, dtype=bool))
    page = integration_page(**{**parts, "result": replace(parts["result"], agreement=(one, sound))})
    assert "Careful: 33 of 100 cells of rna lie beside cells of atac" in page.sentences[-1]
    assert "umap-agreement" in {f.name for f in page.figures()}
    (section,) = [s for s in page.sections if s.title == "Cells to doubt"]
    (row,) = section.blocks[0].rows
    assert row == ("rna", "atac", "20 (33%)", "0.30", "0.40", f"{EVIL} 100%")
    assert EVIL not in render_page(page).decode()
    calm = integration_page(**{**parts, "result": replace(parts["result"], agreement=(sound,))})
    assert "Cells to doubt" not in {s.title for s in calm.sections}


def test_a_poor_result_is_told_as_poor(parts):
    rng = np.random.default_rng(1)
    mdata = parts["mdata"].copy()
    for adata in mdata.mod.values():
        adata.obsm["X_glue"] = rng.normal(size=(N, 4)).astype(np.float32)
    scores = evaluate(mdata, use_rep="X_glue", pairing="obs_names")
    page = integration_page(mdata=mdata, scores=scores)
    assert page.verdict == "poor"
    assert 'class="verdict poor"' in render_page(page).decode()
    advice = next(s for s in page.sections if s.title == "What to try")
    assert any("cellweave compare" in text for _, text in advice.blocks[0].items)


def test_works_without_scores_links_labels_or_result(parts, tmp_path):
    mdata, result, _ = make()
    for adata in mdata.mod.values():
        del adata.obs["cell_type"], adata.obs["batch"]
    write_report(tmp_path / "bare.html", mdata=mdata, result=result)
    assert "Not judged" in (tmp_path / "bare.html").read_text()
    write_report(tmp_path / "rep.html", mdata=mdata, use_rep="X_glue", links=())
    with pytest.raises(DataError, match=r"obsm\['X_glu'\].*Did you mean 'X_glue'"):
        write_report(tmp_path / "no.html", mdata=mdata, use_rep="X_glu")
    with pytest.raises(DataError, match="not of these data: atac"):
        integration_page(mdata=MuData({"rna": mdata.mod["rna"]}), result=result)


def test_regulatory_table_is_drawn_too(parts):
    table = parts["links"][0].reversed().to_frame()
    table = table.assign(score=[0.1, 0.2, 0.3, 0.95], q_value=0.01)
    page = integration_page(**{**parts, "links": table})
    assert "links-G2" in [f.name for f in page.figures()]


def test_feature_embeddings_score_the_links(parts):
    rng = np.random.default_rng(0)
    features = {m: rng.normal(size=(a.n_vars, 4)) for m, a in parts["mdata"].mod.items()}
    features["rna"][2] = features["atac"][3]  # planted: the weakest prior link is the true one
    names = {m: np.asarray(a.var_names, dtype=str) for m, a in parts["mdata"].mod.items()}
    result = replace(parts["result"], feature_embeddings=features, feature_names=names)
    page = integration_page(**{**parts, "result": result})
    listing = next(s for s in page.sections if s.title == "Top regulatory links").blocks[-1]
    assert listing.rows[0][:3] == ("G2", "chr1:30000-30500", "1")


def test_save_figures(parts, tmp_path):
    names = save_figures(tmp_path / "figures", formats=("png", "svg"), **parts)
    assert verify(tmp_path / "figures") == []
    assert "umap-type.png" in names
    files = {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    assert files["umap-type.png"].startswith(b"\x89PNG")
    assert b"<script>" not in b"".join(v for k, v in files.items() if k.endswith("svg"))
    save_figures(tmp_path / "figures", formats=("png", "svg"), **parts)
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "figures").iterdir()}
    with pytest.raises(ConfigError, match="gif"):
        save_figures(tmp_path / "figures", formats=("gif",), **parts)


def test_other_reports_use_the_same_records(tmp_path):
    page = Page(
        title="Training",
        sections=(
            Section(
                title="Loss",
                lead=EVIL,
                folded=True,
                blocks=(
                    Table(header=("a", EVIL), rows=[("x", (EVIL, 0.5)), ("y", ("", None))]),
                    Facts(items=[("seed", EVIL)]),
                ),
            ),
        ),
    )
    write_page(tmp_path / "page.html", page)
    reader = read(tmp_path / "page.html")
    assert "script" not in reader.tags
    assert reader.text.count(EVIL) == 4


def test_comparison_report(tmp_path):
    scores = Scores(
        items=(Score(metric="foscttm", value=0.1, best=0.0, chance=0.5),),
        summary={"integration_score": 0.8, "verdict": "good"},
    )
    runs = [
        ComparedRun(method="glue", seed=0, scores=scores, seconds=1.0, peak_bytes=10**9),
        ComparedRun(method="odd", seed=0, scores=None, seconds=0, peak_bytes=0, failure=EVIL),
    ]
    table, text = compare_table(runs)
    comparison = SimpleNamespace(scores=table, recommendation=text, runs=runs)
    write_comparison_report(tmp_path / "compare.html", comparison=comparison)
    html = (tmp_path / "compare.html").read_text()
    assert "Take glue" in html
    assert "<script" not in html
    assert 'class="verdict good"' in html
