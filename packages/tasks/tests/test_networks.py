"""Networks: planted links, scores by scikit-learn, enrichment by scipy, models of known answers."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import average_precision_score

from cellweave.errors import ConfigError, DataError, MissingDependencyError, UnreadableFileError
from cellweave_tasks.gene_sets import enrichment, gene_sets_on, online_gene_sets
from cellweave_tasks.networks import NetworkTask

from .hand_made_model import hand_model, two_states

N_TARGETS = 24


def regulated(seed=0, n=300):
    """Regulators r0 … r3 drive six targets each; t6 … also leak into each other along a chain."""
    rng = np.random.default_rng(seed)
    drive = rng.normal(size=(n, 4))
    values = np.repeat(drive, N_TARGETS // 4, axis=1) + 0.8 * rng.normal(size=(n, N_TARGETS))
    adata = ad.AnnData(np.hstack([drive, values, rng.normal(size=(n, 6))]).astype(np.float32) + 5)
    adata.obs_names = [f"s{seed}c{i}" for i in range(n)]
    adata.var_names = names()
    world = np.random.default_rng(7)
    place = np.concatenate([np.eye(4), np.repeat(np.eye(4), 6, axis=0), np.zeros((6, 4))])
    adata.varm["PCs"] = place + 0.1 * world.normal(size=place.shape)
    adata.varm["noise"] = world.normal(size=place.shape)
    return adata


def names():
    return [
        *(f"r{i}" for i in range(4)),
        *(f"t{i}" for i in range(N_TARGETS)),
        *(f"x{i}" for i in range(6)),
    ]


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.csv"
    links = [(f"r{i // 6}", f"t{i}") for i in range(N_TARGETS)]
    pd.DataFrame([*links, ("r0", "unmeasured")], columns=["source", "target"]).to_csv(
        path, index=False
    )
    return str(path)


@pytest.mark.parametrize("method", ["embedding", "partial"])
def test_planted_links_are_found(network, method):
    task = NetworkTask(network=network, method=method).fit(regulated())
    scores = task.evaluate(regulated(seed=1))
    assert scores.value("auprc", method=task.name) > 0.95
    assert scores.value("auprc_ratio", method=task.name) == pytest.approx(4, abs=0.3)
    assert scores.value("early_precision_ratio", method=task.name) > 3.5
    assert scores.value("auroc", method="random") == pytest.approx(0.5, abs=0.2)
    assert scores.summary["n_true"] == N_TARGETS
    table = task.table()
    assert (table["source"].str[1:].astype(int) == table["target"].str[1:].astype(int) // 6)[
        :20
    ].all()
    assert (
        task.predict(regulated(seed=1)).names[0] == f"{table['source'][0]} -> {table['target'][0]}"
    )


def test_an_embedding_of_noise_is_chance_and_does_not_beat_coexpression(network):
    task = NetworkTask(network=network, use_rep="noise").fit(regulated())
    scores = task.evaluate(regulated(seed=1))
    assert scores.value("auprc_ratio", method="embedding of noise") < 2
    assert "does NOT beat the best baseline, coexpression" in scores.summary["headline"]
    assert scores.value("reproducibility", method="coexpression") > 0.4
    assert scores.value("reproducibility", method="random") == 0
    with pytest.raises(DataError, match=r"was not computed: does not depend on the cells"):
        scores.value("reproducibility", method="embedding of noise")


def test_scores_are_those_of_scikit_learn(network):
    task = NetworkTask(network=network).fit(regulated())
    truth, values = task.curves()["coexpression"]
    data = np.asarray(regulated().X, dtype=float)
    plain = np.abs(np.corrcoef(data[:, :28].T))[:4, 4:]
    order = [names()[4:28].index(t) for t in sorted(names()[4:28])]
    assert values == pytest.approx(plain[:, order].ravel(), abs=1e-6)
    found = task.evaluate(regulated(seed=1)).value("auprc", method="coexpression")
    assert found == pytest.approx(average_precision_score(truth, values), abs=1e-12)


def test_direct_links_are_told_from_indirect_ones(tmp_path):
    rng = np.random.default_rng(0)
    chain = np.cumsum(rng.normal(size=(800, 12)), axis=1)  # each gene passes on to the next
    cells = ad.AnnData(chain.astype(np.float32))
    cells.var_names = [f"g{i:02d}" for i in range(12)]
    path = tmp_path / "chain.tsv"
    links = [(f"g{i:02d}", f"g{i + 1:02d}") for i in range(11)]
    pd.DataFrame(links, columns=["source", "target"]).to_csv(path, sep="\t", index=False)
    task = NetworkTask(network=str(path), method="partial", directed=False).fit(cells[:400])
    scores = task.evaluate(cells[400:])
    assert scores.summary["n_pairs"] == 66
    assert scores.value("auprc", method="partial") > 0.95
    assert scores.value("auprc", method="partial") > scores.value("auprc", method="coexpression")


def test_tables_of_links_are_scored_too(network, tmp_path):
    table = pd.read_csv(network)
    table["weight"] = np.where(table["source"] == "r0", 0.1, 1.0)
    table.to_csv(tmp_path / "links.tsv", sep="\t", index=False)
    task = NetworkTask(network=network, method="links", links=str(tmp_path / "links.tsv"))
    scores = task.fit(regulated()).evaluate(regulated(seed=1))
    assert scores.value("auprc", method=task.name) == 1


def test_models_are_read_by_attention_and_by_deletion(tmp_path):
    links = [("g0", f"g{i}") for i in range(10, 15)] + [("g1", "g30")]
    path = tmp_path / "n.csv"
    pd.DataFrame(links, columns=["source", "target"]).to_csv(path, index=False)
    cells, new = two_states(), two_states(seed=1)
    lost = NetworkTask(network=str(path), method="deletion", model=hand_model()).fit(cells)
    table = lost.table(new)
    assert set(map(tuple, table[["source", "target"]].to_numpy()[:5])) == set(links[:5])
    assert table["score"][4] > 0.5
    assert table["score"][5] == pytest.approx(0, abs=1e-9)
    assert lost.evaluate(new).value("reproducibility", method="deletion of hand") > 0.9
    seen = NetworkTask(network=str(path), method="attention", model=hand_model()).fit(cells)
    table = seen.table(new)
    of_g0 = table[table["source"] == "g0"]
    assert set(of_g0["target"][:5]) == {target for _, target in links[:5]}
    assert len(of_g0) == 6


def test_programmes_are_the_planted_ones_and_enriched():
    cells = regulated()
    task = NetworkTask(method="coexpression").fit(cells)
    sets = {f"set{i}": [f"t{j}" for j in range(6 * i, 6 * i + 6)] for i in range(4)}
    found = task.programmes(cells, n_neighbors=5, gene_sets=sets)
    assert len(found.genes) >= 4
    best = found.enriched.groupby("programme").first()
    assert set(sets) <= set(best["set"])
    assert (best.loc[best["set"].isin(sets), "q"].sort_values()[:4] < 0.01).all()
    scores = found.score(cells)
    members = found.genes["programme 1"]
    x = pd.DataFrame(np.asarray(cells.X, dtype=float), columns=names())
    z = (x - x.mean()) / x.std(ddof=0)
    assert scores["programme 1"].to_numpy() == pytest.approx(
        (z[members].mean(axis=1) - z.mean(axis=1)).to_numpy(), abs=1e-4
    )


def test_enrichment_is_fishers_exact_test():
    genes = np.array([f"g{i}" for i in range(50)])
    sets = gene_sets_on({"a": genes[:12], "b": genes[10:30], "tiny": genes[:2]}, genes)
    assert list(sets.names) == ["a", "b"]
    listed = [*genes[5:15], "foreign"]
    table = enrichment(listed, sets).set_index("set")
    for name, members in (("a", genes[:12]), ("b", genes[10:30])):
        k = len(set(members) & set(listed))
        square = [[k, len(members) - k], [10 - k, 50 - len(members) - 10 + k]]
        assert table.loc[name, "p"] == pytest.approx(fisher_exact(square, "greater").pvalue)
    assert (table["q"] >= table["p"]).all()
    with pytest.raises(DataError, match=r"None of 1 gene sets holds 5 to 500.*like 'zz'.*'g0'"):
        gene_sets_on({"z": ["zz"]}, genes)


def test_libraries_need_gseapy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gseapy", None)
    with pytest.raises(MissingDependencyError, match=r"cellweave-tasks\[genesets\]"):
        online_gene_sets("GO_Biological_Process_2023")


def test_enrichment_is_that_of_gseapy():
    """The library computes it on the same universe, without any net."""
    gseapy = pytest.importorskip("gseapy", reason="the extra genesets is not installed")
    rng = np.random.default_rng(3)
    genes = np.array([f"g{i}" for i in range(400)])
    named = {f"s{i}": rng.choice(genes, 8 + i, replace=False).tolist() for i in range(30)}
    listed = sorted({*rng.choice(genes, 40, replace=False), *named["s20"][:15]})
    ours = enrichment(listed, gene_sets_on(named, genes)).set_index("set")
    theirs = gseapy.enrich(
        gene_list=listed, gene_sets=named, background=genes.tolist(), outdir=None, no_plot=True
    ).results.set_index("Term")
    shared = theirs.index  # theirs leaves sets without overlap out
    assert len(shared) > 15
    assert ours.loc[shared, "p"].to_numpy() == pytest.approx(theirs["P-value"].to_numpy(), rel=1e-9)
    overlaps = theirs["Overlap"].str.split("/").str[0].astype(int)
    assert (ours.loc[shared, "overlap"] == overlaps).all()
    assert ours.index[0] == theirs["P-value"].idxmin() == "s20"


def test_a_library_that_cannot_be_fetched_is_told(monkeypatch):
    gseapy = pytest.importorskip("gseapy", reason="the extra genesets is not installed")

    def unreachable(**_):
        raise ConnectionError("no route")

    monkeypatch.setattr(gseapy, "get_library", unreachable)
    with pytest.raises(
        UnreadableFileError, match=r"no library 'GO_2023' of 'human': no route\. Look"
    ):
        online_gene_sets("GO_2023")


def test_what_cannot_be_done_is_refused(network, tmp_path):
    with pytest.raises(ConfigError, match=r"'atention'. Did you mean 'attention'"):
        NetworkTask(method="atention")
    with pytest.raises(ConfigError, match=r"method='deletion' needs a model"):
        NetworkTask(method="deletion")
    task = NetworkTask(network=network).fit(regulated())
    with pytest.raises(DataError, match=r"cells to be scored were seen in training"):
        task.evaluate(regulated())
    with pytest.raises(DataError, match=r"No known network was given"):
        NetworkTask().fit(regulated()).evaluate(regulated(seed=1))
    other = regulated()
    other.var_names = [f"ENS{i}" for i in range(other.n_vars)]
    with pytest.raises(DataError, match=r"No link of .*'r0' to 't0', joins two"):
        NetworkTask(network=network).fit(other)
    with pytest.raises(UnreadableFileError, match=r"is no table of links"):
        NetworkTask(network="x.xlsx").fit(regulated())
    bad = tmp_path / "bad.csv"
    bad.write_text("from,to\na,b\n")
    with pytest.raises(DataError, match=r"columns from, to. Expected `source` and `target`"):
        NetworkTask(network=str(bad)).fit(regulated())
