"""The command `activity` against the function, and what it refuses."""

import anndata
import pytest

import cellweave
from cellweave.cli import main
from cellweave_atac import gene_activity


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("activity")
    data = cellweave.datasets.simulate(n_cells=60, modalities=("rna", "atac"), seed=0)
    for name in ("rna", "atac"):
        cellweave.write(data[name], folder / f"{name}.h5ad")
    cellweave.write(data, folder / "both.h5mu")
    places = data["rna"].var.rename_axis("symbol").reset_index()
    places = places.rename(columns={"chromStart": "start", "chromEnd": "end"})
    places["start"] += 1  # tables count from one
    places[["symbol", "chrom", "start", "end", "strand"]].to_csv(folder / "genes.csv", index=False)
    places[["chrom", "start", "end", "strand"]].to_csv(folder / "nameless.csv", index=False)
    return folder


@pytest.mark.parametrize("source", ["atac.h5ad", "both.h5mu"])
@pytest.mark.parametrize("way", ["--in-memory", "--out-of-core"])
def test_activity_is_written(folder, tmp_path, source, way):
    if way == "--out-of-core":
        pytest.importorskip("dask", reason="the extra 'out-of-core'")
    arguments = [folder / source, "--gtf", folder / "genes.csv", "-o", tmp_path / "a.h5ad", way]
    assert main(["activity", *map(str, arguments), "--window", "20000"]) == 0
    found = anndata.read_h5ad(tmp_path / "a.h5ad")
    peaks = anndata.read_h5ad(folder / "atac.h5ad")
    expected = gene_activity(peaks, folder / "genes.csv", window=20_000)
    assert list(found.var_names) == list(expected.var_names)
    assert list(found.obs_names) == list(peaks.obs_names)
    assert abs(found.X - expected.X).max() < 1e-6


@pytest.mark.parametrize(
    ("source", "arguments", "text"),
    [
        ("atac.h5ad", ["--gtf", "genes.csv", "--anchor", "middle"], "anchor='middle'"),
        ("atac.h5ad", ["--gtf", "genes.csv", "--window", "-5"], "reach=-5"),
        ("atac.h5ad", ["--gtf", "nameless.csv"], "names none of its"),
        ("atac.h5ad", ["--gtf", "rna.h5ad"], "rna.h5ad"),
        ("atac.h5ad", ["--gtf", "absent.gtf"], "absent.gtf"),
        ("rna.h5ad", ["--gtf", "genes.csv"], "no 'atac'"),
        ("both.h5mu", ["--gtf", "genes.csv", "--modality", "prot"], "no 'prot'"),
    ],
)
def test_wrong_input_is_refused(folder, tmp_path, monkeypatch, capsys, source, arguments, text):
    monkeypatch.chdir(folder)
    assert main(["activity", source, "-o", str(tmp_path / "a.h5ad"), *arguments]) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "a.h5ad").exists()
