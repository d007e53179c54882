"""Read UCE as published: ``4layer_model.torch`` or ``33l_8ep_1024t_1280.torch``, and its tables.

Beside the weights: ``species_chrom.csv``, ``species_offsets.pkl`` and ``protein_embeddings/``
(figshare 24320806). The weights hold the vectors of all tokens; ``all_tokens.torch`` is needed only
for species that the authors did not have.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cellweave.errors import ConfigError, StateMismatchError
from cellweave_nn.checkpoints import (
    ReadModel,
    files_with,
    fill,
    head_count,
    one_file_with,
    read_checkpoint,
    renamed_by,
)
from cellweave_nn.checkpoints.limits import DEFAULT_LIMITS, refuse
from cellweave_nn.checkpoints.torch_files import read_torch_file
from cellweave_uce.config import VECTORS, UceConfig
from cellweave_uce.genome import read_genome
from cellweave_uce.network import UceNetwork
from cellweave_uce.tokenizer import UceTokenizer

__all__ = ["looks_published", "read_uce"]

_WEIGHTS = ("33l_8ep_1024t_1280.torch", "4layer_model.torch", "*.torch", "model.safetensors")
_SIGNS = {VECTORS, "gene_embedding_layer.0.weight", "pos_encoder.pe"}
_HEADS = 20
_GENES_ALONE, _CHROMOSOMES, _SEED = 143_574, 1_895, 23
_LAYER = r"transformer_encoder\.layers\.(\d+)\."
_NAMES = (
    (r"pos_encoder\.pe", "waves"),
    (r"pe_embedding\.", "vectors."),
    (r"encoder\.", "rows."),
    (rf"{_LAYER}self_attn\.in_proj_", r"blocks.\1.attention.qkv."),
    (rf"{_LAYER}self_attn\.out_proj\.", r"blocks.\1.attention.out."),
    (rf"{_LAYER}linear1\.", r"blocks.\1.feedforward.up."),
    (rf"{_LAYER}linear2\.", r"blocks.\1.feedforward.down."),
    (rf"{_LAYER}(norm[12])\.", r"blocks.\1.\2."),
    (r"gene_embedding_layer\.", "genes."),
    (r"binary_decoder\.", "binary."),
)


def looks_published(path: Path) -> bool:
    """Tell from the names of tensors whether this is UCE; none is read."""
    return bool(files_with(path, _WEIGHTS, signs=_SIGNS))


def read_uce(
    path: str | Path,
    *,
    species: str | Path | None = None,
    genes: str | Path | None = None,
    tokens: str | Path | None = None,
    heads: str | Path | None = None,
    places: str | Path | None = None,
) -> ReadModel:
    """Read weights and tables for one species, strictly.

    Parameters
    ----------
    path
        Folder as downloaded, or the file of weights in it.
    species
        ``"human"`` when not given; ``"mouse"``, ``"frog"`` and so on.
    genes
        The species' file of protein vectors, or its symbols one a line, when not in the folder.
    tokens
        ``all_tokens.torch`` of a species of your own; replaces the vectors in the weights.
    heads
        Attention heads, which no file tells; 20, as published, when not given.
    places
        ``"none"`` leaves out the waves of places; see the docs.
    """
    path = Path(path)
    folder = path.parent if path.is_file() else path
    what = "file of weights 4layer_model.torch or 33l_8ep_1024t_1280.torch"
    weights = path if path.is_file() else one_file_with(folder, _WEIGHTS, signs=_SIGNS, what=what)
    if places not in (None, "waves", "none"):
        msg = f"places={places!r} is unknown. Use 'waves' (as published) or 'none'."
        raise ConfigError(msg)
    checkpoint = read_checkpoint(weights)
    tensors = dict(checkpoint.tensors)
    if tokens is not None:
        tensors[VECTORS] = _all_tokens(Path(tokens))
    name = "human" if species is None else str(species)
    config = UceConfig.from_tensors(
        tensors,
        n_ids=0,
        species=name,
        heads=head_count(heads, usual=_HEADS),
        places=places != "none",
        source=weights,
    )
    _check_width(tensors[VECTORS], config.vector_width, weights)
    genome = read_genome(
        [folder, folder.parent],
        species=name,
        n_rows=len(tensors[VECTORS]),
        genes=None if genes is None else Path(genes),
    )
    tensors[VECTORS] = tensors[VECTORS][torch.from_numpy(genome.rows)]
    tensors["pos_encoder.pe"] = tensors["pos_encoder.pe"].flatten(0, 1)
    config = replace(config, n_ids=len(genome.rows))
    tokenizer = UceTokenizer.from_genome(
        genome.genes, genome.codes, genome.chromosomes, max_length=config.n_places
    )
    network = UceNetwork(config)
    report = fill(network, tensors, source=weights, rename=renamed_by(_NAMES))
    return ReadModel(
        config=config,
        network=network,
        tokenizer=tokenizer,
        report=report,
        container=f"{checkpoint.container}, rows of {name}",
    )


def _all_tokens(path: Path) -> torch.Tensor:
    """Return the vectors of all tokens; missing ones of chromosomes are drawn, as upstream."""
    content = read_torch_file(path, DEFAULT_LIMITS)
    if not isinstance(content, torch.Tensor) or content.dim() != 2:
        raise refuse(path, "it is no table of vectors")
    if not bool(torch.isfinite(content).all()):
        raise refuse(path, "it holds NaN or infinity")
    if len(content) != _GENES_ALONE:
        return content
    generator = torch.Generator().manual_seed(_SEED)
    shape = (_CHROMOSOMES, content.shape[1])
    return torch.vstack([content, torch.normal(0.0, 1.0, shape, generator=generator)])


def _check_width(vectors: torch.Tensor, width: int, source: Path) -> None:
    if vectors.shape[1] != width:
        msg = (
            f"The vectors of tokens have {vectors.shape[1]} numbers; the weights in "
            f"{str(source)!r} take {width}. Give the table that belongs to these weights."
        )
        raise StateMismatchError(msg)
