"""GeneMamba told plainly in numpy float64: the recurrence token by token."""

import numpy as np


def numbers(state):
    return {k: np.asarray(v, dtype=np.float64) for k, v in state.items()}


def silu(x):
    return x / (1 + np.exp(-x))


def rms(x, weight):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight


def mamba(w, stem, x):
    """Run one Mamba-2 over ``(length, width)`` from left to right."""
    inner, heads = len(w[f"{stem}.norm.weight"]), len(w[f"{stem}.A_log"])
    state = (len(w[f"{stem}.conv1d.weight"]) - inner) // 2
    projected = x @ w[f"{stem}.in_proj.weight"].T
    z, xbc, dt = np.split(projected, [inner, 2 * inner + 2 * state], axis=1)
    kernel = w[f"{stem}.conv1d.weight"][:, 0]
    taps = kernel.shape[1]
    before = np.concatenate([np.zeros((taps - 1, xbc.shape[1])), xbc])
    mixed = np.stack([(before[t : t + taps].T * kernel).sum(1) for t in range(len(x))])
    mixed = silu(mixed + w[f"{stem}.conv1d.bias"])
    u, b, c = np.split(mixed, [inner, inner + state], axis=1)
    dt = np.log1p(np.exp(dt + w[f"{stem}.dt_bias"]))
    a = -np.exp(w[f"{stem}.A_log"])
    memory = np.zeros((heads, inner // heads, state))
    rows = []
    for t in range(len(x)):
        u_t = u[t].reshape(heads, -1)
        decay = np.exp(dt[t] * a)[:, None, None]
        memory = decay * memory + (dt[t][:, None] * u_t)[:, :, None] * b[t]
        rows.append((memory @ c[t] + w[f"{stem}.D"][:, None] * u_t).ravel())
    return rms(np.array(rows) * silu(z), w[f"{stem}.norm.weight"]) @ w[f"{stem}.out_proj.weight"].T


def states(w, ids, fuse, n_real=None):
    """Return the states after 0, 1 … blocks, the last one normalised.

    ``n_real`` tokens are turned round; all of them when not given, padding too.
    """
    x = w["embeddings.weight"][ids]
    n = len(ids) if n_real is None else n_real
    order = np.concatenate([np.arange(n)[::-1], np.arange(n, len(ids))])
    found = [x]
    depth = 1 + max(int(k.split(".")[2]) for k in w if k.startswith("mamba_mixer.layers."))
    for i in range(depth):
        stem = f"mamba_mixer.layers.{i}.mamba"
        f = mamba(w, stem, x) + x
        b = (mamba(w, stem, x[order]) + x[order])[order]
        if fuse in ("mean", "sum"):
            x = (f + b) * (0.5 if fuse == "mean" else 1)
        else:
            mixed = np.concatenate([f, b], axis=1) @ w["mamba_mixer.aggr.weight"].T
            mixed = mixed + w["mamba_mixer.aggr.bias"]
            z = 1 / (1 + np.exp(-mixed))
            x = mixed if fuse == "concat" else z * f + (1 - z) * b
        found.append(x)
    found[-1] = rms(x, w["norm_f.weight"])
    return found


def classifier(w, cell):
    for at in (0, 4):
        x = w[f"classifier.layers.{at}.weight"] @ cell + w[f"classifier.layers.{at}.bias"]
        norm = {k: w[f"classifier.layers.{at + 1}.{k}"] for k in ("running_mean", "running_var")}
        x = (x - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
        x = x * w[f"classifier.layers.{at + 1}.weight"] + w[f"classifier.layers.{at + 1}.bias"]
        cell = np.where(x > 0, x, 0.1 * x)
    return w["classifier.layers.8.weight"] @ cell + w["classifier.layers.8.bias"]
