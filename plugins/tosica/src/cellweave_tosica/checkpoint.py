"""Read TOSICA as it saves itself: a project of ``model-9.pth``, ``pathway.csv`` and more.

``label_dictionary.csv`` names the classes. The genes stand nowhere but in the header of
``gene2token_weights.csv``, which the official prediction writes; else ``genes.txt`` or the h5ad
of the training data gives them. ``mask.npy`` repeats what is in the weights, and must agree.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import (
    ReadModel,
    files_with,
    fill,
    find_companion,
    head_count,
    read_checkpoint,
    renamed_by,
    take,
)
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, refuse, size_of
from cellweave_rna.tables import read_gene_order
from cellweave_tosica.config import TosicaConfig
from cellweave_tosica.network import TosicaNetwork
from cellweave_tosica.tokenizer import TosicaTokenizer

__all__ = ["looks_published", "read_tosica"]

_WEIGHTS = ("model-*.pth", "*.pth", "model.safetensors")
_GENES = ("gene2token_weights.csv", "genes.txt", "genes.tsv", "*.h5ad")
_MASK = "feature_embed.fe.mask"
_NAMES = (
    (r"cls_token", "cls"),
    (r"feature_embed\.fe\.", "tokens."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"blocks.\1.attention.qkv."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"blocks.\1.attention.out."),
    (r"blocks\.(\d+)\.mlp\.fc1\.", r"blocks.\1.feedforward.up."),
    (r"blocks\.(\d+)\.mlp\.fc2\.", r"blocks.\1.feedforward.down."),
    (r"head\.", "label."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors whether this is TOSICA; none is read."""
    return bool(files_with(path, _WEIGHTS, signs=(_MASK,)))


def read_tosica(
    path: str | Path, *, genes: str | Path | None = None, heads: str | Path | None = None
) -> ReadModel:
    """Read weights, names of pathways, labels and genes, strictly.

    Parameters
    ----------
    path
        Folder of the project, where the last epoch is taken, or a file of weights in it.
    genes
        ``gene2token_weights.csv``, the h5ad of the training data, or a text file with one gene a
        line, when not beside the weights.
    heads
        Attention heads, which no file tells; 4, as published, when not given.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    weights = path if path.is_file() else _last_epoch(folder)
    checkpoint = read_checkpoint(weights)
    tensors = dict(checkpoint.tensors)
    config = TosicaConfig.from_tensors(
        tensors,
        heads=head_count(heads, usual=4),
        pathways=_names_in(folder, "pathway.csv", "names of pathways pathway.csv"),
        labels=_names_in(folder, "label_dictionary.csv", "names of labels label_dictionary.csv"),
        source=weights,
    )
    tensors[_MASK] = _mask(tensors, config, folder, weights)
    (cls,) = take(tensors, ["cls_token"], source=weights)
    tensors["cls_token"] = cls.flatten()
    tokenizer = _tokenizer(folder, config, genes)
    network = TosicaNetwork(config)
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES))
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=checkpoint.container,
    )


def _last_epoch(folder: Path) -> Path:
    first = find_companion([folder], _WEIGHTS, what="file of weights model-9.pth")
    epochs = {int(m[1]): p for p in folder.glob("model-*.pth") if (m := _epoch(p))}
    return epochs[max(epochs)] if epochs else first


def _epoch(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"model-(\d+)\.pth", path.name)


def _names_in(folder: Path, name: str, what: str) -> list[str]:
    """Return the second column of a table with a header."""
    path = find_companion([folder], (name,), what=what)
    rows = list(_rows(path))
    wrong = [i for i, row in enumerate(rows) if len(row) != 2]
    if wrong or len(rows) < 2:
        line = (wrong or [0])[0] + 1
        raise refuse(path, f"it is no table of numbers and names (line {line})")
    return [row[1] for row in rows[1:]]


def _rows(path: Path) -> Iterator[list[str]]:
    size_of(path, DEFAULT_LIMITS.header_bytes)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.reader(file)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise refuse(path, f"it is no table ({str(error)[:80]})") from error


def _mask(
    tensors: dict[str, torch.Tensor], config: TosicaConfig, folder: Path, source: Path
) -> torch.Tensor:
    """Return one row a pathway; the rows of a pathway are the same in the weights."""
    whole = tensors[_MASK].view(-1, config.width, config.n_ids)
    mask = whole[:, 0]
    if not bool(((whole == 0) | (whole == 1)).all()) or not bool((whole == mask[:, None]).all()):
        raise refuse(source, f"{_MASK} is no mask of zeros and ones, one row a pathway")
    beside = folder / "mask.npy"
    if beside.is_file():
        try:
            saved = np.load(beside, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise refuse(beside, f"it is no array ({str(error)[:80]})") from error
        if saved.T.shape != tuple(mask.shape) or not np.array_equal(saved.T, mask.numpy()):
            msg = f"{str(beside)!r} {saved.shape} is not the mask in {str(source)!r}, which has "
            shape = tuple(mask.T.shape)
            raise StateMismatchError(msg + f"{shape}. Give one project whole, as TOSICA saved it.")
    return mask


def _tokenizer(folder: Path, config: TosicaConfig, given: str | Path | None) -> TosicaTokenizer:
    what = (
        "list of genes (gene2token_weights.csv, or genes.txt with the var_names of the training "
        "data, one a line)"
    )
    path = Path(given) if given is not None else find_companion([folder], _GENES, what=what)
    genes = next(_rows(path), [])[1:] if path.suffix == ".csv" else read_gene_order(path)
    if len(genes) != config.n_ids:
        msg = (
            f"{str(path)!r} has {len(genes)} genes; the weights have {config.n_ids}. Give the "
            "var_names of the training data, in their order, as `genes`."
        )
        raise StateMismatchError(msg)
    return TosicaTokenizer.from_genes(genes)
