"""Nicheformer told plainly in numpy float64, from its rules alone."""

import numpy as np


def numbers(state):
    return {k: np.asarray(v, dtype=np.float64) for k, v in state.items()}


def normed(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def states(w, ids, heads, prefix=""):
    """Return the states of one cell after 0, 1, 2 … blocks, padding included, and its attention.

    ``ids`` is the whole padded sequence; 1 is padding, which no place looks at.
    """
    x = w[f"{prefix}embeddings.weight"][ids] + w[f"{prefix}positional_embedding.weight"]
    found, maps = [x], []
    stem = f"{prefix}encoder.layers."
    depth = 1 + max(int(k.removeprefix(stem).split(".")[0]) for k in w if k.startswith(stem))
    for i in range(depth):
        at = f"{stem}{i}"
        qkv = x @ w[f"{at}.self_attn.in_proj_weight"].T + w[f"{at}.self_attn.in_proj_bias"]
        q, k, v = (
            p.reshape(len(x), heads, -1).transpose(1, 0, 2) for p in np.split(qkv, 3, axis=1)
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        scores[:, :, ids == 1] = -np.inf
        maps.append(softmax(scores))
        mixed = (maps[-1] @ v).transpose(1, 0, 2).reshape(len(x), -1)
        out = mixed @ w[f"{at}.self_attn.out_proj.weight"].T + w[f"{at}.self_attn.out_proj.bias"]
        x = normed(w, f"{at}.norm1", x + out)
        wide = np.maximum(x @ w[f"{at}.linear1.weight"].T + w[f"{at}.linear1.bias"], 0)
        out = wide @ w[f"{at}.linear2.weight"].T + w[f"{at}.linear2.bias"]
        x = normed(w, f"{at}.norm2", x + out)
        found.append(x)
    return found, maps


def tokens(counts, mean, context=(), *, mode="raw"):
    """Return the ids of one cell by the authors' steps; a gap in the mean means no token."""
    mean = mean.copy()
    if mode != "raw":
        mean = np.nan_to_num(mean)
    if mode == "rounded":
        mean = np.floor(mean + 0.5)
    mean[mean == 0] = 1
    values = counts / max(counts.sum(), 1) * 1e4 / mean
    measured = np.flatnonzero((values != 0) & ~np.isnan(values))
    order = measured[np.argsort(-values[measured], kind="stable")]
    return np.concatenate([np.asarray(context, dtype=int), order + 30])


def padded(ids, length):
    out = np.ones(length, dtype=int)
    out[: min(len(ids), length)] = ids[:length]
    return out
