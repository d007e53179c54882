"""Read scFoundation as published: ``models.ckpt`` with three models in it, and the list of genes.

The file is a dictionary of ``cell``, ``gene`` and ``rde``, each with its settings and a Lightning
state dict (``model.`` before every name). A file of one model alone, plain, with ``module.`` or in
safetensors, is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cellweave.errors import ConfigError, StateMismatchError, UnreadableFileError
from cellweave_nn.checkpoints import (
    Checkpoint,
    ReadModel,
    files_with,
    fill,
    find_companion,
    peek_names,
    read_checkpoint,
    read_json,
    renamed_by,
)
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, size_of
from cellweave_rna.tables import read_gene_order
from cellweave_scfoundation.config import ScfoundationConfig, flattened
from cellweave_scfoundation.network import ScfoundationNetwork
from cellweave_scfoundation.tokenizer import ScfoundationTokenizer

__all__ = ["LICENCE", "PARTS", "looks_published", "read_scfoundation"]

PARTS = ("cell", "gene", "rde")
LICENCE = "scFoundation Model License: non-commercial research only"
_MARKS = ("token_emb.emb_mask.weight", "token_emb.mlp2.weight", "to_final.weight")
_GENES = ("*gene_index*.tsv", "*gene_index*.txt")
_FILES = ("models.ckpt", "*.ckpt", "*.safetensors", "*.pt", "*.pth", "*.bin")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_IGNORED = {r"decoder\.performer\.calls_since_last_redraw": "counts steps of training"}
_ENCODER = r"encoder\.transformer_encoder\.(\d+)\."
_DECODER = r"decoder\.performer\.net\.layers\.(\d+)\."
_NAMES = (
    (r"token_emb\.mlp\.", "values.score."),
    (r"token_emb\.mlp2\.", "values.mix."),
    (r"token_emb\.emb\.", "values.bins."),
    (r"token_emb\.emb_(mask|pad)\.", r"values.\1."),
    (r"pos_emb\.", "places."),
    (rf"{_ENCODER}self_attn\.in_proj_", r"blocks.\1.attention.qkv."),
    (rf"{_ENCODER}self_attn\.out_proj\.", r"blocks.\1.attention.out."),
    (rf"{_ENCODER}linear1\.", r"blocks.\1.feedforward.up."),
    (rf"{_ENCODER}linear2\.", r"blocks.\1.feedforward.down."),
    (rf"{_ENCODER}(norm[12])\.", r"blocks.\1.\2."),
    (r"encoder\.norm\.", "norm."),
    (r"decoder_embed\.", "decoder.narrow."),
    (rf"{_DECODER}0\.norm\.", r"decoder.blocks.\1.norm1."),
    (rf"{_DECODER}0\.fn\.fast_attention\.", r"decoder.blocks.\1.attention.kernel."),
    (rf"{_DECODER}0\.fn\.to_q\.", r"decoder.blocks.\1.attention.query."),
    (rf"{_DECODER}0\.fn\.to_k\.", r"decoder.blocks.\1.attention.key."),
    (rf"{_DECODER}0\.fn\.to_v\.", r"decoder.blocks.\1.attention.value."),
    (rf"{_DECODER}0\.fn\.to_out\.", r"decoder.blocks.\1.attention.out."),
    (rf"{_DECODER}1\.norm\.", r"decoder.blocks.\1.norm2."),
    (rf"{_DECODER}1\.fn\.fn\.w1\.", r"decoder.blocks.\1.feedforward.up."),
    (rf"{_DECODER}1\.fn\.fn\.w2\.", r"decoder.blocks.\1.feedforward.down."),
    (r"decoder\.norm\.", "decoder.inner_norm."),
    (r"norm\.", "decoder.norm."),
    (r"to_final\.", "decoder.out."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors inside whether this is scFoundation."""
    return _weights_of(path) is not None


def read_scfoundation(
    path: str | Path, *, part: str | None = None, genes: str | Path | None = None
) -> ReadModel:
    """Read weights, settings and the list of genes, strictly.

    Parameters
    ----------
    path
        ``models.ckpt``, a folder with it, or a file of one model.
    part
        Which of the three models: ``"cell"`` (when not given), ``"gene"`` or ``"rde"``.
    genes
        ``OS_scRNA_gene_index.19264.tsv``, when it is neither beside the weights nor above them.
    """
    path = Path(path)
    if part is not None and part not in PARTS:
        msg = f"part={part!r} is none of scFoundation's. Use one of {', '.join(PARTS)}."
        raise ConfigError(msg)
    weights = path if path.is_file() else _weights_of(path)
    if weights is None:
        msg = f"{str(path)!r} has no models.ckpt with scFoundation's weights. Download it."
        raise UnreadableFileError(msg)
    named = _named_part(weights, part)
    listed = _gene_list(weights.parent, genes)
    checkpoint = read_checkpoint(weights, entry=(named,) if named else (), prefixes=_PREFIXES)
    config = ScfoundationConfig.from_published(
        _settings(weights, checkpoint),
        checkpoint.tensors,
        source=weights,
        part=named,
        licence=LICENCE,
    )
    tokenizer = _tokenizer(listed, config)
    network = ScfoundationNetwork(config)
    report = fill(
        network, checkpoint.tensors, source=weights, rename=renamed_by(_NAMES), ignored=_IGNORED
    )
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=checkpoint.container,
    )


def _weights_of(path: Path) -> Path | None:
    """Return the file of scFoundation's weights: the path itself, or in the folder."""
    homes = [path] if path.is_file() else [path, path / "models", path / "model" / "models"]
    return next((f for h in homes for f in files_with(h, _FILES, signs=_MARKS)), None)


def _named_part(weights: Path, part: str | None) -> str:
    """Return the entry to descend to; empty when the file holds one model alone."""
    held = [p for p in PARTS if p in peek_names(weights)] if part is None else []
    if part is None and "cell" not in held and held:
        msg = f"{str(weights)!r} holds the models {', '.join(held)}. Name one with `part`."
        raise ConfigError(msg)
    return part or ("cell" if held else "")


def _settings(weights: Path, checkpoint: Checkpoint) -> Mapping[str, object]:
    """Return the flat settings: from the file itself, else ``config.json`` beside it."""
    beside = weights.parent / "config.json"
    config = checkpoint.extra.get("config")
    if config is None and beside.is_file():
        config = read_json(beside)
    return flattened(config)


def _gene_list(folder: Path, given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    homes = [folder, folder.parent, folder.parent.parent, folder / "model"]
    return find_companion(homes, _GENES, what="list of genes OS_scRNA_gene_index.19264.tsv")


def _tokenizer(path: Path, config: ScfoundationConfig) -> ScfoundationTokenizer:
    size_of(path, DEFAULT_LIMITS.header_bytes)
    genes = read_gene_order(path)
    if len(genes) != config.n_genes or len(set(genes)) != len(genes):
        msg = (
            f"{str(path)!r} lists {len(genes)} genes ({len(set(genes))} different); the weights "
            f"have {config.n_genes}. Give the list that was published with these weights."
        )
        raise StateMismatchError(msg)
    return ScfoundationTokenizer.from_genes(genes)
