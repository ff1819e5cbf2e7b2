"""Time a corpus on its way from text to n-grams: cut, indexed, batched, counted, measured.

    python benchmarks/sequences.py [--tokens 1000000] [--rounds 3] [--quick]

prints, for each step, the median seconds over the rounds, tokens a second, and the most memory that
Python and NumPy took during one more run of it, in bytes a token (that run is watched, and so not
timed; torch's tensors do not show there, but do in the last line, the most that the whole process
ever held). The text is drawn from a seed: word k comes up in proportion to 1/k (Zipf's law), in
sentences of 5 to 40 words. The machine and versions come first.
"""

import argparse
import contextlib
import os
import platform
import statistics
import time
import tracemalloc

import numpy as np
import torch

from companion.sequences import NGram, Vocabulary, batches, tokenise

WORDS = 50_000  # different ones, before chance leaves some out


def corpus(tokens, seed=0):
    """Draw sentences of 5 to 40 words until there are so many tokens."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, WORDS + 1)
    words = np.array([f"w{k}" for k in range(WORDS)])
    text = words[rng.choice(WORDS, size=tokens, p=chances / chances.sum())].tolist()
    ends = np.minimum(np.cumsum(rng.integers(5, 41, size=tokens // 5 + 1)), tokens)
    ends = np.unique(ends).tolist()
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def steps(sentences):
    """Name each step and give what does it; a step may use what those before it left."""
    text = " ".join(" ".join(sentence) for sentence in sentences)
    vocabulary = Vocabulary(sentences, min_count=2)
    ids = [vocabulary.encode(sentence) for sentence in sentences]
    ready = batches(ids, ids, size=64, seed=0, bucket=50)
    yield "cut into words", lambda: tokenise(text)
    yield "find the vocabulary", lambda: Vocabulary(sentences, min_count=2)
    yield "turn into ids", lambda: [vocabulary.encode(sentence) for sentence in sentences]
    yield "make batches(...)", lambda: batches(ids, ids, size=64, seed=0, bucket=50)
    yield "go through them once", lambda: sum(1 for _ in ready)
    for order in (2, 3, 5):
        yield f"count {order}-grams", lambda order=order: NGram(order).fit(sentences, vocabulary)
        model = NGram(order).fit(sentences, vocabulary)
        yield f"perplexity, order {order}", lambda model=model: model.perplexity(sentences)


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def watched(run):
    """Most bytes held during a run beyond what was held before."""
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="50,000 tokens, one round")
    arguments = parser.parse_args()
    tokens, rounds = (50_000, 1) if arguments.quick else (arguments.tokens, arguments.rounds)
    sentences = corpus(tokens)
    print(
        f"numpy {np.__version__}, torch {torch.__version__} ({platform.machine()}), "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    )
    print(f"{tokens:,} tokens in {len(sentences):,} sentences, Zipf over {WORDS:,} words")
    print(f"{'step':22} {'seconds':>8} {'tokens a second':>16} {'bytes a token':>14}")
    for name, run in steps(sentences):
        taken = statistics.median(seconds(run) for _ in range(rounds))
        print(
            f"{name:22} {taken:8.3f} {tokens / taken:16,.0f} {watched(run) / tokens:14.0f}",
            flush=True,
        )
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        unit = 1 if platform.system() == "Darwin" else 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        print(f"the whole process held {most / 2**20:,.0f} MiB at most")


if __name__ == "__main__":
    main()
