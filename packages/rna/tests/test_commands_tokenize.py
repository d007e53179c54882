"""Every tokenizer of this package from the command line, and what it says of bad arguments."""

from __future__ import annotations

import json

import pytest

from cellweave.cli import main
from cellweave.datasets import simulate
from cellweave.records import Tokens
from cellweave_rna._plugin import cellweave_tokenizers

NAMES = [spec.name for spec in cellweave_tokenizers()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("cells")
    cells = simulate(n_cells=40, modalities=("rna",), n_genes=400, n_types=2)["rna"]
    cells.write_h5ad(place / "cells.h5ad")
    sets = [f"SET{i}\tabout\t" + "\t".join(cells.var_names[i * 9 : i * 9 + 9]) for i in range(4)]
    (place / "sets.gmt").write_text("\n".join(sets) + "\n")
    return place


@pytest.mark.parametrize("name", NAMES)
def test_every_tokenizer_works_from_the_command_line(name, folder, tmp_path, capsys):
    out = tmp_path / "tokens.npz"
    arguments = ["tokenize", name, f"rna={folder / 'cells.h5ad'}", "-o", str(out), "--json"]
    if name == "rna.geneset":
        arguments += ["--set", f"gmt={folder / 'sets.gmt'}"]
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    tokens = Tokens.load(out)
    assert tokens.n_cells == told["cells"] == 40
    assert len(tokens.ids) == told["tokens"]
    assert tokens.lengths.min() > 0


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("rna.rnak", [], "Did you mean 'rna.rank'?"),
        ("rna.rank", ["max_lenght=9"], "Did you mean 'max_length'?"),
        ("rna.rank", ["max_length=many"], "'max_length' is 'many'"),
        ("rna.rank", ["scaling=mode"], "'scaling' is 'mode'"),
        ("rna.rank", ["max_length=0"], "max_length=0 leaves no room"),
        ("rna.rank", ["group_key=lab"], "needs obs['lab'], which is not there"),
        ("rna.bins", ["n_bins=1"], "n_bins=1; expected 3 to"),
        ("rna.bins", ["layer=raw"], "There is no layer 'raw'"),
        ("rna.values", ["context=[tissue]"], "obs has no column 'tissue'"),
        ("rna.geneset", [], "expected the path of a GMT file"),
        ("rna.geneset", ["gmt=nowhere.gmt"], "nowhere.gmt"),
        ("rna.fixed", ["max_length=10"], "a fixed list is never cut"),
        ("rna.chromosome", ["start_from=begin"], "needs var['begin']"),
        ("rna.cell", ["sample_key=donor"], "obs has no column 'donor'"),
        ("rna.unique", ["pool=0"], "pool=0; expected at least 1"),
        ("rna.sentence", ["ties=first"], "'ties' is 'first'"),
        ("rna.rank", ["max_length"], "is not a setting. Write --set key=value"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_what_helps(
    name, settings, text, folder, tmp_path, capsys
):
    out = tmp_path / "tokens.npz"
    arguments = ["tokenize", name, f"rna={folder / 'cells.h5ad'}", "-o", str(out)]
    for setting in settings:
        arguments += ["--set", setting]
    assert main(arguments) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert text in said
    assert not out.exists()
