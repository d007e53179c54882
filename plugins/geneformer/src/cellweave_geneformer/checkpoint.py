"""Read Geneformer as published: a folder of ``config.json``, weights, and its dictionaries.

The dictionaries stand in the repository's ``geneformer/`` folder beside the folders of weights
(V2: ``*_gc104M.pkl``; V1: ``gene_dictionaries_30m/*_gc30M.pkl``). V1 weights with V2 dictionaries
would load and give nonsense, so the one whose size is ``vocab_size`` is taken, or none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellweave.errors import StateMismatchError, UnreadableFileError
from cellweave_geneformer.config import GeneformerConfig
from cellweave_geneformer.network import GeneformerNetwork
from cellweave_geneformer.tokenizer import GeneformerTokenizer
from cellweave_nn.checkpoints import (
    KeyReport,
    ReadModel,
    fill,
    find_companions,
    find_weights,
    merge_lora,
    read_checkpoint,
    read_json,
    read_table,
    renamed_by,
    take,
)

__all__ = ["looks_published", "read_geneformer"]

_VOCABULARIES = {25_426: "V1", 20_275: "V2"}
_IGNORED = {
    r"bert\.embeddings\.position_ids": "a constant",
    r"cls\.predictions\.decoder\.(weight|bias)": "tied to the embedding of ids and to the bias",
    r"bert\.pooler\..*": "not used without a classifier of cells",
    r"cls\.seq_relationship\..*": "not used",
}
_NAMES = (
    (r"bert\.embeddings\.word_embeddings\.", "ids."),
    (r"bert\.embeddings\.position_embeddings\.", "places."),
    (r"bert\.embeddings\.token_type_embeddings\.", "types."),
    (r"bert\.embeddings\.LayerNorm\.", "norm."),
    (r"bert\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attention.out."),
    (r"bert\.encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.", r"blocks.\1.norm1."),
    (r"bert\.encoder\.layer\.(\d+)\.attention\.self\.qkv\.", r"blocks.\1.attention.qkv."),
    (r"bert\.encoder\.layer\.(\d+)\.intermediate\.dense\.", r"blocks.\1.feedforward.up."),
    (r"bert\.encoder\.layer\.(\d+)\.output\.dense\.", r"blocks.\1.feedforward.down."),
    (r"bert\.encoder\.layer\.(\d+)\.output\.LayerNorm\.", r"blocks.\1.norm2."),
    (r"cls\.predictions\.transform\.dense\.", "masked.dense."),
    (r"cls\.predictions\.transform\.LayerNorm\.", "masked.norm."),
    (r"cls\.predictions\.bias", "masked.bias"),
    (r"bert\.pooler\.dense\.", "pooler."),
)


def looks_published(path: Path) -> bool:
    """Tell from ``config.json`` and the names of files whether this is Geneformer."""
    folder = path.parent if path.is_file() else path
    if not (folder / "config.json").is_file() or find_weights(folder) is None:
        return False
    try:
        values = read_json(folder / "config.json")
    except UnreadableFileError:
        return False
    if values.get("model_type") != "bert":
        return False
    return values.get("vocab_size") in _VOCABULARIES or bool(_dictionaries(folder, "token"))


def read_geneformer(
    path: str | Path, *, base: str | Path | None = None, dictionaries: str | Path | None = None
) -> ReadModel:
    """Read weights, settings and dictionaries, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, a file of weights in it, or a folder of LoRA adapters.
    base
        Folder of the model that adapters were trained on, when ``path`` holds adapters only.
    dictionaries
        Folder of the dictionaries, when they are not beside the weights.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    home = Path(base) if base is not None else folder
    if not (home / "config.json").is_file():
        msg = f"{str(home)!r} has no config.json. Give the folder with config.json as published"
        raise UnreadableFileError(msg + (" as `base`." if base else ", or `base` for adapters."))
    config = GeneformerConfig.from_published(
        read_json(home / "config.json"), source=home / "config.json"
    )
    weights = path if path.is_file() and base is None else find_weights(home)
    if weights is None:
        msg = f"{str(home)!r} has no model.safetensors and no pytorch_model.bin. Download one."
        raise UnreadableFileError(msg)
    tokenizer = _tokenizer(home, config, dictionaries)
    checkpoint = read_checkpoint(weights)
    tensors = _with_prefix(checkpoint.tensors)
    container = checkpoint.container
    if (folder / "adapter_config.json").is_file():
        tensors, container = merge_lora(tensors, folder), f"{container} with LoRA adapters"
    network, report = _filled(config, tensors, weights)
    return ReadModel(
        config=config, network=network, tokenizer=tokenizer, report=report, container=container
    )


