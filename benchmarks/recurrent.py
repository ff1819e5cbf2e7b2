"""Time `companion.recurrent.RNN` beside `torch.nn.RNN`: both roads, whole and ragged batches.

    python benchmarks/recurrent.py [--rounds 15] [--quick]

prints ratios, the layer's time over torch.nn.RNN's for the same weights and input, the median over
rounds in which the contenders take turns, so that a busy machine slows all of them alike. A pass is
"forward" (without gradients) or "both" (forward and backward). For ragged batches torch.nn.RNN
reads packed sequences, packing and padding included, as one would write it by hand; the column
"padded" is the other way, reading the padding too, and `companion.recurrent` chooses between them
(see its module `_fused`). The machine and versions come first.

A second table times `Recursive`, level by level, beside a recursion node by node with the same
cell: ratios as above, with the recursion's time as 1. Trees are split at random places, balanced,
or chains.
"""

import argparse
import functools
import platform
import random
import statistics
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import companion
from companion.recurrent import RNN, Recursive, TreeCell, Trees
from companion.recurrent._sequence import zero_padding

SIZES = [(50, 64, 128, 256), (100, 64, 256, 512), (200, 32, 28, 64), (400, 16, 8, 32)]
STACKS = [(1, False), (2, False), (1, True), (2, True)]  # layers, bidirectional
HEADER = (
    f"{'T, B, D, H':>18}  {'stack':12} {'lengths':8} {'pass':9} "
    f"{'fused':>6} {'loop':>6} {'padded':>7}"
)
FORESTS = [(1, 16, 64), (16, 16, 64), (64, 32, 64), (64, 32, 256), (256, 64, 64)]
SHAPES = ("chain", "random", "balanced")


def packed(module, x, lengths):
    y, state = module(pack_padded_sequence(x, lengths, enforce_sorted=False))
    return pad_packed_sequence(y, total_length=len(x))[0], state


def padded(module, x, lengths):
    y, _ = module(zero_padding(x, lengths))
    last = (lengths - 1).to(y.device)
    return zero_padding(y, lengths), y.gather(0, last[None, :, None].expand(1, -1, y.shape[-1]))


def timed(run, backward):
    """Seconds of one pass."""
    synchronise()
    start = time.perf_counter()
    with torch.set_grad_enabled(backward):
        y, state = run()
    if backward:
        (y.sum() + state.sum()).backward()
    synchronise()
    return time.perf_counter() - start


def synchronise():
    if companion.device().type == "cuda":
        torch.cuda.synchronize()


def ratios(contenders, backward, rounds):
    """Median over rounds of each contender's time over the first one's in the same round."""
    for run in contenders.values():
        timed(run, backward)  # warm up
    found = {name: [] for name in contenders}
    for _ in range(rounds):
        seconds = {name: timed(run, backward) for name, run in contenders.items()}
        for name, value in seconds.items():
            found[name].append(value / seconds[next(iter(contenders))])
    return {name: statistics.median(values) for name, values in found.items()}


def compare(size, layers, bidirectional, ragged, backward, rounds):
    T, B, D, H = size
    device = companion.device()
    torch.manual_seed(0)
    module = nn.RNN(D, H, layers, bidirectional=bidirectional).to(device)
    fused, loop = RNN.from_torch(module), RNN.from_torch(module, loop=True)
    x = torch.randn(T, B, D, device=device, requires_grad=True)
    lengths = torch.randint(T // 4, T + 1, (B,)) if ragged else None
    contenders = {
        "torch": (lambda: packed(module, x, lengths)) if ragged else (lambda: module(x)),
        "fused": lambda: fused(x, lengths=lengths),
        "loop": lambda: loop(x, lengths=lengths),
    }
    if ragged and layers == 1 and not bidirectional:
        contenders["padded"] = lambda: padded(module, x, lengths)
    return ratios(contenders, backward, rounds)


def tree(shape, first, leaves, source):
    """Nested pairs over so many leaves; shapes that may be deep are never built by recursion."""
    if shape == "chain":
        return functools.reduce(lambda left, leaf: (left, leaf), range(first, first + leaves))
    if leaves == 1:
        return first
    left = leaves // 2 if shape == "balanced" else source.randint(1, leaves - 1)
    return tree(shape, first, left, source), tree(shape, first + left, leaves - left, source)


def node_by_node(cell, x, part):
    if not isinstance(part, tuple):
        return cell.leaf_state(x[part : part + 1])
    return cell(node_by_node(cell, x, part[0]), node_by_node(cell, x, part[1]))


def compare_trees(shape, count, leaves, H, backward, rounds):
    device, source = companion.device(), random.Random(0)
    torch.manual_seed(0)
    layer = Recursive(TreeCell(H)).to(device)
    x = torch.randn(count * leaves, H, device=device, requires_grad=True)
    nested = [tree(shape, i * leaves, leaves, source) for i in range(count)]
    trees = Trees.nested(nested)

    def slow():
        roots = torch.cat([node_by_node(layer.cell, x, part).h for part in nested])
        return roots, roots

    def fast():
        _, roots = layer(x, trees)
        return roots.h, roots.h

    r = ratios({"nodes": slow, "levels": fast}, backward, rounds)
    return trees.heights.max(), r["levels"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="the first size alone, three rounds")
    arguments = parser.parse_args()
    sizes, rounds = (SIZES[:1], 3) if arguments.quick else (SIZES, arguments.rounds)
    device = companion.device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"torch {torch.__version__}, {device.type} ({name}), {torch.get_num_threads()} threads")
    print("times of torch.nn.RNN = 1\n" + HEADER)
    for size in sizes:
        for layers, bidirectional in STACKS:
            for ragged in (False, True):
                for backward in (False, True):
                    r = compare(size, layers, bidirectional, ragged, backward, rounds)
                    stack = f"{layers} {'both ways' if bidirectional else 'ahead'}"
                    other = f"{r['padded']:7.2f}" if "padded" in r else f"{'':7}"
                    print(
                        f"{', '.join(map(str, size)):>18}  {stack:12} "
                        f"{'ragged' if ragged else 'whole':8} "
                        f"{'both' if backward else 'forward':9} "
                        f"{r['fused']:6.2f} {r['loop']:6.2f} {other}",
                        flush=True,
                    )
    print("\ntimes of a recursion node by node = 1")
    print(f"{'trees, leaves, H':>18}  {'shape':12} {'height':>7}  {'pass':9} {'levels':>6}")
    for size in FORESTS[:2] if arguments.quick else FORESTS:
        for shape in SHAPES:
            for backward in (False, True):
                height, r = compare_trees(shape, *size, backward, min(rounds, 5))
                print(
                    f"{', '.join(map(str, size)):>18}  {shape:12} {height:7}  "
                    f"{'both' if backward else 'forward':9} {r:6.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
