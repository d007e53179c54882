"""Read Nicheformer as published: Lightning's ``nicheformer.ckpt``, or the folder on Hugging Face.

With the weights go the order of genes (``model.h5ad``, or ``vocab.json`` on Hugging Face) and, for
Lightning's file, the technologies' means (``*_mean_script.npy``), which stand in
``data/model_means`` of the repository. Fine-tuned files hold the network as ``backbone`` and a
head.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellweave.errors import StateMismatchError, UnreadableFileError
from cellweave_nicheformer.config import NicheformerConfig
from cellweave_nicheformer.context import N_AUXILIARY
from cellweave_nicheformer.network import NicheformerNetwork
from cellweave_nicheformer.tokenizer import NicheformerTokenizer
from cellweave_nn.checkpoints import (
    Checkpoint,
    ReadModel,
    damaged_files,
    fill,
    find_companions,
    peek_names,
    read_checkpoint,
    read_json,
    read_table,
    renamed_by,
)
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, refuse, size_of
from cellweave_rna.tables import read_factors, read_gene_order

__all__ = ["looks_published", "read_nicheformer"]

_MARKS = ("positional_embedding.weight", "classifier_head.weight", "encoder_layer.norm1.weight")
_FILES = ("nicheformer.ckpt", "*.ckpt", "*.safetensors", "*.pt", "*.pth", "*.bin")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_INNER = ("backbone.", "nicheformer.")
_IGNORED = {
    r"encoder_layer\..*": "the pattern that the blocks were copied from, saved by accident",
    r"pos": "the places 0, 1, 2 …",
    r"pooler_head\..*": "made, and never used, by the authors' pretraining",
    r"cls_head\..*": "made, and never used, by the authors' pretraining",
}
_LAYER = r"encoder\.layers\.(\d+)\."
_NAMES = (
    (r"embeddings\.", "ids."),
    (r"positional_embedding\.", "places."),
    (rf"{_LAYER}self_attn\.in_proj_", r"blocks.\1.attention.qkv."),
    (rf"{_LAYER}self_attn\.out_proj\.", r"blocks.\1.attention.out."),
    (rf"{_LAYER}linear1\.", r"blocks.\1.feedforward.up."),
    (rf"{_LAYER}linear2\.", r"blocks.\1.feedforward.down."),
    (rf"{_LAYER}(norm[12])\.", r"blocks.\1.\2."),
    (r"classifier_head\.", "masked."),
    (r"linear_head\.", "task."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors inside whether this is Nicheformer."""
    return _weights_of(path) is not None


def read_nicheformer(
    path: str | Path, *, genes: str | Path | None = None, means: str | Path | None = None
) -> ReadModel:
    """Read weights, settings, order of genes and means, strictly.

    Parameters
    ----------
    path
        ``nicheformer.ckpt``, a fine-tuned one, or a folder as downloaded.
    genes
        ``model.h5ad``, ``vocab.json`` or a list of genes, when it is not near the weights.
    means
        Folder of the technologies' means, when they are not near the weights.
    """
    path = Path(path)
    weights = path if path.is_file() else _weights_of(path)
    if weights is None:
        msg = f"{str(path)!r} holds no Nicheformer. Download nicheformer.ckpt, or the folder from "
        raise UnreadableFileError(msg + "Hugging Face whole.")
    homes = _homes(weights.parent)
    listed = _gene_file(homes, genes)
    checkpoint = read_checkpoint(weights, prefixes=_PREFIXES)
    tensors = _plain(checkpoint.tensors)
    config = NicheformerConfig.from_published(
        _settings(weights, checkpoint), tensors, source=weights
    )
    order = _order(listed, config)
    folders = homes if means is None else [Path(means)]
    tokenizer = NicheformerTokenizer.from_order(
        order,
        _means(folders, order, needed=listed.suffix != ".json" or means is not None),
        context=config.context,
        start=config.cls,
        max_length=config.n_places,
    )
    network = NicheformerNetwork(config)
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES), ignored=_IGNORED)
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=checkpoint.container,
    )