def _with_prefix(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name the tensors of a bare ``BertModel`` as those of a model with a head."""
    bare = "embeddings.word_embeddings.weight" in tensors
    return {f"bert.{k}" if bare else k: v for k, v in tensors.items()}


def _filled(
    config: GeneformerConfig, tensors: dict[str, torch.Tensor], source: Path
) -> tuple[GeneformerNetwork, KeyReport]:
    _check_sizes(config, tensors, source)
    _check_tied(tensors, source)
    ignored = dict(_IGNORED)
    if config.head == "cell":
        del ignored[r"bert\.pooler\..*"]
    if config.head != "mlm":
        ignored[r"cls\.predictions\..*"] = "the pretraining head, not used beside a classifier"
    fused = dict(tensors)
    for i in range(config.depth):
        stem = f"bert.encoder.layer.{i}.attention.self"
        for kind in ("weight", "bias"):
            names = [f"{stem}.{part}.{kind}" for part in ("query", "key", "value")]
            parts = take(fused, names, source=source)
            wrong = [n for n, p in zip(names, parts) if p.shape[0] != config.width]
            if wrong:
                raise _other_sizes(source, f"{wrong[0]} {tuple(fused[wrong[0]].shape)}", config)
            fused[f"{stem}.qkv.{kind}"] = torch.cat(parts)
            for name in names:
                del fused[name]
    network = GeneformerNetwork(config)
    report = fill(network, fused, source=source, rename=renamed_by(_NAMES), ignored=ignored)
    return network.eval(), report


def _check_sizes(
    config: GeneformerConfig, tensors: Mapping[str, torch.Tensor], source: Path
) -> None:
    """Compare settings with the tensors before a network of that size is made."""
    expected = {
        "bert.embeddings.word_embeddings.weight": (config.n_ids, config.width),
        "bert.embeddings.position_embeddings.weight": (config.n_places, config.width),
        "bert.embeddings.token_type_embeddings.weight": (config.n_types, config.width),
        "bert.encoder.layer.0.intermediate.dense.weight": (config.hidden, config.width),
    }
    found = dict(zip(expected, take(tensors, expected, source=source)))
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise _other_sizes(source, f"{name} {tuple(found[name].shape)}", config)
    layers = {k.split(".")[3] for k in tensors if k.startswith("bert.encoder.layer.")}
    if len(layers) != config.depth:
        raise _other_sizes(source, f"{len(layers)} blocks", config)


def _other_sizes(source: Path, found: str, config: GeneformerConfig) -> StateMismatchError:
    sizes = {k: v for k, v in config.to_dict().items() if isinstance(v, int)}
    msg = (
        f"The weights in {str(source)!r} have {found}; config.json beside them says {sizes!r}. "
        "Give the config.json that was published with these weights."
    )
    return StateMismatchError(msg)


def _check_tied(tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    """Refuse a decoder of its own: Geneformer's is its embedding of ids."""
    pairs = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    for name, other in pairs.items():
        if name in tensors and other in tensors and not torch.equal(tensors[name], tensors[other]):
            msg = (
                f"{name!r} in {str(source)!r} differs from {other!r}, to which Geneformer ties it."
                " Give weights as published."
            )
            raise StateMismatchError(msg)


# ------------------------------------------------------------------ dictionaries


def _tokenizer(
    folder: Path, config: GeneformerConfig, dictionaries: str | Path | None
) -> GeneformerTokenizer:
    given = [Path(dictionaries)] if dictionaries is not None else []
    token_ids, place = _token_ids(folder, config, given)
    medians = _partner(folder, given, place, "median")
    if medians is None:
        raise _missing(folder, config, "gene_median_dictionary", "no such file there")
    mapping, symbols = (_partner(folder, given, place, k) for k in ("mapping", "name_id"))
    framed = {"<cls>", "<eos>"} <= token_ids.keys()
    return GeneformerTokenizer.from_dictionaries(
        token_ids,
        read_table(medians, of=(int, float), what="table of medians"),
        mapping=_texts(mapping),
        symbols=_texts(symbols),
        version="V2" if framed else "V1",
        max_length=config.n_places,
    )


def _token_ids(
    folder: Path, config: GeneformerConfig, given: list[Path]
) -> tuple[dict[str, Any], Path]:
    """Return the token dictionary whose size is the vocabulary of the weights, and its file."""
    seen = []
    for place in _dictionaries(folder, "token", given):
        table = read_table(place, of=int, what="token dictionary")
        if len(table) == config.n_ids:
            return table, place
        seen.append(f"{place.name} with {len(table)} entries")
    found = f"found {', '.join(seen)}" if seen else "no such file there"
    raise _missing(folder, config, "token_dictionary", found)


def _missing(folder: Path, config: GeneformerConfig, what: str, found: str) -> UnreadableFileError:
    version = _VOCABULARIES.get(config.n_ids, "of its own")
    ending = {"V1": "_gc30M.pkl", "V2": "_gc104M.pkl"}.get(version, "*.pkl")
    msg = (
        f"The weights in {str(folder)!r} have a vocabulary of {config.n_ids} ({version}) and need "
        f"{what}{ending} with as many entries; {found}. Put it into that folder, or into a folder "
        "`geneformer` beside it, as the authors publish it."
    )
    return UnreadableFileError(msg)


def _dictionaries(folder: Path, kind: str, given: list[Path] | None = None) -> list[Path]:
    patterns = {
        "token": ("*token_dictionary*",),
        "median": ("*gene_median_dictionary*",),
        "mapping": ("*ensembl_mapping_dict*",),
        "name_id": ("*gene_name_id*",),
    }[kind]
    around = [folder, folder / "geneformer", folder.parent, folder.parent / "geneformer"]
    homes = [h / sub for h in [*(given or []), *around] for sub in ("", "gene_dictionaries_30m")]
    found = find_companions(homes, [p + e for p in patterns for e in (".pkl", ".json")])
    return list(found)


def _partner(folder: Path, given: list[Path], token_file: Path, kind: str) -> Path | None:
    """Return the dictionary of another kind that stands with the token dictionary."""
    found = _dictionaries(folder, kind, [*given, token_file.parent])
    beside = [p for p in found if p.parent == token_file.parent]
    release = re.search(r"gc\d+M|_v\d", token_file.name)
    same = [p for p in beside if release is None or release[0] in p.name]
    return next(iter(same or beside), None)


def _texts(path: Path | None) -> dict[str, str]:
    return {} if path is None else read_table(path, of=str, what="table of names")
