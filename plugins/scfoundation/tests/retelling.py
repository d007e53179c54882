"""scFoundation told plainly in numpy float64, from its formulas alone."""

import numpy as np
from scipy.special import erf


def numbers(state):
    return {k: np.asarray(v, dtype=np.float64) for k, v in state.items()}


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def normed(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def value_rows(w, values):
    h = linear(w, "token_emb.mlp", np.asarray(values, dtype=np.float64)[:, None])
    h = np.where(h > 0, h, 0.1 * h)
    rows = softmax(h + linear(w, "token_emb.mlp2", h)) @ w["token_emb.emb.weight"]
    rows[np.asarray(values) == 102] = w["token_emb.emb_mask.weight"][0]
    rows[np.asarray(values) == 103] = w["token_emb.emb_pad.weight"][0]
    return rows


def heads_of(x, heads):
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def encoder(w, values, ids, heads):
    """Return the encoder's output for one cell, and its attention a block."""
    x = value_rows(w, values) + w["pos_emb.weight"][ids]
    depth = 1 + max(int(k.split(".")[2]) for k in w if k.startswith("encoder.transformer_encoder."))
    maps = []
    for i in range(depth):
        stem = f"encoder.transformer_encoder.{i}"
        qkv = x @ w[f"{stem}.self_attn.in_proj_weight"].T + w[f"{stem}.self_attn.in_proj_bias"]
        q, k, v = (heads_of(part, heads) for part in np.split(qkv, 3, axis=1))
        weights = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]))
        maps.append(weights)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
        x = normed(w, f"{stem}.norm1", x + linear(w, f"{stem}.self_attn.out_proj", mixed))
        wide = np.maximum(linear(w, f"{stem}.linear1", x), 0)
        x = normed(w, f"{stem}.norm2", x + linear(w, f"{stem}.linear2", wide))
    return normed(w, "encoder.norm", x), maps


def favor(q, k, v, projection):
    """Attend by positive random features, the published maxima subtracted."""
    m, s = len(projection), q.shape[-1] ** -0.25
    top_q = s * q @ projection.T
    top_k = s * k @ projection.T
    half_q, half_k = (0.5 * s**2 * (x**2).sum(-1, keepdims=True) for x in (q, k))
    phi_q = m**-0.5 * (np.exp(top_q - half_q - top_q.max(-1, keepdims=True)) + 1e-4)
    phi_k = m**-0.5 * (np.exp(top_k - half_k - top_k.max()) + 1e-4)
    return phi_q @ (phi_k.transpose(0, 2, 1) @ v) / (phi_q @ phi_k.sum(1)[..., None])


def decoder(w, values, ids, heads, decoder_heads):
    """Return the decoder's states and values of all positions of one cell."""
    n = len(w["pos_emb.weight"]) - 1
    rows = value_rows(w, np.zeros(n))
    rows[ids] = encoder(w, values, ids, heads)[0]
    x = linear(w, "decoder_embed", rows + w["pos_emb.weight"][:n])
    depth = 1 + max(int(k.split(".")[4]) for k in w if k.startswith("decoder.performer.net."))
    for i in range(depth):
        stem = f"decoder.performer.net.layers.{i}"
        seen = normed(w, f"{stem}.0.norm", x)
        q, k, v = (heads_of(linear(w, f"{stem}.0.fn.to_{p}", seen), decoder_heads) for p in "qkv")
        out = favor(q, k, v, w[f"{stem}.0.fn.fast_attention.projection_matrix"])
        x = x + linear(w, f"{stem}.0.fn.to_out", out.transpose(1, 0, 2).reshape(n, -1))
        wide = linear(w, f"{stem}.1.fn.fn.w1", normed(w, f"{stem}.1.norm", x))
        x = x + linear(w, f"{stem}.1.fn.fn.w2", wide * 0.5 * (1 + erf(wide / np.sqrt(2))))
    states = normed(w, "norm", normed(w, "decoder.norm", x))
    return states, linear(w, "to_final", states)[:, 0]


def tokens(counts, target=4.0, source=None):
    """Return values and gene indices of one cell from its raw counts over the list."""
    total = counts.sum()
    values = np.concatenate(
        [np.log1p(counts / total * 1e4), [target, np.log10(total) if source is None else source]]
    )
    ids = np.flatnonzero(values > 0)
    return values[ids], ids


def pooled(states):
    return np.concatenate([states[-1], states[-2], states[:-2].max(0), states[:-2].mean(0)])
