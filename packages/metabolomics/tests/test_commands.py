"""The commands `annotate-ions` and `register-image`, and what they refuse."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import cellweave
from cellweave.cli import main
from cellweave_metabolomics import adduct_mass, exact_mass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ions")
    y, x = np.divmod(np.arange(12 * 10), 12)
    masses = [adduct_mass(exact_mass("C6H12O6"), "[M+Na]+") * (1 + 2e-6), 500.123]
    image = anndata.AnnData(sp.csr_matrix(np.column_stack([x + 1.0, y + 1.0]).astype("f4")))
    image.obs_names = [f"p{i}" for i in range(120)]
    image.var_names = [f"mz-{m:.6f}" for m in masses]
    image.obsm["spatial"] = np.column_stack([x, y]).astype(float)
    cellweave.write(image, folder / "image.h5ad")
    spots = anndata.AnnData(sp.csr_matrix(np.ones((6, 3), dtype="f4")))
    spots.obs_names, spots.var_names = [f"s{i}" for i in range(6)], ["ACTB", "CD3E", "CD8A"]
    spots.obsm["spatial"] = np.array([[i % 3 * 40.0 + 15, i // 3 * 40.0 + 15] for i in range(6)])
    cellweave.write(spots, folder / "spots.h5ad")
    pd.DataFrame({"name": ["glucose", "water"], "formula": ["C6H12O6", "H2O"]}).to_csv(
        folder / "compounds.csv", index=False
    )
    corners = np.array([[0, 0], [11, 0], [0, 9]], dtype=float)
    marks = pd.DataFrame(
        np.c_[corners, corners * 10], columns=["image_x", "image_y", "spot_x", "spot_y"]
    )
    marks.to_csv(folder / "marks.csv", index=False)
    marks.assign(spot_y="there").to_csv(folder / "words.csv", index=False)
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("suffix", ["tsv", "csv", "parquet"])
def test_ions_are_annotated(tmp_path, suffix):
    out = tmp_path / f"ions.{suffix}"
    assert main(["annotate-ions", "metab=image.h5ad", "compounds.csv", "-o", str(out)]) == 0
    if suffix == "parquet":
        table = pd.read_parquet(out)
    else:
        table = pd.read_csv(out, sep="\t" if suffix == "tsv" else ",")
    assert table["name"].tolist() == ["glucose"]
    assert table["adduct"].tolist() == ["[M+Na]+"]
    assert table["ppm_error"].to_numpy() == pytest.approx([2.0], abs=0.01)


def test_adducts_and_tolerance_are_the_callers(tmp_path):
    for more, n in ((["--adduct", "[M+H]+"], 0), (["--ppm", "1"], 0), (["--adduct", "[M+Na]+"], 1)):
        out = tmp_path / "ions.csv"
        given = ["annotate-ions", "metab=image.h5ad", "compounds.csv", "-o", str(out), *more]
        assert main(given) == 0
        assert len(pd.read_csv(out)) == n


def test_an_image_comes_onto_spots(tmp_path):
    out = tmp_path / "on.h5ad"
    given = ["register-image", "metab=image.h5ad", "spatial=spots.h5ad", "-o", str(out)]
    assert main([*given, "--spot-diameter", "20", "--landmarks", "marks.csv"]) == 0
    found = anndata.read_h5ad(out)
    assert list(found.obs_names) == [f"s{i}" for i in range(6)]
    # Intensities rise by one a pixel, ten units wide: the mean in a spot is that of its centre.
    centres = found.obsm["spatial"] / 10 + 1
    covered = found.obs["covered"].to_numpy() > 0.99
    assert covered.sum() >= 4
    assert np.allclose(found.X.toarray()[covered], centres[covered], atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["annotate-ions", "metab=image.h5ad", "compounds.csv", "-o", "o.txt"], "'o.txt'"),
        (["annotate-ions", "metab=image.h5ad", "marks.csv", "-o", "o.csv"], "'formula' or 'mass'"),
        (["annotate-ions", "metab=image.h5ad", "absent.csv", "-o", "o.csv"], "absent.csv"),
        (["annotate-ions", "spatial=spots.h5ad", "compounds.csv", "-o", "o.csv"], "no m/z"),
        (
            ["annotate-ions", "metab=image.h5ad", "compounds.csv", "-o", "o.csv", "--ppm", "-1"],
            "ppm=-1",
        ),
        (
            ["annotate-ions", "metab=image.h5ad", "compounds.csv", "-o", "o.csv", "--adduct", "Na"],
            "'Na' cannot be read",
        ),
        (
            [
                *("annotate-ions", "metab=image.h5ad", "compounds.csv", "-o", "o.csv"),
                *("--polarity", "neutral"),
            ],
            "'neutral'",
        ),
        (["--spot-diameter", "-2"], "spot_diameter=-2"),
        (["--spot-diameter", "2", "--shape", "star"], "shape='star'"),
        (["--spot-diameter", "2", "--aggregate", "most"], "aggregate='most'"),
        (["--spot-diameter", "2", "--landmarks", "compounds.csv"], "lacks the columns"),
        (["--spot-diameter", "2", "--landmarks", "words.csv"], "Row 2 of 'words.csv'"),
    ],
)
def test_wrong_input_is_refused(tmp_path, capsys, arguments, text):
    if arguments[0] != "annotate-ions":
        arguments = ["register-image", "metab=image.h5ad", "spatial=spots.h5ad", *arguments]
        arguments += ["-o", str(tmp_path / "o.h5ad")]
    assert main(arguments) == 2
    assert text in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
