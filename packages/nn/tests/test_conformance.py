"""The contract's suites on what this package offers."""

from __future__ import annotations

from typing import ClassVar

import torch

from cellweave.testing import EncoderSuite, ModelSuite, ObjectiveSuite, TokenizerSuite
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.asymmetric import AsymmetricEncoder
from cellweave_nn.encoders.causal import causal_encoder
from cellweave_nn.encoders.linear_attention import favor_encoder, flow_encoder
from cellweave_nn.encoders.patch import PatchEncoder
from cellweave_nn.encoders.spatial import SpatialEncoder
from cellweave_nn.encoders.statespace import StateSpaceEncoder
from cellweave_nn.encoders.transformer import TransformerEncoder
from cellweave_nn.models.build import build_encoder
from cellweave_nn.models.cell_model import CellModel
from cellweave_nn.models.folder import FolderConfig
from cellweave_nn.objectives.denoising import Denoising
from cellweave_nn.objectives.generative_value import GenerativeValue
from cellweave_nn.objectives.heads import HeadShape
from cellweave_nn.objectives.masked_token import MaskedToken
from cellweave_nn.objectives.masked_value import MaskedValue
from cellweave_nn.outputs import EncoderOutput
from cellweave_nn.tokenizers import NonzeroTokenizer

SPECIAL = {"pad": 0, "mask": 1, "cls": 2}
SMALL = {"n_ids": 60, "width": 16, "depth": 2}


def token_batch(plain):
    """Turn a batch of the suites into ours."""
    return TokenBatch(
        offsets=plain.offsets,
        ids=plain.ids,
        values=plain.values,
        context=dict(plain.context),
        special=SPECIAL,
        n_ids=60,
    )


class _Encoder(EncoderSuite):
    def as_batch(self, plain):
        return token_batch(plain)


class TestTransformer(_Encoder):
    tags: ClassVar = {"bag"}

    def create(self):
        return TransformerEncoder(**SMALL, heads=2, values="continuous")


class TestWithCellRow(_Encoder):
    def create(self):
        return TransformerEncoder(
            **SMALL, heads=2, values="bins", places="learned", pooling="cls", norm_first=False
        )


class TestCausal(_Encoder):
    def create(self):
        return causal_encoder(**SMALL, heads=2)


class TestFavor(_Encoder):
    def create(self):
        return favor_encoder(**SMALL, heads=2)


class TestFlow(_Encoder):
    def create(self):
        return flow_encoder(**SMALL, heads=2)


class TestStateSpace(_Encoder):
    def create(self):
        return StateSpaceEncoder(**SMALL, state=8, head_width=8, chunk=4)


class TestAsymmetric(_Encoder):
    def create(self):
        return AsymmetricEncoder(
            **SMALL, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2, n_bins=5
        )


class TestPatch(_Encoder):
    def create(self):
        return PatchEncoder(**SMALL, heads=2, patch=8)


class TestSpatial(_Encoder):
    tags: ClassVar = {"stateful_batch", "partial_gradients"}

    def create(self):
        return SpatialEncoder(**SMALL, heads=2)


class _Objective(ObjectiveSuite):
    def as_batch(self, plain):
        return token_batch(plain)

    def outputs(self, batch, *, seed=0):
        plain = super().outputs(batch, seed=seed)
        shape = HeadShape(token_width=self.width, cell_width=self.width, n_ids=60)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            heads = self.create().heads(shape)
        return EncoderOutput(
            token_states=plain.token_states, cell_state=plain.cell_state, heads=heads
        )


class TestMaskedToken(_Objective):
    def create(self):
        return MaskedToken()


class TestMaskedValue(_Objective):
    def create(self):
        return MaskedValue()


class TestGenerative(_Objective):
    def create(self):
        return GenerativeValue()


class TestDenoising(_Objective):
    def create(self):
        return Denoising()


class TestNonzero(TokenizerSuite):
    def create(self):
        return NonzeroTokenizer()


class TestModel(ModelSuite):
    def create(self):
        tokenizer = NonzeroTokenizer().fit(self.data())
        parameters = {
            "n_ids": len(tokenizer.vocabulary), "width": 8, "depth": 1, "heads": 2,
            "values": "continuous",
        }  # fmt: skip
        config = FolderConfig(
            encoder={"name": "nn.transformer", "parameters": parameters},
            special=dict(tokenizer.vocabulary.special),
            version="0",
        )
        encoder = build_encoder("nn.transformer", parameters, seed=3)
        return CellModel(config=config, tokenizer=tokenizer, encoder=encoder)
