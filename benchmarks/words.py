"""Train `companion.words.Word2Vec` beside gensim's: words per second, quality, where time goes.

    python benchmarks/words.py [--device cpu] [--workers 2] [--rounds 5] [--quick]

Both train with the same settings (100 numbers, window 5, five negatives, threshold 1e-3) on the
same text, in turns, so that a busy machine slows both alike; the best of several rounds counts.
Words per second are all words of the text, times the epochs, over the seconds of training. The
first figure leaves out what comes before training (counting the vocabulary, and for `companion`
turning words into ids, which gensim does while it trains); "all in" has everything. gensim gets
`--workers` threads; `companion` has one thread that draws and `--threads` of torch's that compute.

Quality: analogies answered rightly in the generated world, and Spearman's correlation with people's
judgements (WordSim-353) on 300 news articles, for several seeds. The news are few: both score low,
and the seeds say how much of it is chance.
"""

import argparse
import platform
import time

import gensim
import numpy as np
import torch
from gensim.test.utils import datapath

import companion
from companion.sequences import news
from companion.words import Word2Vec, WordVectors, World
from companion.words import word2vec as parts

SETTINGS = {"vector_size": 100, "window": 5, "negative": 5, "sample": 1e-3}
NAMES = {1: "skip-gram", 0: "CBOW"}


def zipf(count, size=20_000, seed=0):
    """Independent words, the r-th most frequent with probability ~ 1/r, 25 a sentence."""
    share = 1 / np.arange(1, size + 1)
    ids = np.random.default_rng(seed).choice(size, size=count, p=share / share.sum())
    words = [f"w{i}" for i in range(size)]
    return [[words[i] for i in ids[k : k + 25]] for k in range(0, count, 25)]


