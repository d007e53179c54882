"""Saved projects are read strictly; what is damaged or hostile ends in one clear error."""

import re

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError, ConfigError, StateMismatchError, UnreadableFileError
from cellweave_nn.testing.published import PublishedFilesSuite
from cellweave_tosica import TosicaModel

from .conftest import N_GENES, WIDTH, cells, mask, publish, random_state, symbols

TINY = {"cls_token": torch.zeros(4, 4)}
WEIGHTS = "model-10.pth"


def test_every_key_is_told_and_the_last_epoch_is_taken(folder):
    model = TosicaModel.load(folder)
    report = model.key_report
    assert report.ignored == {}
    assert report.new == ()
    assert set(report.used) == set(random_state())
    assert torch.equal(model.network.cls, random_state()["cls_token"].flatten())
    earlier = TosicaModel.load(folder / "model-9.pth")
    assert torch.equal(earlier.network.cls, random_state(9)["cls_token"].flatten())


@pytest.mark.parametrize("container", ["ddp", "trainer", "old", "safetensors", "no_mask_file"])
def test_other_containers(container, folder):
    expected = TosicaModel.load(folder).embed(cells()).values
    state = random_state()
    if container == "ddp":
        torch.save({f"module.{k}": v for k, v in state.items()}, folder / WEIGHTS)
    if container == "trainer":
        torch.save({"state_dict": state, "epoch": 3}, folder / WEIGHTS)
    if container == "old":
        torch.save(state, folder / WEIGHTS, _use_new_zipfile_serialization=False)
    if container == "safetensors":
        for name in (WEIGHTS, "model-9.pth"):
            (folder / name).unlink()
        save_file(state, folder / "model.safetensors")
    if container == "no_mask_file":
        (folder / "mask.npy").unlink()
    assert np.array_equal(cellweave.load(folder).embed(cells()).values, expected)


@pytest.mark.parametrize("kind", ["text", "h5ad", "given"])
def test_genes_from_other_files(kind, folder, tmp_path):
    expected = TosicaModel.load(folder).embed(cells()).values
    (folder / "gene2token_weights.csv").unlink()
    companions = {}
    if kind == "h5ad":
        var = pd.DataFrame(index=symbols())
        anndata.AnnData(np.zeros((1, N_GENES)), var=var).write_h5ad(folder / "training.h5ad")
    else:
        place = (tmp_path if kind == "given" else folder) / "genes.txt"
        place.write_text("\n".join(symbols()))
        companions = {"genes": place} if kind == "given" else {}
    assert np.array_equal(TosicaModel.load(folder, **companions).embed(cells()).values, expected)


TABLES = {
    ("pathway.csv", "another project's"): (",0\n0,a\n1,b\n", "40 rows of width 8 for 2 names"),
    ("label_dictionary.csv", "too short"): (",Celltype\n0,a\n", "3 classes for 1 names"),
    ("label_dictionary.csv", "no table"): ("a\n", "no table of numbers and names"),
    ("pathway.csv", "empty"): ("", "it is empty"),
    ("pathway.csv", "of other columns"): (",0\n0,a,b\n", "(line 2)"),
    ("gene2token_weights.csv", "another project's"): ("0,a,b\n", "has 2 genes"),
    ("gene2token_weights.csv", "twice"): ("0," + "a," * 29 + "a\n", "'a' twice"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_do_not_fit(case, folder):
    text, said = TABLES[case]
    (folder / case[0]).write_text(text)
    with pytest.raises(CellweaveError, match=re.escape(said)):
        TosicaModel.load(folder)


def test_masks_that_do_not_fit(folder):
    np.save(folder / "mask.npy", 1 - mask())
    with pytest.raises(StateMismatchError, match="is not the mask in"):
        TosicaModel.load(folder)
    np.save(folder / "mask.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableFileError, match="no array"):
        TosicaModel.load(folder)
    (folder / "mask.npy").unlink()
    for change in (0.5, 0.0):
        state = random_state()
        state["feature_embed.fe.mask"][-WIDTH, 0] = change
        torch.save(state, folder / WEIGHTS)
        with pytest.raises(UnreadableFileError, match="no mask of zeros and ones"):
            TosicaModel.load(folder)


@pytest.mark.parametrize("heads", ["3", "0", "x", "-4"])
def test_heads_that_do_not_fit(heads, folder):
    with pytest.raises((ConfigError, StateMismatchError), match="heads"):
        TosicaModel.load(folder, heads=heads)


def test_heads_can_be_told(folder):
    one, four = (TosicaModel.load(folder, heads=n).embed(cells()).values for n in ("1", "4"))
    assert not np.allclose(one, four)


NEEDED = ["pathway.csv", "label_dictionary.csv", "gene2token_weights.csv"]


def test_nothing_else_is_taken_for_a_project(tmp_path):
    other = publish(tmp_path / "other", {"weight": torch.zeros(3, 3)})
    (other / "model-9.pth").unlink()
    assert not TosicaModel.recognises(other)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = TosicaModel
    known_by_name = False
    weights = WEIGHTS
    instead = ("model-9.pth",)
    missing = tuple((name, re.escape(name)) for name in NEEDED)
    tensor = "blocks.0.attention.qkv.weight"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
