"""Leave out attention heads that do least.

Michel et al. 2019 rank heads by what the loss loses; without labels we rank by what they write:
the mean norm of a head's part of the attention's output, over given cells.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch

from cellweave.errors import ConfigError
from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.models.cell_model import CellModel

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["head_importance", "prune_heads"]


@torch.inference_mode()
def head_importance(model: CellModel, adata: AnnData) -> np.ndarray:
    """Return ``(blocks, heads)``: the mean norm of what each head adds."""
    layers = _attention_layers(model)
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
    """Return a copy in which the ``share`` of heads that adds least writes nothing.

    Shapes stay, so the folder stays loadable; every block keeps at least one head.
    """
    if not 0 <= share < 1:
        msg = f"share is {share}. Expected at least 0 and below 1."
        raise ConfigError(msg)
    importance = head_importance(model, adata)
    pruned = copy.deepcopy(model)
    importance[np.arange(len(importance)), importance.argmax(1)] = np.inf
    order = np.argsort(importance, axis=None)
    chosen = order[: int(share * importance.size)]
    layers = _attention_layers(pruned)
    with torch.no_grad():
        for block, head in zip(*np.unravel_index(chosen, importance.shape), strict=True):
            layer = layers[block]
            if np.isfinite(importance[block, head]):
                start = int(head) * layer.head_width
                layer.out.weight[:, start : start + layer.head_width] = 0.0
    return pruned


def _attention_layers(model: CellModel) -> list[SelfAttention]:
    layers = [m for m in model.encoder.modules() if isinstance(m, SelfAttention)]
    if not layers or len({layer.heads for layer in layers}) > 1:
        msg = f"{model.config.encoder.name!r} has no attention heads of one number to prune."
        raise ConfigError(msg)
    return layers