def corpora(quick):
    articles = news()
    total = sum(map(len, articles))
    least = 200_000 if quick else 1_000_000
    return {"news, repeated": articles * -(-least // total), "Zipf": zipf(least)}


def synchronise(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds_of_ours(sentences, sg, epochs, device):
    """Seconds of training alone, and of everything."""
    model = Word2Vec(sg=sg, epochs=epochs, device=device, **SETTINGS)
    before = time.perf_counter()
    train, spent = model._train, []

    def timed(*arguments):
        start = time.perf_counter()
        train(*arguments)
        synchronise(model.device)
        spent.append(time.perf_counter() - start)

    model._train = timed
    model.fit(sentences)
    return spent[0], time.perf_counter() - before


def seconds_of_gensims(sentences, sg, epochs, workers):
    before = time.perf_counter()
    model = gensim.models.Word2Vec(sg=sg, workers=workers, **SETTINGS)
    model.build_vocab(sentences)
    start = time.perf_counter()
    model.train(sentences, total_examples=len(sentences), epochs=epochs)
    end = time.perf_counter()
    return end - start, end - before


def speed(arguments, device):
    epochs, rounds = (1, 2) if arguments.quick else (3, arguments.rounds)
    print("\nthousand words a second: training alone, and all in; the best of", rounds, "rounds")
    print(f"{'text':>15} {'':9} {'ours':>13} {'gensim':>13} {'ratio':>13}")
    for name, sentences in corpora(arguments.quick).items():
        words = epochs * sum(map(len, sentences))
        for sg in (1, 0):
            seconds = np.array(
                [
                    (
                        seconds_of_ours(sentences, sg, epochs, device),
                        seconds_of_gensims(sentences, sg, epochs, arguments.workers),
                    )
                    for _ in range(rounds)
                ]
            )
            ours, theirs = words / seconds.min(0) / 1000
            rates = " ".join(f"{rate:6.0f}" for rate in (*ours, *theirs))
            ratios = " ".join(f"{ratio:6.2f}" for ratio in ours / theirs)
            print(f"{name:>15} {NAMES[sg]:9} {rates} {ratios}", flush=True)


def gensims(sentences, **settings):
    keyed = gensim.models.Word2Vec(sentences, workers=1, **settings).wv
    return WordVectors(keyed.index_to_key, keyed.vectors)


def ours(sentences, device=None, **settings):
    return Word2Vec(device=device, **settings).fit(sentences).wv


def quality(arguments, device):
    seeds = range(1, 3 if arguments.quick else 6)
    with open(datapath("wordsim353.tsv"), encoding="utf-8") as file:
        judged = [line.lower().split() for line in file if not line.startswith("#")]
    articles = news()
    print("\nquality for seeds", *seeds)
    for sg in (1, 0):
        for name, learn in (("ours", lambda s, **k: ours(s, device, **k)), ("gensim", gensims)):
            right, correlation = [], []
            for seed in seeds:
                world = World(seed=seed)
                vectors = learn(world.sentences, sg=sg, seed=seed, vector_size=50)
                right.append(vectors.evaluate_analogies(world.analogies).accuracy)
                vectors = learn(articles, sg=sg, seed=seed, epochs=20, min_count=2)
                correlation.append(vectors.evaluate_similarity(judged).correlation)
            print(f"{NAMES[sg]:9} {name:6} analogies", *(f"{r:.0%}" for r in right),
                  "  WordSim-353", *(f"{c:.2f}" for c in correlation), flush=True)  # fmt: skip


def hold_back(tables, busy):
    before = [table[busy] for table in tables]
    for table, rows in zip(tables, before, strict=True):
        parts._hold_back(table, busy, rows)


def profile(arguments, device):
    """The parts of a step alone, in microseconds a word of the text that was kept."""
    sentences = zipf(100_000 if arguments.quick else 500_000)
    model = Word2Vec(sg=1, epochs=1, device=device, **SETTINGS).fit(sentences)
    ids, sentence = model._encode(sentences)
    drawing = time.perf_counter()
    kept = sum(
        int((piece[1] + piece[2] > 0).sum()) for *_, piece in model._pieces(ids, sentence, 1, 5)
    )
    drawing = time.perf_counter() - drawing
    *_, busy, blocks = next(iter(model._steps(ids, sentence, 1, 5)))
    context, words = blocks.context, blocks.context[:, 5:-5]
    targets = torch.cat([context, blocks.negatives], 1)
    v, u = model._inputs[words], model._outputs[targets]
    d_s = torch.bmm(v, u.transpose(1, 2))
    table = torch.zeros_like(model._inputs)
    offsets = parts._offsets(5, device)
    tables = model._inputs.clone(), model._outputs.clone()
    works = {
        "gathers": lambda: (model._inputs[words], model._outputs[targets]),
        "products": lambda: (
            torch.bmm(v, u.transpose(1, 2)),
            torch.bmm(d_s, u),
            torch.bmm(d_s.transpose(1, 2), v),
        ),
        "sigmoids": lambda: d_s.sigmoid(),
        "scatters": lambda: (parts._add_rows(table, words, v), parts._add_rows(table, targets, u)),
        "holding back": lambda: hold_back(tables, busy),
        "whole step": lambda: parts._skip_gram(*tables, blocks, offsets, 1e-9, model),
    }
    print(f"\nwhere the time goes: skip-gram, {len(words)} blocks of {words.shape[1]} words a step")
    print("microseconds for each word that is kept")
    print(f"{'drawing (beside it)':>20} {1e6 * drawing / kept:6.3f}")
    for name, work in works.items():
        best = np.inf
        for _ in range(200):
            start = time.perf_counter()
            work()
            synchronise(device)
            best = min(best, time.perf_counter() - start)
        print(f"{name:>20} {1e6 * best / words.numel():6.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="companion.device() by default")
    parser.add_argument("--workers", type=int, default=2, help="gensim's threads")
    parser.add_argument("--threads", type=int, help="torch's threads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="short texts, few rounds and seeds")
    arguments = parser.parse_args()
    device = torch.device(arguments.device) if arguments.device else companion.device()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(
        f"torch {torch.__version__}, {device.type} ({name}), {torch.get_num_threads()} threads; "
        f"gensim {gensim.__version__}, {arguments.workers} workers"
    )
    speed(arguments, device)
    profile(arguments, device)
    quality(arguments, device)


if __name__ == "__main__":
    main()
