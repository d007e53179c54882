"""Read scBERT as published: ``panglao_pretrain.pth`` or a fine-tuned ``*_best.pth``.

The file holds a dictionary of training state around ``model_state_dict``. The order of genes is
not published as a list: it is that of ``panglao_human.h5ad`` (``var_names``), which must stand
beside the weights, or a text file with one symbol a line.
"""

from __future__ import annotations

from pathlib import Path

from cellweave.errors import StateMismatchError
from cellweave_nn.checkpoints import (
    ReadModel,
    files_with,
    fill,
    find_companion,
    read_checkpoint,
    renamed_by,
)
from cellweave_rna.tables import read_gene_order
from cellweave_scbert.config import ScbertConfig
from cellweave_scbert.network import ScbertNetwork
from cellweave_scbert.tokenizer import ScbertTokenizer

__all__ = ["looks_published", "read_scbert"]

_WEIGHTS = ("panglao_pretrain.pth", "*_best.pth", "*.pth", "*.pt", "model.safetensors")
_GENES = ("panglao_human.h5ad", "genes.txt", "genes.tsv", "gene_names.txt", "*.h5ad")
_LAYER = r"performer\.net\.layers\.(\d+)\."
_SIGNS = {
    "token_emb.weight",
    "pos_emb.emb.weight",
    "performer.net.layers.0.0.fn.fast_attention.projection_matrix",
}
_IGNORED = {r"performer\.calls_since_last_redraw": "a counter, features are never drawn again"}
_NAMES = (
    (r"token_emb\.", "values."),
    (r"pos_emb\.emb\.", "genes."),
    (rf"{_LAYER}0\.norm\.", r"blocks.\1.norm1."),
    (rf"{_LAYER}0\.fn\.to_q\.", r"blocks.\1.attention.query."),
    (rf"{_LAYER}0\.fn\.to_k\.", r"blocks.\1.attention.key."),
    (rf"{_LAYER}0\.fn\.to_v\.", r"blocks.\1.attention.value."),
    (rf"{_LAYER}0\.fn\.to_out\.", r"blocks.\1.attention.out."),
    (rf"{_LAYER}0\.fn\.fast_attention\.", r"blocks.\1.attention.kernel."),
    (rf"{_LAYER}1\.norm\.", r"blocks.\1.norm2."),
    (rf"{_LAYER}1\.fn\.fn\.w1\.", r"blocks.\1.feedforward.up."),
    (rf"{_LAYER}1\.fn\.fn\.w2\.", r"blocks.\1.feedforward.down."),
    (r"to_out\.(conv1|fc[123])\.", r"label.\1."),
    (r"to_out\.", "masked."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors whether this is scBERT; none is read."""
    return bool(files_with(path, _WEIGHTS, signs=_SIGNS))


def read_scbert(path: str | Path, *, genes: str | Path | None = None) -> ReadModel:
    """Read weights and the order of genes, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, or the file of weights in it.
    genes
        ``panglao_human.h5ad``, or a text file with one symbol a line, when not beside the weights.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    what = "file of weights panglao_pretrain.pth"
    weights = path if path.is_file() else find_companion([folder], _WEIGHTS, what=what)
    order = Path(genes) if genes is not None else _order_beside(folder)
    checkpoint = read_checkpoint(weights)
    config = ScbertConfig.from_tensors(checkpoint.tensors, source=weights)
    tokenizer = _tokenizer(order, config)
    network = ScbertNetwork(config)
    report = fill(
        network,
        checkpoint.tensors,
        source=weights,
        rename=renamed_by(_NAMES),
        ignored=_IGNORED,
    )
    return ReadModel(
        config=config,
        network=network.eval(),
        tokenizer=tokenizer,
        report=report,
        container=checkpoint.container,
    )


def _order_beside(folder: Path) -> Path:
    what = "order of genes (panglao_human.h5ad, or genes.txt with one symbol a line)"
    return find_companion([folder], _GENES, what=what)


def _tokenizer(path: Path, config: ScbertConfig) -> ScbertTokenizer:
    genes = read_gene_order(path)
    if len(genes) != config.n_ids - 1:
        msg = (
            f"{str(path)!r} has {len(genes)} genes; the weights have {config.n_ids} places, one "
            "more than genes. Give panglao_human.h5ad, or a list of its var_names in their order."
        )
        raise StateMismatchError(msg)
    return ScbertTokenizer.from_genes(genes, n_bins=config.n_values - 2)
