"""Attention without a mask, and cost linear in length.

    python benchmarks/bench_attention.py [--quick]

Generative attention (forward and backward) beside the masked-math form and SDPA with the mask;
the state-space mixer beside SDPA as cells get longer. Best of several runs,
in CPU time of one process (set OMP_NUM_THREADS=1), so that other work does not count.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch.nn import functional as F

from cellweave_nn.layers.attention import SelfAttention
from cellweave_nn.layers.generative import generative_attention
from cellweave_nn.layers.layout import padded_layout
from cellweave_nn.layers.mamba import Mamba2


def best(run, repeats):
    run()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


def masked_math(q, k, v, allowed):
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v


def allowed_pairs(known):
    own = torch.eye(known.shape[1], dtype=torch.bool)
    allowed = torch.where(known[:, :, None], known[:, None, :], known[:, None, :] | own)
    return allowed[:, None]


def generative(repeats):
    print("generative attention, forward + backward, ms")
    print(f"{'cells':>6}{'tokens':>8}{'heads':>6}{'known':>7}{'masked':>9}{'sdpa':>9}{'ours':>9}"
          f"{'masked/ours':>13}{'sdpa/ours':>11}{'error':>10}")  # fmt: skip
    for cells, length, share in [(4, 512, 0.5), (4, 1200, 0.25), (4, 1200, 0.5), (4, 1200, 0.75)]:
        g = torch.Generator().manual_seed(0)
        q, k, v = (
            torch.randn(cells, length, 8, 64, generator=g, requires_grad=True) for _ in range(3)
        )
        order = torch.rand(cells, length, generator=g).argsort(1)
        known = order < int(length * share)
        allowed = allowed_pairs(known)
        grad = torch.randn(cells, length, 8, 64, generator=g)

        def heads_first():
            return (t.transpose(1, 2) for t in (q, k, v))  # noqa: B023

        def masked():
            return masked_math(*heads_first(), allowed).transpose(1, 2)  # noqa: B023

        def sdpa():
            out = F.scaled_dot_product_attention(*heads_first(), attn_mask=allowed)  # noqa: B023
            return out.transpose(1, 2)

        def ours():
            return generative_attention(q, k, v, known)  # noqa: B023

        error = (masked() - ours()).abs().max().item()
        forms = (masked, sdpa, ours)
        t = [best(lambda f=f, g=grad: f().backward(g), repeats) for f in forms]
        print(f"{cells:>6}{length:>8}{8:>6}{share:>7.2f}{t[0] * 1e3:>9.1f}{t[1] * 1e3:>9.1f}"
              f"{t[2] * 1e3:>9.1f}{t[0] / t[2]:>13.2f}{t[1] / t[2]:>11.2f}"
              f"{error:>10.1e}")  # fmt: skip


def linear(repeats, lengths, width=256):
    print(f"\nmixers of one cell, width {width}, forward + backward, ms")
    print(f"{'tokens':>8}{'sdpa':>10}{'mamba-2':>10}{'sdpa/mamba':>12}{'µs a token (mamba)':>21}")
    torch.manual_seed(0)
    attention = SelfAttention(width, 4)
    mamba = Mamba2(width)
    for length in lengths:
        x = torch.randn(1, length, width)
        layout = padded_layout((length,))

        def attend():
            attention(x, layout).sum().backward()  # noqa: B023

        def scan():
            mamba(x).sum().backward()  # noqa: B023

        runs = repeats if length <= 4096 else 1
        a, b = best(attend, runs), best(scan, runs)
        print(f"{length:>8}{a * 1e3:>10.1f}{b * 1e3:>10.1f}{a / b:>12.2f}{b / length * 1e6:>21.1f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("generative", "linear"))
    arguments = parser.parse_args()
    quick = arguments.quick
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    if arguments.only != "linear":
        generative(1 if quick else 5)
    if arguments.only == "generative":
        return
    linear(1 if quick else 3, (1024, 2048) if quick else (2048, 4096, 8192, 16384))


if __name__ == "__main__":
    main()
