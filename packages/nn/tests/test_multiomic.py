"""Several modalities of one cell in one sequence: the contract, mosaic cells, frame, refusals."""

from __future__ import annotations

import random
import zlib
from typing import Any

import anndata
import numpy as np
import pytest
from mudata import MuData

from cellweave.datasets import simulate
from cellweave.errors import (
    ConfigError,
    DataError,
    NotFittedError,
    StateMismatchError,
    UnknownComponentError,
)
from cellweave.joins import without_pulling
from cellweave.records import ComponentState, Tokens
from cellweave.testing import TokenizerSuite
from cellweave.tokenizing import MultiOmicTokenizer
from cellweave_nn.joined_tokenizer import JoinedTokenizer

PARTS = {"rna": "nn.nonzero", "prot": "nn.nonzero"}
JOINED = {m: {"name": name} for m, name in PARTS.items()}


def in_two(adata: anndata.AnnData) -> MuData:
    """Split features by a hash of their names, which other features do not move."""
    first = np.array([zlib.crc32(str(n).encode()) % 2 == 0 for n in adata.var_names])
    parts = {"rna": adata[:, first].copy(), "prot": adata[:, ~first].copy()}
    before = random.getstate()  # building a MuData draws from it
    with without_pulling():
        made = MuData(parts)
    random.setstate(before)
    return made


class Halves:
    """A tokenizer of one matrix that hands its two halves to one of several modalities."""

    modality = "rna"
    inner: type[Any]
    parts: dict[str, Any]

    def __init__(self, **arguments: Any) -> None:
        self.made = self.inner(parts=self.parts, **arguments)

    @property
    def vocabulary(self) -> Any:
        return self.made.vocabulary

    def fit(self, adata: anndata.AnnData) -> Any:
        self.made.fit(in_two(adata))
        return self

    def encode(self, adata: anndata.AnnData) -> Tokens:
        return self.made.encode(in_two(adata))

    def state(self) -> Any:
        return self.made.state()

    @classmethod
    def from_state(cls, state: Any) -> Any:
        rebuilt = cls()
        rebuilt.made = cls.inner.from_state(state)
        return rebuilt


class MultiOmicHalves(Halves):
    inner, parts = MultiOmicTokenizer, PARTS


class JoinedHalves(Halves):
    inner, parts = JoinedTokenizer, JOINED


class TestMultiOmicContract(TokenizerSuite):
    def create(self, **arguments: Any) -> Halves:
        return MultiOmicHalves(**arguments)


class TestFramedContract(TokenizerSuite):
    def create(self, **arguments: Any) -> Halves:
        return MultiOmicHalves(start=True, end=True, modality_tokens=False, **arguments)


class TestJoinedContract(TokenizerSuite):
    def create(self, **arguments: Any) -> Halves:
        return JoinedHalves(**arguments)


@pytest.fixture(scope="module")
def mosaic():
    """40 cells; the first 10 lack proteins, the last 10 lack genes, in a mixed order."""
    whole = simulate(n_cells=40, modalities=("rna", "prot"), n_genes=50, n_proteins=8, n_types=2)
    rng = np.random.default_rng(0)
    parts = {
        "rna": whole["rna"][rng.permutation(30)].copy(),
        "prot": whole["prot"][10 + rng.permutation(30)].copy(),
    }
    with without_pulling():
        made = MuData(parts)
    made.obs["tissue"] = np.where(np.arange(made.n_obs) % 2, "liver", "lung")
    return made


def sequences(tokens, vocabulary):
    names = np.array(vocabulary.names)
    return {
        str(cell): names[tokens.ids[a:b]].tolist()
        for cell, a, b in zip(tokens.obs_names, tokens.offsets, tokens.offsets[1:])
    }


def test_mosaic_cells_hold_what_was_measured_of_them(mosaic):
    tokenizer = MultiOmicTokenizer(parts=PARTS).fit(mosaic)
    tokens = tokenizer.encode(mosaic)
    assert tokens.obs_names.tolist() == mosaic.obs_names.tolist()
    found = sequences(tokens, tokenizer.vocabulary)
    for cell in mosaic.obs_names:
        expected = []
        for modality in PARTS:
            data = mosaic.mod[modality]
            if cell not in data.obs_names:
                continue
            counts = data[cell].X.toarray().ravel()
            own = [n for n, c in zip(data.var_names, counts) if c > 0]
            expected += [f"<modality:{modality}>", *(f"{modality}:{n}" for n in own)]
        order = {name: i for i, name in enumerate(expected)}
        assert sorted(found[cell], key=order.__getitem__) == expected
        assert set(found[cell]) == set(expected)
    assert tokens.context["has:rna"].sum() == tokens.context["has:prot"].sum() == 30
    assert (~tokens.context["has:rna"] & ~tokens.context["has:prot"]).sum() == 0
    code = {m: i for i, m in enumerate(tokens.modalities)}
    names = np.array(tokenizer.vocabulary.names)[tokens.ids]
    is_rna = np.char.startswith(names, "rna:") | (names == "<modality:rna>")
    assert np.array_equal(is_rna, tokens.modality == code["rna"])


