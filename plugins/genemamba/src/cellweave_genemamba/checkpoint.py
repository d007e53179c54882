"""Read GeneMamba as published: a folder of ``model.safetensors`` and ``tokenizer.json``.

Both the folders on Hugging Face and the authors' training checkpoints are read. ``config.json``
says how the two readings of a block are fused; ``symbol2id.pkl`` maps symbols, where it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from cellweave.errors import StateMismatchError, UnreadableFileError
from cellweave_genemamba.config import GenemambaConfig
from cellweave_genemamba.network import GenemambaNetwork
from cellweave_genemamba.tokenizer import GenemambaTokenizer
from cellweave_nn.checkpoints import (
    ReadModel,
    fill,
    find_companion,
    find_companions,
    find_weights,
    has_names,
    read_checkpoint,
    read_json,
    read_table,
    renamed_by,
)
from cellweave_nn.checkpoints.limits import refuse

__all__ = ["looks_published", "read_genemamba"]

_MARKS = ("mamba_mixer.layers.0.mamba.A_log", "mamba_mixer.layers.0.mamba.in_proj.weight")
_FIRST = "embeddings.weight"
_NAMES = (
    (r"embeddings\.", "ids."),
    (r"mamba_mixer\.layers\.(\d+)\.mamba\.", r"blocks.\1.mamba."),
    (r"mamba_mixer\.aggr\.", "aggr."),
    (r"norm_f\.", "norm."),
    (r"lm_head\.", "next."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors inside whether this is GeneMamba."""
    weights = path if path.is_file() else find_weights(path)
    if weights is None or weights.name.endswith(".index.json"):
        return False
    return has_names(weights, _MARKS)


def read_genemamba(
    path: str | Path,
    *,
    mode: str | None = None,
    tokenizer: str | Path | None = None,
    medians: str | Path | None = None,
) -> ReadModel:
    """Read weights, settings and vocabulary, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, or the file of weights in it.
    mode
        How readings are fused, when no ``config.json`` says it.
    tokenizer
        ``tokenizer.json``, when it is neither beside the weights nor above them.
    medians
        Geneformer's dictionary of medians, to rank as the pretraining data were.
    """
    path = Path(path)
    weights = path if path.is_file() else find_weights(path)
    if weights is None:
        msg = f"{str(path)!r} has no model.safetensors. Download it beside tokenizer.json."
        raise UnreadableFileError(msg)
    homes = [weights.parent, weights.parent.parent]
    given = Path(tokenizer) if tokenizer is not None else None
    words = given or find_companion(homes, ("tokenizer.json",), what="vocabulary tokenizer.json")
    checkpoint = read_checkpoint(weights)
    tensors = _plain(checkpoint.tensors)
    settings = weights.parent / "config.json"
    config = GenemambaConfig.from_published(
        read_json(settings) if settings.is_file() else {}, tensors, source=weights, fuse=mode
    )
    made = _tokenizer(words, config, homes, medians)
    network = GenemambaNetwork(config)
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES))
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=made,
        report=report,
        container=checkpoint.container,
    )


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take the name of the inner network off, whatever it is."""
    found = [k for k in tensors if k == _FIRST or k.endswith(f".{_FIRST}")]
    inner = found[0].removesuffix(_FIRST) if len(found) == 1 else ""
    return {k.removeprefix(inner): v for k, v in tensors.items()}


def _tokenizer(
    path: Path, config: GenemambaConfig, homes: list[Path], medians: str | Path | None
) -> GenemambaTokenizer:
    ids = _vocabulary(path)
    if len(ids) < config.n_ids and "[CLS]" not in ids:
        ids["[CLS]"] = len(ids)  # fine-tuned weights have a row more than the vocabulary
    if len(ids) != config.n_ids:
        msg = (
            f"{str(path)!r} has {len(ids)} names; the weights have {config.n_ids} rows. "
            "Give the tokenizer.json that was published with these weights."
        )
        raise StateMismatchError(msg)
    symbols = find_companions(homes, ("symbol2id.pkl", "symbol2id.json"))
    table = None
    if medians is not None:
        table = read_table(Path(medians), of=(int, float), what="table of medians")
    return GenemambaTokenizer.from_vocabulary(
        ids,
        symbols=read_table(symbols[0], of=str, what="table of symbols") if symbols else None,
        medians=table,
        start=config.labels > 0 and "[CLS]" in ids,
        max_length=config.max_length,
    )


def _vocabulary(path: Path) -> dict[str, int]:
    """Read names and ids from a file of the `tokenizers` library."""
    values = read_json(path)
    model = values.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    added = values.get("added_tokens") or []
    if not isinstance(words, dict) or not isinstance(added, list):
        raise refuse(path, "it holds no vocabulary of words")
    ids = dict(words)
    for entry in added:
        if not isinstance(entry, dict) or not isinstance(entry.get("content"), str):
            raise refuse(path, "it adds a token without a name")
        ids[entry["content"]] = entry.get("id")
    odd = [k for k, v in ids.items() if not isinstance(v, int) or isinstance(v, bool)]
    if odd or not ids:
        raise refuse(path, f"its vocabulary has odd entries ({odd[:3]!r})")
    return ids
