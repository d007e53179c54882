"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import re

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError
from cellweave_nn.testing.published import PublishedFilesSuite
from cellweave_scbert import ScbertModel

from .conftest import N_GENES, cells, publish, random_state, symbols

TINY = {"token_emb.weight": torch.zeros(4, 4)}
WEIGHTS = "panglao_pretrain.pth"


def test_every_key_is_told(folder):
    report = ScbertModel.load(folder).key_report
    assert set(report.ignored) == {"performer.calls_since_last_redraw"}
    assert report.new == ()
    assert set(report.used) | set(report.ignored) == set(random_state())


@pytest.mark.parametrize("container", ["plain", "ddp", "old", "safetensors", "file", "best"])
def test_other_containers(container, folder):
    expected = ScbertModel.load(folder).embed(cells()).values
    state, path = random_state(), folder
    if container == "plain":
        torch.save(state, folder / WEIGHTS)
    if container == "ddp":
        wrapped = {"model_state_dict": {f"module.{k}": v for k, v in state.items()}}
        torch.save(wrapped, folder / WEIGHTS)
    if container == "old":
        torch.save(state, folder / WEIGHTS, _use_new_zipfile_serialization=False)
    if container == "safetensors":
        (folder / WEIGHTS).unlink()
        save_file(state, folder / "model.safetensors")
    if container == "file":
        path = folder / WEIGHTS
    if container == "best":
        (folder / WEIGHTS).rename(folder / "finetune_best.pth")
    assert np.array_equal(cellweave.load(path).embed(cells()).values, expected)


def test_genes_from_the_authors_file(folder, tmp_path):
    expected = ScbertModel.load(folder).embed(cells()).values
    (folder / "genes.txt").unlink()
    var = pd.DataFrame(index=symbols())
    anndata.AnnData(np.zeros((1, N_GENES), np.float32), var=var).write_h5ad(
        folder / "panglao_human.h5ad"
    )
    assert np.array_equal(ScbertModel.load(folder).embed(cells()).values, expected)
    elsewhere = tmp_path / "list.txt"
    elsewhere.write_text("\n".join(symbols()))
    (folder / "panglao_human.h5ad").unlink()
    found = ScbertModel.load(folder, genes=elsewhere).embed(cells()).values
    assert np.array_equal(found, expected)


LISTS = {
    "too short": ("\n".join(symbols(39)), "39 genes; the weights have 41 places"),
    "twice": ("\n".join([*symbols(39), "GENE0"]), "'GENE0' twice"),
    "empty": ("", "0 genes"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_genes_that_do_not_fit(name, folder):
    text, said = LISTS[name]
    (folder / "genes.txt").write_text(text)
    with pytest.raises(CellweaveError, match=re.escape(said)):
        ScbertModel.load(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("performer.net.layers.0.0.fn.to_q.weight", (25, 20)),
        ("performer.net.layers.0.0.fn.fast_attention.projection_matrix", (16,)),
        ("performer.net.layers.1.1.fn.fn.w1.weight", (79, 20)),
        ("token_emb.weight", (3, 20)),
    ],
)
def test_tensors_of_other_shapes(name, shape, tmp_path):
    state = random_state() | {name: torch.zeros(shape)}
    with pytest.raises(CellweaveError):
        ScbertModel.load(publish(tmp_path / "weights", state))


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = ScbertModel
    weights = WEIGHTS
    missing = (
        ("genes.txt", "order of genes"),
        (WEIGHTS, re.escape(WEIGHTS)),
    )
    tensor = "blocks.0.attention.query"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
