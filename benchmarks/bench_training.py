"""Training throughput on this machine.

    python benchmarks/bench_training.py [--quick]

One step (masked tokens, forward, backward, AdamW) of Hugging Face BertForMaskedLM and of ours:
same sizes, same tokens, same 15 % hidden, float32. MFU counts matrix products that are needed and
nothing else (6 N_block a token, 12 n L² d a cell, the head at hidden places), against the GEMM rate
measured in the same process. Then ragged against padded cells; whole steps of Hugging Face's
Trainer (which needs accelerate) and of ours; and `cellweave estimate` beside what is paid. Best
of several steps, in CPU time (set OMP_NUM_THREADS=1), so that other work on the machine counts
little.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
import scipy.sparse as sp
import torch

from cellweave.records import Tokens
from cellweave_nn.batch import TokenBatch
from cellweave_nn.encoders.transformer import TransformerEncoder
from cellweave_nn.objectives.composed import Composed, WeightedObjective
from cellweave_nn.objectives.masked_token import MaskedToken
from cellweave_nn.training.loop import Trainer as OurTrainer
from cellweave_nn.training.loop import make_optimizer
from cellweave_nn.training.model import PretrainingModel
from cellweave_nn.training.run_folder import read_metrics
from cellweave_nn.training.settings import TrainingSettings
from cellweave_nn.training.source import TokenSource

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
    print("\nragged against padded, 6 x 256, in turns")
    print(f"{'waste':>7}{'cells':>7}{'longest':>9}{'padded ms':>11}{'ragged ms':>11}{'ratio':>7}")
    cells, longest = (4, 128) if quick else (16, 512)
    even = [longest] * cells
    uneven = np.linspace(0.111 * longest, longest, cells).astype(int)
    for lengths in (even, uneven.tolist()):
        batch = batch_of(lengths)
        waste = max(lengths) * len(lengths) / sum(lengths)
        model = our_model(6, 256, 4, 512)
        padded, ragged = in_turns(
            our_step(model, batch, padded=True), our_step(model, batch), repeats
        )
        print(f"{waste:>7.2f}{cells:>7}{longest:>9}{padded * 1e3:>11.0f}{ragged * 1e3:>11.0f}"
              f"{padded / ragged:>7.2f}")  # fmt: skip


def in_turns(one, other, repeats):
    """Time two steps one after the other, so that a slow minute slows both."""
    one()
    other()
    times = ([], [])
    for _ in range(repeats):
        for run, taken in zip((one, other), times, strict=True):
            begun = time.process_time()
            run()
            taken.append(time.process_time() - begun)
    return min(times[0]), min(times[1])


# -------------------------------------------------------------------- whole trainers


def their_trainer(depth, width, heads, hidden, rows, cells, steps):
    """Return the CPU seconds of each step of Hugging Face's Trainer."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Stamps(TrainerCallback):
        def __init__(self):
            self.ends = []

        def on_step_end(self, *_, **__):
            self.ends.append(time.process_time())

    def collate(batch):
        ids = torch.stack([row["input_ids"] for row in batch])
        hide = torch.rand(ids.shape) < HIDDEN
        labels = ids.masked_fill(~hide, -100)
        return {"input_ids": ids.masked_fill(hide, 1), "labels": labels}

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
    stamps = Stamps()
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place, per_device_train_batch_size=cells, max_steps=steps, use_cpu=True,
            report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            optim="adamw_torch_fused", remove_unused_columns=False,
        )  # fmt: skip
        data = [{"input_ids": row} for row in rows]
        Trainer(
            model=BertForMaskedLM(config), args=arguments, train_dataset=data,
            data_collator=collate, callbacks=[stamps],
        ).train()  # fmt: skip
    return np.diff(stamps.ends)


def our_trainer(depth, width, heads, hidden, rows, cells, steps):
    """Return the CPU seconds of each step of ours, guard, metrics and clipping included."""
    length = rows.shape[1]
    tokens = Tokens(
        offsets=np.arange(len(rows) + 1, dtype=np.int64) * length,
        ids=rows.numpy().astype(np.int32).ravel(),
        obs_names=np.array([f"cell{i}" for i in range(len(rows))]),
    )
    source = TokenSource(tokens=tokens, special={"pad": 0, "mask": 1}, n_ids=VOCABULARY)
    ends = []
    OurTrainer(
        model=our_model(depth, width, heads, hidden),
        source=source,
        settings=TrainingSettings(steps=steps, cells_per_slot=cells, device="cpu"),
        progress=lambda _: ends.append(time.process_time()),
    ).train()
    return np.diff(ends)


