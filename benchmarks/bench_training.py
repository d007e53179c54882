"""Training throughput on this machine.

    python benchmarks/bench_training.py [--quick]

One step (masked tokens, forward, backward, AdamW) of Hugging Face BertForMaskedLM and of ours:
same sizes, same tokens, same 15 % hidden, float32. MFU counts matrix products that are needed and
nothing else (6 N_block a token, 12 n L² d a cell, the head at hidden places), against the GEMM rate
measured in the same process. Then ragged against padded cells. Best of several steps, in CPU time
(set OMP_NUM_THREADS=1), so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.transformer import TransformerEncoder
from cellweave_nn.objectives.composed import Composed, WeightedObjective
from cellweave_nn.objectives.masked_token import MaskedToken
from cellweave_nn.training.loop import make_optimizer
from cellweave_nn.training.model import PretrainingModel
from cellweave_nn.training.settings import TrainingSettings

VOCABULARY = 25_426
HIDDEN = 0.15
SIZES = [(6, 256, 4, 512), (12, 512, 8, 1024)]


def best(run, repeats):
    run()
    times = []
    for _ in range(repeats):
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


def gemm_rate(size=1024):
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / best(lambda: a @ b, 10)


def batch_of(lengths, seed=0):
    g = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *np.cumsum(lengths).tolist()])
    ids = torch.randint(2, VOCABULARY, (int(offsets[-1]),), generator=g)
    return TokenBatch(offsets=offsets, ids=ids, special={"pad": 0, "mask": 1}, n_ids=VOCABULARY)


def needed_flops(depth, width, hidden, lengths):
    tokens = sum(lengths)
    blocks = depth * (4 * width * width + 2 * width * hidden)
    attention = 12 * depth * width * sum(n * n for n in lengths)
    head = 6 * width * (VOCABULARY + width) * HIDDEN * tokens
    return 6 * blocks * tokens + attention + head


def our_model(depth, width, heads, hidden):
    torch.manual_seed(0)
    encoder = TransformerEncoder(
        n_ids=VOCABULARY,
        width=width,
        depth=depth,
        heads=heads,
        hidden=hidden,
        places="learned",
        activation="relu",
        norm_first=False,
    )
    return PretrainingModel(
        encoder, Composed(parts={"mlm": WeightedObjective(objective=MaskedToken(fraction=HIDDEN))})
    )


def our_step(model, batch, *, padded=False):
    optimizer = make_optimizer(model, TrainingSettings())
    inner = model.encoder.forward

    def step():
        made = model.objective.corrupt(batch, torch.Generator().manual_seed(0))
        if padded:
            model.encoder.forward = lambda b: inner(b, padded=True)
        total = sum(model(made).values())
        model.encoder.forward = inner
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    return step


def bert_step(depth, width, heads, hidden, batch, length):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden,
        hidden_act="relu",
        max_position_embeddings=2048,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = batch.ids.view(-1, length)
    hide = torch.rand(ids.shape, generator=torch.Generator().manual_seed(0)) < HIDDEN
    labels = ids.masked_fill(~hide, -100)
    seen = ids.masked_fill(hide, 1)
    attention = torch.ones_like(ids)

    def step():
        loss = model(input_ids=seen, attention_mask=attention, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def beside_hugging_face(repeats, sizes, *, quick):
    rate = gemm_rate()
    print(f"GEMM rate {rate / 1e9:.1f} GFLOP/s")
    print(f"{'model':>10}{'cells':>7}{'tokens':>8}{'HF ms':>9}{'ours ms':>9}{'HF/ours':>9}"
          f"{'HF MFU':>8}{'our MFU':>9}")  # fmt: skip
    for depth, width, heads, hidden in sizes:
        cells, length = (2, 256) if quick else (4, 512)
        lengths = [length] * cells
        batch = batch_of(lengths)
        theirs = best(bert_step(depth, width, heads, hidden, batch, length), repeats)
        ours = best(our_step(our_model(depth, width, heads, hidden), batch), repeats)
        flops = needed_flops(depth, width, hidden, lengths)
        mfu = f"{flops / theirs / rate:>8.0%}{flops / ours / rate:>9.0%}"
        print(f"{depth:>4} x {width:<4}{cells:>6}{length:>8}{theirs * 1e3:>9.0f}{ours * 1e3:>9.0f}"
              f"{theirs / ours:>9.2f}{mfu}")  # fmt: skip


def ragged_and_padded(repeats, *, quick):
    print("\nragged against padded, 6 x 256")
    print(f"{'waste':>7}{'cells':>7}{'longest':>9}{'padded ms':>11}{'ragged ms':>11}{'ratio':>7}")
    cells, longest = (4, 128) if quick else (16, 512)
    even = [longest] * cells
    uneven = np.linspace(0.111 * longest, longest, cells).astype(int)
    for lengths in (even, uneven.tolist()):
        batch = batch_of(lengths)
        waste = max(lengths) * len(lengths) / sum(lengths)
        model = our_model(6, 256, 4, 512)
        padded = best(our_step(model, batch, padded=True), repeats)
        ragged = best(our_step(model, batch), repeats)
        print(f"{waste:>7.2f}{cells:>7}{longest:>9}{padded * 1e3:>11.0f}{ragged * 1e3:>11.0f}"
              f"{padded / ragged:>7.2f}")  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("small", "large", "ragged"))
    arguments = parser.parse_args()
    quick = arguments.quick
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    repeats = 1 if quick else 3
    if arguments.only != "ragged":
        wanted = {"small": SIZES[:1], "large": SIZES[1:]}.get(arguments.only, SIZES)
        beside_hugging_face(repeats, SIZES[:1] if quick else wanted, quick=quick)
    if arguments.only in (None, "ragged"):
        ragged_and_padded(repeats, quick=quick)


if __name__ == "__main__":
    main()