def test_modalities_stand_in_the_order_of_the_parts(mosaic):
    for order in (("rna", "prot"), ("prot", "rna")):
        tokenizer = MultiOmicTokenizer(parts={m: PARTS[m] for m in order}).fit(mosaic)
        tokens = tokenizer.encode(mosaic)
        assert tokens.modalities == order
        for a, b in zip(tokens.offsets, tokens.offsets[1:]):
            assert np.all(np.diff(tokens.modality[a:b].astype(int)) >= 0)


def test_values_and_positions_are_those_of_the_parts(mosaic):
    tokenizer = MultiOmicTokenizer(parts=PARTS).fit(mosaic)
    tokens = tokenizer.encode(mosaic)
    for modality, part in tokenizer.tokenizers.items():
        alone = part.encode(mosaic.mod[modality])
        code = tokens.modalities.index(modality)
        for i, cell in enumerate(alone.obs_names):
            row = int(np.flatnonzero(tokens.obs_names == cell)[0])
            mine = slice(tokens.offsets[row], tokens.offsets[row + 1])
            of_it = tokens.modality[mine] == code
            own = slice(alone.offsets[i], alone.offsets[i + 1])
            assert np.array_equal(tokens.values[mine][of_it][1:], alone.values[own])
            assert np.array_equal(
                tokens.positions[mine][of_it], np.arange(own.stop - own.start + 1)
            )


def test_frame_of_specials_and_context(mosaic):
    plain = MultiOmicTokenizer(parts=PARTS).fit(mosaic)
    framed = MultiOmicTokenizer(parts=PARTS, start=True, end=True, context=("tissue",)).fit(mosaic)
    new = mosaic.copy()
    new.obs["tissue"] = ["brain", None, *new.obs["tissue"].iloc[2:]]
    before = sequences(plain.encode(new), plain.vocabulary)
    tokens = framed.encode(new)
    found = sequences(tokens, framed.vocabulary)
    for cell, tissue in zip(new.obs_names, new.obs["tissue"]):
        seen = tissue if tissue in ("liver", "lung") else "<unknown>"
        assert found[cell] == ["<cls>", f"<tissue={seen}>", *before[cell], "<eos>"]
    assert tokens.modalities == ("rna", "prot", "frame")
    frame = tokens.modality == 2
    assert frame.sum() == 3 * new.n_obs
    assert not tokens.values[frame].any()
    # What a context adds to the vocabulary moves no other id.
    names = plain.vocabulary.names
    assert framed.vocabulary.names[: len(names)] == names


def test_a_modality_can_be_absent_from_all_cells(mosaic):
    tokenizer = MultiOmicTokenizer(parts=PARTS).fit(mosaic)
    with without_pulling():
        alone = MuData({"rna": mosaic.mod["rna"].copy()})
    tokens = tokenizer.encode(alone)
    whole = tokenizer.encode(mosaic)
    rows = [int(np.flatnonzero(whole.obs_names == c)[0]) for c in alone.obs_names]
    few = whole.take(rows)
    assert tokens.ids.tolist() == few.ids[few.modality == 0].tolist()
    assert not tokens.context["has:prot"].any()


def test_a_frame_survives_its_state(mosaic, tmp_path):
    tokenizer = MultiOmicTokenizer(
        parts=PARTS, settings={"rna": {"limit": 7}}, start=True, context=("tissue",)
    ).fit(mosaic)
    tokenizer.state().save(tmp_path / "state")
    back = MultiOmicTokenizer.from_state(ComponentState.load(tmp_path / "state"))
    assert back.encode(mosaic).ids.tolist() == tokenizer.encode(mosaic).ids.tolist()
    assert back.vocabulary.names == tokenizer.vocabulary.names


def test_refusals(mosaic):
    with pytest.raises(ConfigError, match=r"settings for \['atac'\]"):
        MultiOmicTokenizer(parts=PARTS, settings={"atac": {}})
    with pytest.raises(ConfigError, match="at least one tokenizer"):
        MultiOmicTokenizer(parts={})
    with pytest.raises(NotFittedError, match=r"'core.multiomic' is not fitted\. Call fit"):
        _ = MultiOmicTokenizer(parts=PARTS).vocabulary
    with pytest.raises(DataError, match=r"The data have no atac\. Modalities: "):
        MultiOmicTokenizer(parts={"atac": "nn.nonzero"}).fit(mosaic)
    with pytest.raises(ConfigError, match=r"obs has no column 'tisue'.*'tissue'"):
        MultiOmicTokenizer(parts=PARTS, context=("tisue",)).fit(mosaic)
    with pytest.raises(UnknownComponentError, match=r"Unknown tokenizer 'nn.nonzer'"):
        MultiOmicTokenizer(parts={"rna": "nn.nonzer"}).fit(mosaic)
    fitted = MultiOmicTokenizer(parts=PARTS).fit(mosaic)
    with without_pulling():
        strange = MuData({"atac": mosaic.mod["rna"].copy()})
    with pytest.raises(DataError, match=r"The data have none of prot, rna|none of rna, prot"):
        fitted.encode(strange)
    with pytest.raises(StateMismatchError, match=r"state of 'nn.joined'"):
        MultiOmicTokenizer.from_state(JoinedTokenizer(parts=JOINED).fit(mosaic).state())
    with pytest.raises(ConfigError, match=r"rna=\{'nam': 'x'\}.*Expected of each modality a name"):
        JoinedTokenizer(parts={"rna": {"nam": "x"}})