def _weights_of(path: Path) -> Path | None:
    found = [path] if path.is_file() else find_companions([path], _FILES)
    marked = [file for file in found if _is_marked(file)]
    return next(iter(marked or damaged_files(found, _FILES)), None)


def _is_marked(path: Path) -> bool:
    """Tell a Nicheformer by names that no other family joins."""
    names = peek_names(path)
    ends = {mark for mark in _MARKS if any(n.endswith(mark) for n in names)}
    return ends >= {_MARKS[0]} and len(ends) > 1


def _homes(folder: Path) -> list[Path]:
    near = [folder, folder.parent, folder.parent.parent]
    return [home / sub for home in near for sub in ("", "model_means", "data/model_means")]


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take the name of the inner network off."""
    inner = next((p for p in _INNER if any(k.startswith(p) for k in tensors)), "")
    plain = {k.removeprefix(inner): v for k, v in tensors.items()}
    if inner == "backbone.":
        # The pooler of a fine-tuned head is another than the one of its backbone.
        own = {k: v for k, v in tensors.items() if k.startswith("pooler_head.")}
        plain |= {k.replace("pooler_head.", "extractor."): v for k, v in own.items()}
    return plain


def _settings(weights: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return Lightning's hyper-parameters, or what stands in ``config.json`` beside the weights."""
    inside = checkpoint.extra.get("hyper_parameters")
    if isinstance(inside, Mapping):
        return dict(inside)
    beside = weights.parent / "config.json"
    return read_json(beside) if beside.is_file() else {}


# ------------------------------------------------------------------ genes and means


def _gene_file(homes: list[Path], given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    found = find_companions(homes[:1], ("vocab.json",)) + find_companions(homes, ("*model.h5ad",))
    if not found:
        msg = (
            f"The order of genes is missing: no vocab.json and no model.h5ad in {str(homes[0])!r} "
        )
        raise UnreadableFileError(
            msg + "or near it. Put model.h5ad of the repository's data/model_means beside them."
        )
    return found[0]


def _order(path: Path, config: NicheformerConfig) -> list[str]:
    if path.suffix == ".json":
        ids = read_table(path, of=int, what="vocabulary")
        genes = sorted((token, name) for name, token in ids.items() if token >= N_AUXILIARY)
        order = [name for _, name in genes]
        whole = [token for token, _ in genes] == list(range(N_AUXILIARY, N_AUXILIARY + len(genes)))
    else:
        size_of(path, DEFAULT_LIMITS.file_bytes)
        order, whole = _read_order(path), True
    expected = config.n_ids - N_AUXILIARY
    if len(order) != expected or len(set(order)) != len(order) or not whole:
        msg = (
            f"{str(path)!r} names {len(order)} genes ({len(set(order))} different); the weights "
            f"have {expected}. Give the file that was published with these weights."
        )
        raise StateMismatchError(msg)
    return order


def _read_order(path: Path) -> list[str]:
    try:
        return read_gene_order(path)
    except UnreadableFileError:
        raise
    except Exception as error:  # h5py and anndata have many ways to fail on a damaged file
        raise refuse(path, f"it is no h5ad ({type(error).__name__})") from error


def _means(homes: list[Path], order: list[str], *, needed: bool) -> dict[str, np.ndarray] | None:
    found: dict[str, np.ndarray] = {}
    for path in find_companions(homes, ("*_mean_script.npy", "*_mean.npy")):
        name = path.stem.removesuffix("_script").removesuffix("_mean").removeprefix("nicheformer_")
        if name not in found:
            size_of(path, DEFAULT_LIMITS.header_bytes)
            values = np.array(list(read_factors(path, order).values()))
            if np.isinf(values).any() or np.isnan(values).all():
                raise refuse(path, "it holds infinity, or no number at all")
            found[name] = values
    if not found and needed:
        msg = f"The technologies' means are missing: no *_mean_script.npy in {str(homes[0])!r} or "
        raise UnreadableFileError(
            msg + "near it. Put those of the repository's data/model_means beside the weights."
        )
    return found or None
