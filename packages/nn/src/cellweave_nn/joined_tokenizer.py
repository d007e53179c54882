"""Tokens of several modalities in one sequence a cell, full or mosaic.

Each modality keeps its own tokenizer; ids are shifted so that vocabularies stand one after another,
and names carry their modality (``"atac:chr1:100-200"``). A cell without a modality has no tokens
of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cellweave.config.arguments import coerce_arguments
from cellweave.errors import ConfigError, DataError, NotFittedError, StateMismatchError, one_of
from cellweave.plugins import get_plugin_manager
from cellweave.records import ComponentKind, ComponentState, Provenance, Tokens, Vocabulary

if TYPE_CHECKING:
    from mudata import MuData

__all__ = ["SEVERAL", "JoinedTokenizer", "join_tokens"]

SEVERAL = "several"
_NAME = "nn.joined"
_ORDER = "|order"


class JoinedTokenizer:
    """Tokenize every modality of a MuData with a tokenizer of its own.

    Parameters
    ----------
    parts
        Modality to ``{"name": …, "parameters": {…}}`` of its tokenizer, in the order in which
        their tokens stand.
    """

    modality = SEVERAL

    def __init__(self, *, parts: dict[str, dict[str, Any]]) -> None:
        if not parts:
            msg = "parts is empty. Name a tokenizer for at least one modality."
            raise ConfigError(msg)
        wrong = [
            f"{m}={part!r}"
            for m, part in parts.items()
            if not {"name"} <= set(part) <= {"name", "parameters"}
        ]
        if wrong:
            msg = (
                f"{_NAME!r} got {'; '.join(wrong)}. Expected of each modality a name and, if need "
                "be, parameters: parts={rna: {name: rna.rank, parameters: {max_length: 512}}}."
            )
            raise ConfigError(msg)
        self.parts = parts
        self._tokenizers: dict[str, Any] = {}

    @property
    def vocabulary(self) -> Vocabulary:
        """Give all names, each with its modality; special tokens are those of the first part."""
        if not self._tokenizers:
            msg = f"The {_NAME!r} tokenizer has no vocabulary yet. Call fit(mdata) first."
            raise NotFittedError(msg)
        parts = {m: t.vocabulary for m, t in self._tokenizers.items()}
        names = tuple(f"{m}:{name}" for m, v in parts.items() for name in v.names)
        return Vocabulary(names=names, special=dict(next(iter(parts.values())).special))

    def fit(self, mdata: MuData) -> Self:
        """Fit every part on its modality."""
        missing = [m for m in self.parts if m not in mdata.mod]
        if missing:
            msg = f"The data have no {', '.join(missing)}; they have {one_of(mdata.mod)}."
            raise DataError(msg + " Name parts that are there.")
        registry = get_plugin_manager().registry(ComponentKind.TOKENIZER)
        for name, part in self.parts.items():
            target = registry[part["name"]].load()
            arguments = coerce_arguments(target, part.get("parameters", {}), name=part["name"])
            self._tokenizers[name] = target(**arguments).fit(mdata.mod[name])
        return self

    def encode(self, mdata: MuData) -> Tokens:
        """Return the tokens of every cell of ``mdata``, in its order."""
        size = len(self.vocabulary)  # raises before fit
        shift, parts = 0, {}
        for name, tokenizer in self._tokenizers.items():
            if name in mdata.mod and mdata.mod[name].n_obs:
                parts[name] = (tokenizer.encode(mdata.mod[name]), shift)
            shift += len(tokenizer.vocabulary)
        assert shift == size
        names = np.asarray(mdata.obs_names, dtype=str)
        joined = join_tokens(parts, names, modalities=tuple(self.parts))
        provenance = Provenance(component=_NAME, version=_version(), parameters=self.parts)
        return Tokens(**{**_fields(joined), "provenance": provenance})

    def state(self) -> ComponentState:
        """Return the states of all parts."""
        if not self._tokenizers:
            msg = f"The {_NAME!r} tokenizer has learnt nothing yet. Call fit(mdata) first."
            raise NotFittedError(msg)
        states = {m: t.state() for m, t in self._tokenizers.items()}
        extra: dict[str, Any] = {
            m: {
                "component": s.component,
                "parameters": dict(s.parameters),
                "extra": dict(s.extra),
            }
            for m, s in states.items()
        }
        extra[_ORDER] = list(self.parts)  # a mapping forgets its order on the disk
        arrays = {f"{m}|{k}": v for m, s in states.items() for k, v in s.arrays.items()}
        return ComponentState(
            component=_NAME, parameters={"parts": self.parts}, arrays=arrays, extra=extra
        )

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Rebuild a fitted tokenizer."""
        if state.component != _NAME:
            msg = f"This is the state of {state.component!r}. Expected one of {_NAME!r}."
            raise StateMismatchError(msg)
        parts = state.parameters["parts"]
        made = cls(parts={m: parts[m] for m in state.extra.get(_ORDER, parts)})
        registry = get_plugin_manager().registry(ComponentKind.TOKENIZER)
        for name in made.parts:
            values = state.extra[name]
            prefix = f"{name}|"
            own = {
                k.removeprefix(prefix): v for k, v in state.arrays.items() if k.startswith(prefix)
            }
            part = ComponentState(**values, arrays=own)
            made._tokenizers[name] = registry[part.component].load().from_state(part)
        return made


def join_tokens(
    parts: Mapping[str, tuple[Tokens, int]], names: np.ndarray, *, modalities: tuple[str, ...]
) -> Tokens:
    """Put the tokens of modalities one after another within each cell.

    Parameters
    ----------
    parts
        Modality to its tokens and to what is added to their ids.
    names
        The cells of the result, in order; each part holds some of them.
    modalities
        All modalities, in the order of their codes.
    """
    place = {name: i for i, name in enumerate(names)}
    cells, ids, values, codes = [], [], [], []
    for code, modality in enumerate(modalities):
        if modality not in parts:
            continue
        tokens, shift = parts[modality]
        rows = np.array([place[str(name)] for name in tokens.obs_names])
        cells.append(np.repeat(rows, tokens.lengths))
        ids.append(tokens.ids + np.int32(shift))
        plain = np.ones(len(tokens.ids), dtype=np.float32)
        values.append(plain if tokens.values is None else tokens.values)
        codes.append(np.full(len(tokens.ids), code, dtype=np.uint8))
    cell = np.concatenate(cells)
    order = np.argsort(cell, kind="stable")
    counts = np.bincount(cell, minlength=len(names))
    return Tokens(
        offsets=np.concatenate([[0], counts.cumsum()]).astype(np.int64),
        ids=np.concatenate(ids)[order],
        obs_names=names,
        values=np.concatenate(values)[order],
        modality=np.concatenate(codes)[order],
        modalities=modalities,
    )


def _fields(tokens: Tokens) -> dict[str, Any]:
    names = ("offsets", "ids", "obs_names", "values", "modality", "modalities")
    return {name: getattr(tokens, name) for name in names}


def _version() -> str:
    import cellweave_nn

    return cellweave_nn.__version__
