"""Read CellPLM as published: ``20230926_85M.best.ckpt`` and ``20230926_85M.config.json``.

The JSON holds the constructor's arguments and the list of genes. Parts that pretraining needs and
embeddings do not (the decoder of counts, the prior of the clusters) are ignored, and told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellweave.errors import StateMismatchError, UnreadableFileError
from cellweave_cellplm.config import CellplmConfig
from cellweave_cellplm.network import CellplmNetwork
from cellweave_cellplm.tokenizer import CellplmTokenizer
from cellweave_nn.checkpoints import (
    ReadModel,
    files_with,
    fill,
    find_companion,
    read_checkpoint,
    read_json,
    read_table,
    renamed_by,
)

__all__ = ["looks_published", "read_cellplm"]

_WEIGHTS = ("20230926_85M.best.ckpt", "*.best.ckpt", "*.ckpt", "*.pt", "model.safetensors")
_ENDINGS = (".best.ckpt", ".ckpt", ".pt", ".safetensors")
_SIGNS = ("embedder.feat_enc.emb", "latent.layers.1.inference.inference_qyx.0.logits.weight")
_LAYER = r"encoder\.layers\.(\d+)\."
_LATENT = r"latent\.layers\.1\.inference\."
_IGNORED = {
    r"embedder\.norm0\..*": "not used upstream either",
    r"embedder\.pe_enc\..*": "places, which upstream sets to zero",
    rf"{_LATENT}inference_qzyx\.2\.var\..*": "spread of the latent, read in training alone",
    rf"{_LATENT}y_(mu|var)\..*": "prior of the clusters, read in training alone",
    r"decoder\..*": "decoder of counts with batch labels, not used by embeddings",
}
_NAMES = (
    (r"embedder\.feat_enc\.emb", "genes"),
    (r"embedder\.extra_linear\.0\.", "linear."),
    (r"embedder\.extra_linear\.3\.", "group_norm."),
    (rf"{_LAYER}self_attn\.(query|key|value)_projection\.", r"blocks.\1.attention.\2."),
    (rf"{_LAYER}self_attn\.out_projection\.", r"blocks.\1.attention.out."),
    (rf"{_LAYER}_ff_block\.0\.", r"blocks.\1.feedforward.up."),
    (rf"{_LAYER}_ff_block\.3\.", r"blocks.\1.feedforward.down."),
    (rf"{_LAYER}(norm[12])\.", r"blocks.\1.\2."),
    (r"pre_latent_norm\.norm\.", "norm."),
    (rf"{_LATENT}inference_qyx\.0\.logits\.", "latent.clusters."),
    (rf"{_LATENT}inference_qzyx\.0\.", "latent.hidden."),
    (rf"{_LATENT}inference_qzyx\.2\.mu\.", "latent.mean."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors whether this is CellPLM; none is read."""
    return bool(files_with(path, _WEIGHTS, signs=_SIGNS))


def read_cellplm(
    path: str | Path, *, config: str | Path | None = None, symbols: str | Path | None = None
) -> ReadModel:
    """Read weights, settings and genes, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, or the file of weights in it.
    config
        The JSON of settings, when it is not beside the weights.
    symbols
        JSON of gene symbols and their Ensembl ids, for data that carry symbols.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    what = "file of weights 20230926_85M.best.ckpt"
    weights = path if path.is_file() else find_companion([folder], _WEIGHTS, what=what)
    settings = Path(config) if config is not None else _settings_of(weights)
    values = read_json(settings)
    checkpoint = read_checkpoint(weights)
    tensors = checkpoint.tensors
    sizes = CellplmConfig.from_published(values, tensors, source=settings)
    names = None if symbols is None else read_table(Path(symbols), of=str, what="table of symbols")
    tokenizer = _tokenizer(values, sizes, settings, names)
    network = CellplmNetwork(sizes)
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES), ignored=_IGNORED)
    return ReadModel(
        config=sizes,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=checkpoint.container,
    )


def _settings_of(weights: Path) -> Path:
    ending = next((e for e in _ENDINGS if weights.name.endswith(e)), "")
    stem = weights.name.removesuffix(ending)
    patterns = (f"{stem}.config.json", "*.config.json", "config.json")
    return find_companion([weights.parent], patterns, what=f"file of settings {stem}.config.json")


def _tokenizer(
    values: Mapping[str, Any],
    sizes: CellplmConfig,
    source: Path,
    symbols: Mapping[str, str] | None,
) -> CellplmTokenizer:
    genes = values.get("gene_list")
    if not isinstance(genes, list) or not all(isinstance(g, str) for g in genes):
        msg = f"{str(source)!r} has no gene_list of Ensembl ids. Give the published JSON whole."
        raise UnreadableFileError(msg)
    if len(genes) != sizes.n_ids:
        msg = (
            f"{str(source)!r} lists {len(genes)} genes; the weights have {sizes.n_ids} rows. Give "
            "the JSON that was published with these weights."
        )
        raise StateMismatchError(msg)
    return CellplmTokenizer.from_genes(genes, symbols=symbols)
