"""Take out the attention heads that do least.

Michel et al. 2019 rank heads by what the loss loses; without labels we rank by what they write:
the mean norm of a head's part of the attention's output, over given cells.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave_nn.adapt.shrunk import remove_heads
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.models.cell_model import CellModel

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["head_importance", "prune_heads"]


@torch.inference_mode()
def head_importance(model: CellModel, adata: AnnData) -> np.ndarray:
    """Return ``(blocks, heads)``: the mean norm of what each head adds."""
    layers = list(_attention_layers(model).values())
    sums = [torch.zeros(layer.heads) for layer in layers]

    def watch(index: int) -> torch.utils.hooks.RemovableHandle:
        def hook(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            layer = layers[index]
            mixed = args[0].reshape(-1, layer.heads, layer.head_width)
            weight = layer.out.weight.view(-1, layer.heads, layer.head_width)
            written = torch.einsum("thk,dhk->thd", mixed, weight)
            sums[index] += written.norm(dim=-1).sum(0)

        return layers[index].out.register_forward_pre_hook(hook)

    handles = [watch(i) for i in range(len(layers))]
    try:
        model.embed(adata)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(sums).numpy()


def prune_heads(model: CellModel, adata: AnnData, *, share: float) -> CellModel:
    """Return a copy without the ``share`` of heads that adds least.

    The heads are gone: projections have fewer rows, and the copy is smaller and faster. Every
    layer keeps at least one head. It is saved, loaded and fine-tuned as any other.
    """
    if not 0 <= share < 1:
        msg = f"share is {share}. Expected at least 0 and below 1."
        raise ConfigError(msg)
    if model.config.removed_heads or model.config.precision != "fp32":
        msg = "The model is pruned or quantised already. Prune the one it was made from."
        raise ConfigError(msg)
    importance = head_importance(model, adata)
    pruned = copy.deepcopy(model)
    removed = _least_important(_attention_layers(pruned), importance, share)
    for name, layer in _attention_layers(pruned).items():
        if name in removed:
            remove_heads(layer, removed[name])
    pruned.config = model.config.model_copy(update={"removed_heads": removed})
    return pruned


def _least_important(
    layers: Mapping[str, SelfAttention], importance: np.ndarray, share: float
) -> dict[str, list[int]]:
    """Choose heads by layer; the best of each layer is never chosen."""
    ranked = importance.copy()
    ranked[np.arange(len(ranked)), ranked.argmax(1)] = np.inf
    order = np.argsort(ranked, axis=None, kind="stable")[: int(share * ranked.size)]
    names, removed = list(layers), dict[str, list[int]]()
    for block, head in zip(*np.unravel_index(order, ranked.shape), strict=True):
        if np.isfinite(ranked[block, head]):
            removed.setdefault(names[block], []).append(int(head))
    return {name: sorted(heads) for name, heads in removed.items()}


def _attention_layers(model: CellModel) -> dict[str, SelfAttention]:
    layers = {n: m for n, m in model.encoder.named_modules() if isinstance(m, SelfAttention)}
    if not layers or len({layer.heads for layer in layers.values()}) > 1:
        msg = f"{model.config.encoder.name!r} has no attention heads of one number to prune."
        raise ConfigError(msg)
    return layers
