"""A tokenizer for each modality, and one sequence a cell of what they give.

Cells stand in the order of the data, those that lack a modality included (mosaic data). A frame
may stand around the whole: ``<cls>``, then tokens of columns of ``obs`` (species, assay, tissue,
condition …), and ``<eos>`` last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from cellweave.errors import (
    ConfigError,
    DataError,
    NotFittedError,
    StateMismatchError,
    closest,
    one_of,
)
from cellweave.records import ComponentState, Provenance, Tokens, Vocabulary
from cellweave.tokenizing.combining import combine_tokens, joined_vocabulary, with_frame
from cellweave.tokenizing.table import UNKNOWN, context_name

if TYPE_CHECKING:
    from mudata import MuData

    from cellweave.contracts import Tokenizer

__all__ = ["MultiOmicTokenizer"]


class MultiOmicTokenizer:
    """Tokenize each modality with a tokenizer of its own and join the sequences.

    Parameters
    ----------
    parts
        Modality to the registry name of its tokenizer.
    settings
        Modality to that tokenizer's arguments.
    modality_tokens
        Open each modality's stretch with its own token.
    start, end
        Put ``<cls>`` first, ``<eos>`` last.
    context
        Columns of the MuData's ``obs`` whose values become tokens, in this order, before the
        modalities; values that ``fit`` never saw share one token.
    """

    component: ClassVar[str] = "core.multiomic"
    modality: ClassVar[str] = "*"

    def __init__(
        self,
        *,
        parts: dict[str, str],
        settings: dict[str, dict[str, Any]] | None = None,
        modality_tokens: bool = True,
        start: bool = False,
        end: bool = False,
        context: tuple[str, ...] = (),
    ) -> None:
        unknown = sorted(set(settings or {}) - set(parts))
        if unknown or not parts:
            msg = (
                f"{self.component!r} got settings for {unknown!r} and tokenizers for "
                f"{one_of(parts)}. Give at least one tokenizer, and settings only for those."
            )
            raise ConfigError(msg)
        self.parts = dict(parts)
        self.settings = {k: dict(v) for k, v in (settings or {}).items()}
        self.modality_tokens = modality_tokens
        self.start, self.end, self.context = start, end, tuple(context)
        self._values: dict[str, list[str]] = {}
        self._made: dict[str, Tokenizer] = {}

    @property
    def tokenizers(self) -> Mapping[str, Tokenizer]:
        """Give the fitted tokenizers by modality."""
        if not self._made:
            msg = f"{self.component!r} is not fitted. Call fit(mdata) or load a state first."
            raise NotFittedError(msg)
        return self._made

    @property
    def vocabulary(self) -> Vocabulary:
        """Give the joined vocabulary."""
        vocabularies = {m: t.vocabulary for m, t in self.tokenizers.items()}
        return joined_vocabulary(vocabularies, context=self._values)[0]

    def fit(self, mdata: MuData) -> Self:
        """Fit each modality's tokenizer on its data."""
        from cellweave.verbs.components import create

        missing = [m for m in self.parts if m not in mdata.mod]
        if missing:
            msg = f"The data have no {one_of(missing)}. Modalities: {one_of(mdata.mod)}."
            raise DataError(msg)
        values = {key: [UNKNOWN, *sorted(set(self._column(mdata, key)))] for key in self.context}
        self._values = {key: list(dict.fromkeys(found)) for key, found in values.items()}
        self._made = {
            modality: create("tokenizer", name, **self.settings.get(modality, {})).fit(
                mdata.mod[modality]
            )
            for modality, name in self.parts.items()
        }
        return self

    def encode(self, mdata: MuData) -> Tokens:
        """Return one sequence a cell; modalities that ``mdata`` lacks are lacked by all cells."""
        present = {m: t for m, t in self.tokenizers.items() if m in mdata.mod}
        if not present:
            msg = f"The data have none of {one_of(self.parts)}. They have: {one_of(mdata.mod)}."
            raise DataError(msg)
        parts = {m: t.encode(mdata.mod[m]) for m, t in present.items()}
        absent = {m: _no_tokens() for m in self.tokenizers if m not in present}
        ordered = {m: (parts | absent)[m] for m in self.tokenizers}
        vocabularies = {m: t.vocabulary for m, t in self.tokenizers.items()}
        tokens = combine_tokens(
            ordered, vocabularies, modality_tokens=self.modality_tokens,
            names=np.asarray(mdata.obs_names, dtype=str),
        ).tokens  # fmt: skip
        return self._framed(tokens, mdata)

    def _framed(self, tokens: Tokens, mdata: MuData) -> Tokens:
        """Put ``<cls>`` and context before each cell's tokens and ``<eos>`` after them."""
        vocabulary = self.vocabulary
        known, n = vocabulary.index(), tokens.n_cells
        before = [np.full(n, vocabulary.special_id("cls"))] if self.start else []
        for key in self.context:
            values = [v if v in self._values[key] else UNKNOWN for v in self._column(mdata, key)]
            before.append(np.array([known[context_name(key, v)] for v in values], dtype=np.int64))
        after = [np.full(n, vocabulary.special_id("eos"))] if self.end else []
        provenance = Provenance(
            component=self.component, version="1", parameters=self._parameters()
        )
        return replace(with_frame(tokens, before, after), provenance=provenance)

    def _column(self, mdata: MuData, key: str) -> list[str]:
        if key not in mdata.obs:
            msg = (
                f"obs has no column {key!r} for a context token.{closest(key, mdata.obs.columns)} "
                f"Columns: {one_of(mdata.obs.columns)}. Add it (mdata.pull_obs does), or change "
                "context."
            )
            raise ConfigError(msg)
        column = mdata.obs[key]
        return [UNKNOWN if m else str(v) for v, m in zip(column, column.isna())]

    def _parameters(self) -> dict[str, Any]:
        return {
            "parts": self.parts,
            "settings": self.settings,
            "modality_tokens": self.modality_tokens,
            "start": self.start,
            "end": self.end,
            "context": list(self.context),
        }

    def state(self) -> ComponentState:
        """Return the states of all tokenizers in one."""
        states = {m: t.state() for m, t in self.tokenizers.items()}
        return ComponentState(
            component=self.component,
            parameters=self._parameters(),
            arrays={f"{m}/{k}": v for m, s in states.items() for k, v in s.arrays.items()},
            extra={
                "order": list(self.parts),  # a mapping forgets its order on the disk
                "context_order": list(self._values),
                "context": self._values,
                "parts": {
                    m: {"parameters": dict(s.parameters), "extra": dict(s.extra)}
                    for m, s in states.items()
                },
            },
            provenance=Provenance(component=self.component, version="1"),
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted tokenizer; a state of another component is refused."""
        from cellweave.plugins import get_plugin_manager
        from cellweave.records.component import ComponentKind

        if state.component != cls.component:
            msg = (
                f"This is a state of {state.component!r}. Expected one of {cls.component!r}. "
                "Load it with the tokenizer that wrote it."
            )
            raise StateMismatchError(msg)
        parts = {m: state.parameters["parts"][m] for m in state.extra["order"]}
        made = cls(**{**state.parameters, "parts": parts})
        values = state.extra["context"]
        made._values = {key: list(values[key]) for key in state.extra["context_order"]}
        registry = get_plugin_manager().registry(ComponentKind.TOKENIZER)
        for modality, name in made.parts.items():
            own = state.extra["parts"][modality]
            part = ComponentState(
                component=name,
                parameters=own["parameters"],
                arrays={
                    k.removeprefix(f"{modality}/"): v
                    for k, v in state.arrays.items()
                    if k.startswith(f"{modality}/")
                },
                extra=own["extra"],
            )
            made._made[modality] = registry[name].load().from_state(part)
        return made


def _no_tokens() -> Tokens:
    return Tokens(
        offsets=np.zeros(1, dtype=np.int64),
        ids=np.empty(0, dtype=np.int32),
        obs_names=np.empty(0, dtype=str),
    )
