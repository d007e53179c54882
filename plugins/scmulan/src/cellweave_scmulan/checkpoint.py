"""Read scMulan as published: ``ckpt_scMulan.pt`` and ``meta_info.pt``.

The first holds ``model_args`` and ``model``; the second, which stands in the authors' package
(``scMulan/utils``), the lists of tokens, genes and cell types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import (
    ReadModel,
    files_with,
    fill,
    find_companion,
    head_count,
    one_file_with,
    read_checkpoint,
    read_json,
    renamed_by,
)
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, refuse
from cellweave_nn.checkpoints.torch_files import read_torch_file
from cellweave_scmulan.config import IDS, ScmulanConfig
from cellweave_scmulan.network import ScmulanNetwork
from cellweave_scmulan.tokenizer import TASK, ScmulanTokenizer

__all__ = ["looks_published", "read_scmulan"]

_WEIGHTS = ("ckpt_scMulan.pt", "*.pt", "*.pth", "*.ckpt", "model.safetensors")
_SIGNS = ("transformer.wee.weight", "epx_head.weight")
_META = ("meta_info.pt", "meta_info.json", "utils/meta_info.pt")
_BY_ID = (IDS, "lm_head.weight", "epx_head.weight")
_LAYER = r"transformer\.h\.(\d+)\."
_NAMES = (
    (r"transformer\.wte\.", "ids."),
    (r"transformer\.wee\.", "bins."),
    (rf"{_LAYER}ln_1\.", r"blocks.\1.norm1."),
    (rf"{_LAYER}ln_2\.", r"blocks.\1.norm2."),
    (rf"{_LAYER}attn\.c_attn\.", r"blocks.\1.attention.qkv."),
    (rf"{_LAYER}attn\.c_proj\.", r"blocks.\1.attention.out."),
    (rf"{_LAYER}mlp\.c_fc\.", r"blocks.\1.feedforward.up."),
    (rf"{_LAYER}mlp\.c_proj\.", r"blocks.\1.feedforward.down."),
    (r"transformer\.ln_f\.", "norm."),
    (r"lm_head\.", "next_id."),
    (r"epx_head\.", "next_bin."),
)
# Where maps have no bias norms have none either: ours keep theirs, which are zero.
_WITHOUT_BIAS = (r"blocks\.\d+\.norm[12]\.bias", r"norm\.bias")


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors whether this is scMulan; none is read."""
    return bool(files_with(path, _WEIGHTS, signs=_SIGNS))


def read_scmulan(
    path: str | Path, *, meta: str | Path | None = None, heads: str | Path | None = None
) -> ReadModel:
    """Read weights and lists, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, or the file of weights in it.
    meta
        ``meta_info.pt``, or the same as JSON, when it is not beside the weights.
    heads
        Attention heads, for a file without ``model_args``.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    named = "file of weights ckpt_scMulan.pt"
    weights = path if path.is_file() else one_file_with(folder, _WEIGHTS, signs=_SIGNS, what=named)
    what = "lists of tokens meta_info.pt (from scMulan/utils)"
    lists = Path(meta) if meta is not None else find_companion([folder], _META, what=what)
    checkpoint = read_checkpoint(weights)
    tensors = dict(checkpoint.tensors)
    args = checkpoint.extra.get("model_args", {})
    config = ScmulanConfig.from_published(
        args if isinstance(args, Mapping) else {},
        tensors,
        heads=None if heads is None else head_count(heads, usual=12),
        source=weights,
    )
    tokenizer, rows = _tokenizer(lists, config)
    for name in _BY_ID:
        if name in tensors and len(tensors[name]) == config.n_ids:
            tensors[name] = tensors[name][rows]
    network = ScmulanNetwork(config)
    new = () if config.bias else _WITHOUT_BIAS
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES), new=new)
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=checkpoint.container,
    )


def _tokenizer(path: Path, config: ScmulanConfig) -> tuple[ScmulanTokenizer, torch.Tensor]:
    """Return the tokenizer, and the published row of each of its ids."""
    is_json = path.suffix == ".json"
    content = read_json(path) if is_json else read_torch_file(path, DEFAULT_LIMITS)
    if not isinstance(content, Mapping):
        raise refuse(path, f"it holds a {type(content).__name__}, expected lists by name")
    tokens, genes = (_names(path, content, name) for name in ("token_set", "gene_set"))
    if len(tokens) != config.n_ids:
        msg = (
            f"{str(path)!r} lists {len(tokens)} tokens; the weights have {config.n_ids} rows. Give "
            "the meta_info.pt that was published with these weights."
        )
        raise StateMismatchError(msg)
    known, row = set(genes), {name: i for i, name in enumerate(tokens)}
    if lacking := [n for n in (*genes, TASK) if n not in row]:
        raise refuse(path, f"its token_set lacks {', '.join(map(repr, lacking[:3]))}")
    types = {*_few(content.get("cell_type")), *_few(content.get("MCT"))}
    others = [name for name in tokens if name not in known]
    tokenizer = ScmulanTokenizer.from_lists(
        genes,
        others,
        stop=tokens[0],
        cell_types=[name for name in others if name in types],
        n_bins=config.n_bins,
    )
    return tokenizer, torch.tensor([row[name] for name in tokenizer.vocabulary.names])


def _names(path: Path, content: Mapping[str, Any], name: str) -> list[str]:
    found = content.get(name)
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        raise refuse(path, f"it has no list {name!r}")
    if not all(isinstance(item, str) for item in found):
        raise refuse(path, f"its {name!r} holds more than names")
    return list(found)


def _few(found: Any) -> set[str]:
    return {str(n) for n in found} if isinstance(found, set | frozenset | list | tuple) else set()
