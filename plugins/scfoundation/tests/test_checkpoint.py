"""Published containers are read strictly; what is damaged or hostile ends in one clear error."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cellweave
from cellweave.cli.app import main
from cellweave.errors import ConfigError, LicenceNotice, StateMismatchError, UnreadableFileError
from cellweave_nn.testing.published import PublishedFilesSuite
from cellweave_scfoundation import ScfoundationModel

from .conftest import CONFIG, cells, parts, publish, random_state, symbols

TINY = {"token_emb.emb.weight": torch.zeros(4, 4)}
quiet = pytest.mark.filterwarnings("ignore::cellweave.errors.LicenceNotice")


def test_the_licence_is_said_before_loading(published, tmp_path, capsys):
    with pytest.warns(LicenceNotice, match="non-commercial research only"):
        model = ScfoundationModel.load(published)
    model.save(tmp_path / "saved")
    with pytest.warns(LicenceNotice, match="non-commercial research only"):
        cellweave.load(tmp_path / "saved")
    assert main(["models", "check", str(published)]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("note: scFoundation's published weights")
    for said in ("family: scfoundation", "licence: scFoundation Model License", "part: cell"):
        assert said in out
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["scfoundation"]
    assert "research only" in listed["weights licence"]
    # Said even where nothing could be read.
    published.write_bytes(b"")
    with pytest.warns(LicenceNotice), pytest.raises(UnreadableFileError):
        ScfoundationModel.load(published)


@quiet
@pytest.mark.parametrize("part", ["cell", "gene", "rde"])
def test_every_key_is_told(part, published):
    report = ScfoundationModel.load(published, part=part).key_report
    assert list(report.ignored) == ["decoder.performer.calls_since_last_redraw"]
    assert report.new == ()
    assert len(report.used) == len(random_state()) - 1


@quiet
@pytest.mark.parametrize("where", ["folder", "repository", "file"])
def test_places(where, published):
    path = {"folder": published.parent, "repository": published.parent.parent, "file": published}
    model = cellweave.load(path[where])
    assert isinstance(model, ScfoundationModel)
    assert "in 'cell' in 'state_dict' without 'model.'" in model.container


@quiet
@pytest.mark.parametrize("container", ["plain", "ddp", "converted", "lightning", "safetensors"])
def test_other_containers(container, published):
    expected = ScfoundationModel.load(published).embed(cells()).values
    state, path = random_state(), published
    published.unlink()
    settings = CONFIG["model_config"]["mae_autobin"] | CONFIG["dataset_config"]["rnaseq"]
    if container == "safetensors":
        path = published.with_name("cell.safetensors")
        save_file(state, path)
    else:
        content = {
            "plain": state,
            "ddp": {f"module.model.{k}": v for k, v in state.items()},
            "converted": {"config": settings, "model_state_dict": state},
            "lightning": {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3},
        }[container]
        torch.save(content, path)
    model = cellweave.load(path)
    assert model.config.part == ""
    assert model.config.heads == 4
    assert np.array_equal(model.embed(cells()).values, expected)
    assert model.enhance_depth(cells(2)).shape == (2, 50)


GENES = {
    "short": ("\n".join(symbols(40)), "lists 40 genes (40 different)"),
    "of another model": ("gene_name\tindex\nA\t0\n", "lists 1 genes"),
    "with a gene twice": ("\n".join([*symbols(49), "GENE0"]), "(49 different)"),
    "empty": ("", "it is empty"),
}


@quiet
@pytest.mark.parametrize("name", GENES)
def test_lists_that_do_not_fit(name, published):
    text, said = GENES[name]
    listed = published.parent.parent / "OS_scRNA_gene_index.19264.tsv"
    listed.write_text(text)
    with pytest.raises((UnreadableFileError, StateMismatchError), match=re.escape(said)):
        ScfoundationModel.load(published)


@quiet
def test_list_elsewhere_missing_or_no_text(published, tmp_path):
    listed = published.parent.parent / "OS_scRNA_gene_index.19264.tsv"
    listed.rename(tmp_path / "genes.tsv")
    with pytest.raises(UnreadableFileError, match=re.escape("OS_scRNA_gene_index.19264.tsv")):
        ScfoundationModel.load(published)
    assert ScfoundationModel.load(published, genes=tmp_path / "genes.tsv").config.n_genes == 50
    (tmp_path / "genes.tsv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UnreadableFileError, match="Give a text file"):
        ScfoundationModel.load(published, genes=tmp_path / "genes.tsv")


def changed(**settings):
    inner = CONFIG["model_config"]["mae_autobin"] | settings
    return CONFIG | {"model_config": {"mae_autobin": inner}}


@quiet
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed(bin_num=100), "bin_num=100, the weights have 10"),
        (changed(encoder={"hidden_dim": 64, "heads": 4}), "encoder hidden_dim=64"),
        (changed(encoder={"heads": 5}), "encoder heads=5"),
        (changed(encoder={"heads": 0}), "encoder heads=0"),
        (changed(decoder={"depth": 6}), "decoder depth=6, the weights have 2"),
        (changed(bin_alpha="x"), "bin_alpha='x'"),
        (CONFIG | {"dataset_config": {"rnaseq": {"seq_len": 19266}}}, "seq_len=19266"),
    ],
)
def test_settings_that_do_not_fit(config, said, published):
    content = parts()
    for part in content.values():
        part["config"] = config
    torch.save(content, published)
    with pytest.raises(StateMismatchError, match=re.escape(said)):
        ScfoundationModel.load(published)


@quiet
def test_a_file_without_the_part(published):
    content = parts()
    del content["cell"]
    torch.save(content, published)
    with pytest.raises(ConfigError, match="holds the models gene, rde"):
        ScfoundationModel.load(published)
    torch.save({"gene": content["gene"]}, published)
    with pytest.raises(UnreadableFileError, match="no part 'rde'"):
        ScfoundationModel.load(published, part="rde")


class TestPublishedFiles(PublishedFilesSuite):
    """The checks that all families share."""

    model = ScfoundationModel
    weights = "models.ckpt"
    missing = (("OS_scRNA_gene_index.19264.tsv", r"OS_scRNA_gene_index\.19264\.tsv"),)
    tensor = "blocks.0.attention.qkv.weight"

    def publish(self, place):
        return publish(place)

    def state(self):
        return random_state()

    def cells(self):
        return cells()
