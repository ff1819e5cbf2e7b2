"""Measure truncation, teacher forcing and a large reservoir.

    python benchmarks/bptt.py [truncation] [teacher] [reservoir] [--steps N] [--window N] [--quick]

truncation: first a network trains on one sequence of a million steps, in windows, to say which of
two values it read last. What is printed is the peak memory of the whole process after a first ten
windows, how much it grew from there, and the share of right answers on another sequence. (This
comes first, as a peak never falls.) The table then compares one pass of `fit` over a sequence as a
whole with the same in windows (`truncate`): what autograd keeps for the way back, and seconds.

teacher: a training step of a Jordan cell, all steps at once with the truth fed back, and one by one
with its own outputs; medians, turn and turn about.

reservoir: an echo state network of 2,000 units fitted to 50,000 steps: seconds, and the peak memory
of the whole process so far (name it alone to have its own).
"""

import argparse
import platform
import resource
import statistics
import sys
import time
from functools import partial

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

import companion
from companion.bptt import EchoState, SavedForBackward
from companion.recurrent import RNN, JordanCell, Stack, Unroll
from companion.sequences import mackey_glass
from companion.training import evaluate, fit

LENGTHS = (250, 500, 1000, 2000, 4000, 8000)
BATCH, FEATURES, UNITS = 8, 2, 64


def network():
    torch.manual_seed(0)
    return Stack(RNN(FEATURES, UNITS), nn.Linear(UNITS, 1))


def cost(steps, window):
    """Bytes kept for the way back and seconds of one pass."""
    x, target = torch.randn(steps, BATCH, FEATURES), torch.randn(steps, BATCH, 1)
    train = partial(
        fit, network(), [(x, target)], mse_loss, epochs=1, truncate=window, progress=False
    )
    with SavedForBackward() as saved:
        train()
    start = time.perf_counter()
    train()
    return saved.peak, time.perf_counter() - start


def last_bit(steps, rows, seed):
    """A stream that holds a bit, +1 or -1, once in ten steps on average; say the latest."""
    generator = torch.Generator().manual_seed(seed)
    shown = torch.rand(steps, rows, generator=generator) < 0.1
    shown[0] = True
    bits = torch.randint(2, (steps, rows), generator=generator) * 2.0 - 1
    when = torch.where(shown, torch.arange(steps)[:, None], 0).cummax(0).values
    target = (bits.gather(0, when) > 0).float()
    return torch.stack([bits * shown, shown.float()], -1), target[..., None]


def peak():
    """MiB of memory that the process held at most, so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def long_sequence(steps, window):
    loss, model = binary_cross_entropy_with_logits, network()
    data, new = last_bit(steps, 1, seed=1), last_bit(5000, 1, seed=2)
    settings = {"epochs": 1, "learning_rate": 1e-3, "clip": 1.0, "truncate": window}
    fit(model, [tuple(part[: 10 * window] for part in data)], loss, progress=False, **settings)
    before, start = peak(), time.perf_counter()
    history = fit(model, [data], loss, progress=False, **settings)
    seconds, grown = time.perf_counter() - start, peak() - before
    score = evaluate(model, [new], right, truncate=window)
    print(
        f"{steps:,} steps in windows of {window}: {history.steps:,} updates in {seconds:.0f} s, "
        f"peak memory {before:.0f} MiB and {grown:.0f} more; "
        f"right answers on a new sequence {score:.3f}",
        flush=True,
    )


def right(prediction, target):
    return ((prediction > 0) == (target > 0.5)).float().mean()


def truncation(arguments):
    lengths, steps = LENGTHS, arguments.steps
    if arguments.quick:
        lengths, steps = LENGTHS[:3], min(steps, 20_000)
    long_sequence(steps, arguments.window)
    print(f"{'T':>6}  {'whole: MiB':>10} {'seconds':>8}  {'cut: MiB':>10} {'seconds':>8}")
    for length in lengths:
        cells = [cost(length, window) for window in (None, arguments.window)]
        row = "  ".join(f"{kept / 2**20:10.2f} {seconds:8.2f}" for kept, seconds in cells)
        print(f"{length:6}  {row}", flush=True)


def teacher(arguments):
    device = companion.device()
    cell = JordanCell(FEATURES, UNITS, 1, squash=torch.sigmoid, device=device)
    ways = {
        "own outputs": lambda x, y: Unroll(cell)(x)[0],
        "truth": cell.teacher_forced,
    }
    print(f"{'T':>6}  {'own outputs: ms':>16} {'truth: ms':>10} {'ratio':>6}")
    for steps in (25, 100, 400) if arguments.quick else (25, 100, 400, 1600):
        x = torch.randn(steps, BATCH, FEATURES, device=device)
        y = torch.rand(steps, BATCH, 1, device=device)
        taken = {name: [] for name in ways}
        for _ in range(3 if arguments.quick else 9):
            for name, way in ways.items():
                start = time.perf_counter()
                mse_loss(way(x, y), y).backward()
                cell.weight_hy.grad.sum().item()  # waits for the device
                taken[name].append(1e3 * (time.perf_counter() - start))
        own, truth = (statistics.median(times[1:]) for times in taken.values())
        print(f"{steps:6}  {own:16.2f} {truth:10.2f} {own / truth:6.1f}", flush=True)


def reservoir(arguments):
    units, steps = (400, 5_000) if arguments.quick else (2_000, 50_000)
    series = torch.tensor(mackey_glass(steps + 1, seed=0))[:, None, None]
    network = EchoState(1, units, sparsity=1 - 10 / units, seed=0)
    start = time.perf_counter()
    network.fit(series[:-1], series[1:], washout=100)
    seconds = time.perf_counter() - start
    print(
        f"{units:,} units, ten connections each, fitted to {steps:,} steps: {seconds:.0f} s, "
        f"peak memory of the process {peak():.0f} MiB"
    )


PARTS = {"truncation": truncation, "teacher": teacher, "reservoir": reservoir}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the long sequence")
    parser.add_argument("--window", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, in half a minute")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"parts must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    device = companion.device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"torch {torch.__version__}, {device.type} ({name}), {torch.get_num_threads()} threads")
    for part in arguments.parts:
        PARTS[part](arguments)


if __name__ == "__main__":
    main()