def beside_their_trainer(rounds, sizes, *, quick):
    """Train the same tokens with both trainers, in turns; best step of each."""
    steps = 3
    print("\nHugging Face Trainer and ours, whole steps, in turns")
    print(f"{'model':>10}{'cells':>7}{'tokens':>8}{'HF ms':>9}{'ours ms':>9}{'HF/ours':>9}"
          f"{'GFLOP/s':>9}{'HF MFU':>8}{'our MFU':>9}")  # fmt: skip
    for depth, width, heads, hidden in sizes:
        cells, length = (2, 128) if quick else (4, 512)
        shape = (cells * steps, length)
        rows = torch.randint(2, VOCABULARY, shape, generator=torch.Generator().manual_seed(0))
        size = (depth, width, heads, hidden)
        rates, theirs, ours = [], [], []
        for _ in range(rounds):
            rates.append(gemm_rate())
            theirs += their_trainer(*size, rows, cells, steps).tolist()
            ours += our_trainer(*size, rows, cells, steps).tolist()
        flops = needed_flops(depth, width, hidden, [length] * cells)
        shares = [flops / min(taken) / max(rates) for taken in (theirs, ours)]
        print(f"{depth:>4} x {width:<4}{cells:>6}{length:>8}{min(theirs) * 1e3:>9.0f}"
              f"{min(ours) * 1e3:>9.0f}{min(theirs) / min(ours):>9.2f}{max(rates) / 1e9:>9.1f}"
              f"{shares[0]:>8.0%}{shares[1]:>9.0%}", flush=True)  # fmt: skip


# -------------------------------------------------------------------- estimates


def estimates(sizes, steps):
    """Lay what `cellweave estimate` says beside what a run takes, each in its own process.

    Time is that of a step (the median of the run's), on the CPU's clock; memory is the largest of
    the whole process, from reading the cells to writing the last checkpoint and the model.
    """
    print("\nestimate against measured, ragged cells of up to 256 tokens")
    print(f"{'model':>10}{'params':>9}{'cells':>7}{'steps':>7}{'said ms':>9}{'took ms':>9}"
          f"{'ratio':>7}{'said GiB':>10}{'took GiB':>10}{'ratio':>7}")  # fmt: skip
    for depth, width, cells in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            place = Path(temporary)
            n = steps if width >= 128 else 4 * steps
            path = write_config(place, depth, width, cells, n)
            first = json.loads(command("estimate", path, "--json")[0])
            _, peak = command("pretrain", path, "--quiet")
            last = json.loads(command("estimate", path, "--json")[0])
            lines = read_metrics(place / "run" / "metrics.jsonl")
            # Said before and after, so that a machine that gets busier shows as neither.
            said = (first["seconds_per_step"] + last["seconds_per_step"]) / 2
            took = float(np.median([line["seconds"] for line in lines]))
            gib = first["peak_bytes"] / 2**30, peak / 2**30
            print(f"{depth:>4} x {width:<4}{first['parameters'] / 1e6:>7.2f} M{cells:>6}{n:>7}"
                  f"{said * 1e3:>9.0f}{took * 1e3:>9.0f}{said / took:>7.2f}"
                  f"{gib[0]:>10.2f}{gib[1]:>10.2f}{gib[0] / gib[1]:>7.2f}", flush=True)  # fmt: skip


def write_config(place, depth, width, cells, steps):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.4, 1.0, 2000) * (0.05 + rng.gamma(1.0, 0.5, (500, 1))))
    anndata.AnnData(sp.csr_matrix(np.log1p(counts).astype(np.float32))).write_h5ad(
        place / "cells.h5ad"
    )
    config = {
        "data": str(place / "cells.h5ad"),
        "output": str(place / "run"),
        "tokenizer": {"name": "nn.nonzero", "parameters": {"limit": 256}},
        "encoder": {
            "name": "nn.transformer",
            "parameters": {"width": width, "depth": depth, "heads": 4, "values": "continuous"},
        },
        "objectives": {"gep": {"name": "nn.masked_value"}, "mvc": {"name": "nn.cell_conditioned"}},
        "training": {"steps": steps, "cells_per_slot": cells, "device": "cpu"},
    }
    path = place / "config.json"
    path.write_text(json.dumps(config))
    return path


# A clock that stands still while other work has the core.
_ON_CPU_TIME = """
import sys, time
time.perf_counter = time.process_time
from cellweave.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def command(*words):
    """Run a command of ours; return what it printed and its largest memory in bytes."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _ON_CPU_TIME, *map(str, words)], stdout=out
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, words
        out.seek(0)
        return out.read(), usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("small", "large", "ragged", "trainer", "estimate"))
    parser.add_argument("--rows", help="Of the estimates, from and to, such as 4-7.")
    arguments = parser.parse_args()
    quick, only = arguments.quick, arguments.only
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32")
    repeats = 1 if quick else 3
    if only in (None, "small", "large"):
        wanted = {"small": SIZES[:1], "large": SIZES[1:]}.get(only, SIZES)
        beside_hugging_face(repeats, SIZES[:1] if quick else wanted, quick=quick)
    if only in (None, "ragged"):
        ragged_and_padded(2 * repeats, quick=quick)
    if only in (None, "trainer"):
        beside_their_trainer(1 if quick else 2, SIZES[:1] if quick else SIZES, quick=quick)
    if only in (None, "estimate"):
        sizes = [
            (1, 16, 8), (1, 32, 64), (2, 64, 32), (2, 128, 128), (4, 128, 32), (6, 256, 16),
            (12, 512, 4),
        ]  # fmt: skip
        first, last = map(int, (arguments.rows or f"1-{len(sizes)}").split("-"))
        sizes = sizes[:1] if quick else sizes[first - 1 : last]
        estimates(sizes, 4 if quick else 15)


if __name__ == "__main__":
    main()
