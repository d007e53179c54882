"""Read scGPT as published: a folder of ``best_model.pt``, ``args.json`` and ``vocab.json``.

Attention comes in three layouts whose rows are the same (q, k, v, head by head): torch's
(``in_proj_weight``), flash-attn 1 (``Wqkv.weight``), and wrapped (``_impl.Wqkv.weight``).
The official loader drops what does not fit in silence; here that is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellweave.errors import StateMismatchError, UnreadableFileError
from cellweave_nn.checkpoints import (
    ReadModel,
    fill,
    find_companion,
    find_weights,
    merge_lora,
    read_checkpoint,
    read_json,
    read_table,
    renamed_by,
)
from cellweave_scgpt.config import ScgptConfig
from cellweave_scgpt.network import ScgptNetwork
from cellweave_scgpt.tokenizer import ScgptTokenizer

__all__ = ["looks_published", "read_scgpt"]

_WEIGHTS = ("best_model.pt", "model.pt", "model.safetensors", "pytorch_model.bin")
_ARGUMENTS = ("embsize", "nheads", "d_hid", "nlayers")
_SPECIAL = ("<pad>", "<cls>", "<eoc>")
_LAYER = r"transformer_encoder\.layers\.(\d+)\."
_NAMES = (
    (r"encoder\.embedding\.", "genes.table."),
    (r"encoder\.enc_norm\.", "genes.norm."),
    (r"value_encoder\.embedding\.", "values.table."),
    (r"value_encoder\.enc_norm\.", "values.norm."),
    (r"value_encoder\.", "values."),
    (rf"{_LAYER}self_attn\.(?:_impl\.)?Wqkv\.", r"blocks.\1.attention.qkv."),
    (rf"{_LAYER}self_attn\.in_proj_", r"blocks.\1.attention.qkv."),
    (rf"{_LAYER}self_attn\.(?:_impl\.)?out_proj\.", r"blocks.\1.attention.out."),
    (rf"{_LAYER}linear1\.", r"blocks.\1.feedforward.up."),
    (rf"{_LAYER}linear2\.", r"blocks.\1.feedforward.down."),
    (rf"{_LAYER}(norm[12])\.", r"blocks.\1.\2."),
    (r"flag_encoder\.", "flag."),
    (r"dsbn\.bns\.", "domains.norms."),
    (r"bn\.", "batch_norm."),
    (r"decoder\.", "expression."),
    (r"mvc_decoder\.", "conditioned."),
    (r"cls_decoder\._decoder\.", "label.hidden."),
    (r"cls_decoder\.out_layer\.", "label.out."),
)
_DISCRIMINATOR = {
    r"grad_reverse_discriminator\..*": "tells batches while training, not used afterwards"
}
_BATCH_HEADS = {
    r"batch_encoder\..*": "read by heads that need batch labels",
    r"(decoder|mvc_decoder)\..*": "reads batch labels beside the state, not used by embeddings",
}
# A multi-omic network adds the modality to no input: its heads alone read it.
_MODALITY_HEADS = {
    r"mod_encoder\..*": "read by heads that need the modality of each token",
    r"(decoder|mvc_decoder)\..*": "reads the modality beside the state, not used by embeddings",
}
_OTHER_MVC = {r"mvc_decoder\..*": "a variant of the head that embeddings do not use"}


def looks_published(path: Path) -> bool:
    """Tell from ``args.json`` or the names of files whether this is scGPT."""
    folder = path.parent if path.is_file() else path
    if (folder / "args.json").is_file():
        try:
            values = read_json(folder / "args.json")
        except UnreadableFileError:
            return False
        return all(key in values for key in _ARGUMENTS)
    return (folder / "best_model.pt").is_file() and (folder / "vocab.json").is_file()


def read_scgpt(path: str | Path, *, vocabulary: str | Path | None = None) -> ReadModel:
    """Read weights, settings and vocabulary, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, or the file of weights in it.
    vocabulary
        ``vocab.json``, when it is not beside the weights.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    weights = path if path.is_file() else _weights_in(folder)
    settings = find_companion([folder], ("args.json",), what="file of settings args.json")
    given = Path(vocabulary) if vocabulary is not None else None
    names = given or find_companion([folder], ("vocab.json",), what="vocabulary vocab.json")
    checkpoint = read_checkpoint(weights)
    tensors, container = dict(checkpoint.tensors), checkpoint.container
    if (folder / "adapter_config.json").is_file():
        tensors, container = merge_lora(tensors, folder), f"{container} with LoRA adapters"
    ignored = _ignored(tensors)
    kept = {k: v for k, v in tensors.items() if not any(re.fullmatch(p, k) for p in ignored)}
    config = ScgptConfig.from_published(read_json(settings), kept, source=settings)
    tokenizer = _tokenizer(names, config)
    network = ScgptNetwork(config)
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES), ignored=ignored)
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=container,
    )


def _weights_in(folder: Path) -> Path:
    found = find_weights(folder, _WEIGHTS)
    if found is None:
        msg = f"{str(folder)!r} has no best_model.pt. Download it beside args.json and vocab.json."
        raise UnreadableFileError(msg)
    return found


def _ignored(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Say which keys of these weights are not needed, and why."""
    ignored = dict(_DISCRIMINATOR)
    if "batch_encoder.embedding.weight" in tensors:
        ignored |= _BATCH_HEADS
    if "mod_encoder.embedding.weight" in tensors:
        ignored |= _MODALITY_HEADS
    if "mvc_decoder.gene2query.weight" in tensors and "mvc_decoder.W.weight" not in tensors:
        ignored |= _OTHER_MVC
    return ignored


def _tokenizer(path: Path, config: ScgptConfig) -> ScgptTokenizer:
    ids: dict[str, Any] = read_table(path, of=int, what="vocabulary")
    found = len(ids)
    for name in dict.fromkeys((config.pad_token, *_SPECIAL)):
        ids.setdefault(name, len(ids))
    if len(ids) != config.n_ids:
        msg = (
            f"{str(path)!r} has {found} names ({len(ids)} with special tokens); the weights have "
            f"{config.n_ids} rows. Give the vocab.json that was published with these weights."
        )
        raise StateMismatchError(msg)
    return ScgptTokenizer.from_vocabulary(
        ids,
        pad_token=config.pad_token,
        n_bins=config.n_bins,
        max_length=config.max_length,
        start_value=config.pad_value,
    )
