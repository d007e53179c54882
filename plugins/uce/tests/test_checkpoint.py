"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import contextlib
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.errors import CellweaveError, ConfigError, StateMismatchError, UnreadableFileError
from cellweave_nn.testing.hostile import hostile_pickles, hostile_tables
from cellweave_nn.testing.published import PublishedFilesSuite
from cellweave_uce import UceModel
from cellweave_uce.checkpoint import _all_tokens

from .conftest import HUMAN, N_ROWS, OFFSETS, VECTOR, cells, loaded, publish, random_state

TINY = {"encoder.0.weight": torch.zeros(4, 4)}
PICKLES = list(hostile_pickles(TINY, ""))
TABLES = list(hostile_tables(OFFSETS, ""))
WEIGHTS = "4layer_model.torch"
HUMAN_FILE = "protein_embeddings/Homo_sapiens.GRCh38.gene_symbol_to_embedding_ESM2.pt"


def test_every_key_is_told(folder):
    model = UceModel.load(folder)
    report = model.key_report
    assert report.ignored == {}
    assert report.new == ()
    assert set(report.used) == set(random_state())
    assert model.config.n_ids == 4 + 30 + 3  # rows of one species are kept
    assert "rows of human" in model.facts["container"]


@pytest.mark.parametrize("container", ["ddp", "trainer", "old", "safetensors", "file", "list"])
def test_other_containers(container, folder):
    expected = loaded(folder).embed(cells(3)).values
    state, path = random_state(), folder
    if container == "ddp":
        torch.save({f"module.{k}": v for k, v in state.items()}, folder / WEIGHTS)
    if container == "trainer":
        torch.save({"state_dict": state, "epoch": 3}, folder / WEIGHTS)
    if container == "old":
        torch.save(state, folder / WEIGHTS, _use_new_zipfile_serialization=False)
    if container == "safetensors":
        (folder / WEIGHTS).unlink()
        save_file(state, folder / "model.safetensors")
    if container == "file":
        path = folder / WEIGHTS
    if container == "list":
        (folder / HUMAN_FILE).unlink()
        (folder / "human_genes.txt").write_text("\n".join(HUMAN))
    model = cellweave.load(path)
    model.tokenizer.n_draws = 60
    assert np.array_equal(model.embed(cells(3)).values, expected)


@pytest.mark.parametrize("name", TABLES)
def test_hostile_offsets(name, folder, tmp_path):
    canary = tmp_path / "canary"
    data = hostile_tables(OFFSETS, canary)[name]
    (folder / "species_offsets.pkl").write_bytes(data)
    with pytest.raises(CellweaveError) as caught:
        UceModel.load(folder)
    assert str(folder) in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_vectors_of_genes(name, folder, tmp_path):
    canary = tmp_path / "canary"
    vectors = {g: torch.zeros(VECTOR) for g in HUMAN} | {"x": torch.ones(2, 2)}
    (folder / HUMAN_FILE).write_bytes(hostile_pickles(vectors, canary)[name])
    # Of this file only the names are used, so odd values do no harm.
    harmless = ("NaN", "shapes", "lacks", "too many", "vast", "..")
    told = (
        contextlib.nullcontext()
        if any(h in name for h in harmless)
        else pytest.raises(CellweaveError, match=re.escape(str(folder)))
    )
    with told:
        UceModel.load(folder)
    assert not canary.exists()


CHROMOSOMES = {
    "empty": ("", "it is empty"),
    "of other columns": ("a,b\n1,2\n", "no table of species, gene_symbol"),
    "with text for starts": ("species,gene_symbol,chromosome,start\nhuman,G,1,x\n", "no table of"),
    "of other genes": ("species,gene_symbol,chromosome,start\nhuman,G,1,5\n", "No gene of 'human'"),
    "cut": ("species,gene_symbol,chromosome,start\nhuman,GENE1\n", "no table of"),
}


@pytest.mark.parametrize("name", CHROMOSOMES)
def test_chromosomes_that_do_not_fit(name, folder):
    text, said = CHROMOSOMES[name]
    (folder / "species_chrom.csv").write_text(text)
    with pytest.raises(CellweaveError, match=re.escape(said)):
        UceModel.load(folder)


def test_rows_beyond_the_table_are_refused(folder):
    (folder / "species_offsets.json").write_text('{"human": 40}')
    (folder / "species_offsets.pkl").unlink()
    with pytest.raises(CellweaveError, match=f"of a table of {N_ROWS}"):
        UceModel.load(folder)


@pytest.mark.parametrize(
    ("companions", "said"),
    [
        ({"species": "yeast"}, "species='yeast' is unknown"),
        ({"heads": "7"}, "does not divide by 7 heads"),
        ({"heads": "x"}, "no number of attention heads"),
        ({"places": "learned"}, "places='learned'"),
    ],
)
def test_companions_that_do_not_fit(companions, said, folder):
    with pytest.raises((ConfigError, StateMismatchError), match=re.escape(said)):
        UceModel.load(folder, **companions)


def test_two_models_in_a_folder_are_told(folder):
    torch.save(random_state(1), folder / "33l_8ep_1024t_1280.torch")
    with pytest.raises(ConfigError, match="33l_8ep_1024t_1280"):
        UceModel.load(folder)


def test_tables_of_tokens_that_do_not_fit(folder, tmp_path):
    for content in ({"a": torch.zeros(2, 2)}, torch.full((3, 3), float("nan")), torch.zeros(3)):
        torch.save(content, tmp_path / "all_tokens.torch")
        with pytest.raises(UnreadableFileError):
            UceModel.load(folder, tokens=tmp_path / "all_tokens.torch")
    torch.save(torch.zeros(N_ROWS, 5), tmp_path / "all_tokens.torch")
    with pytest.raises(StateMismatchError, match="have 5 numbers"):
        UceModel.load(folder, tokens=tmp_path / "all_tokens.torch")


def test_vectors_of_chromosomes_are_drawn_as_upstream(tmp_path):
    torch.save(torch.zeros(143_574, 2), tmp_path / "all_tokens.torch")
    found = _all_tokens(tmp_path / "all_tokens.torch")
    with torch.random.fork_rng():
        torch.manual_seed(23)
        expected = torch.normal(mean=0, std=1, size=(1895, 2))
    assert found.shape == (145_469, 2)
    assert torch.equal(found[143_574:], expected)


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = UceModel
    weights = WEIGHTS
    missing = (
        ("species_chrom.csv", r"species_chrom\.csv"),
        ("species_offsets.pkl", r"species_offsets\.pkl"),
        ("4layer_model.torch", r"4layer_model\.torch"),
        ("Homo_sapiens*", "Homo_sapiens"),
    )
    tensor = "blocks.0.attention.qkv.weight"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
