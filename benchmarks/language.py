"""Predict the next character of real texts: n-grams of section 1.5 beside the vanilla RNN of 3.5.

    python benchmarks/language.py [--texts news shakespeare] [--seeds 3] [--epochs 10]
                                  [--units 512] [--threads 1] [--write]

Each text is cut in order: 85 % to learn from, 5 % to choose by (the n-gram's order and smoothing,
the epoch whose weights are kept), the last 10 % for the verdict, which no choice has seen. All
losses are nats a character, over the same characters: all of the test part but its first. The
n-gram sees the test part as one text, the network too, from an initial state.

`news` comes with gensim. `shakespeare` is downloaded once, or found in the folder COMPANION_DATA.
`--write` stores what was found for section 3.5, which plots it; texts that were not asked for keep
their entries.
"""

import argparse
import json
import math
import sys
import time

import numpy as np
import torch
from torch import nn

from companion import sequences, stored
from companion.recurrent import RNN, LanguageModel, Stack, next_token_loss, streams
from companion.sequences import Characters, KneserNey, NGram, Vocabulary, WittenBell
from companion.training import fit

SECTION = "recurrent/language"
ORDERS = range(1, 9)
STREAMS, TRUNCATE, RATE = 50, 50, 2e-3


def text_of(name):
    if name == "news":
        return "\n".join(" ".join(article) for article in sequences.news(by="article"))
    return sequences.shakespeare()


def parts_of(text):
    a, b = int(0.85 * len(text)), int(0.9 * len(text))
    return text[:a], text[a:b], text[b:]


def counted(text):
    """By smoothing: the losses on the validation and on the test part, each by order."""
    train, *rest = map(list, parts_of(text))
    vocabulary, found = Vocabulary([list(text)], padding=None), {}
    for order in ORDERS:
        model = NGram(order).fit([train], vocabulary)
        for smoothing in (WittenBell(), KneserNey()):
            model.smoothing = smoothing
            # without the first character, which the network only reads, and the end symbol
            losses = [-model.log_probabilities(part)[1:-1].mean() for part in rest]
            found.setdefault(type(smoothing).__name__, []).append(losses)
    return {name: np.array(losses).T.round(4).tolist() for name, losses in found.items()}


def trained(text, seed, units, epochs):
    """The network's losses, and the seconds of its training."""
    train, validation, test = parts_of(text)
    characters = Characters(text)
    torch.manual_seed(seed)
    size = len(characters)
    layer = Stack(nn.Embedding(size, 64), RNN(64, units), nn.Linear(units, size))
    model = LanguageModel(layer, characters)
    optimiser = torch.optim.Adam(layer.parameters(), RATE)

    def lower(_, history):
        """Let the rate fall to zero along half a wave, pass by pass."""
        optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * len(history) / epochs)) / 2
        print(history, file=sys.stderr)

    begin = time.perf_counter()
    history = fit(
        model,
        [streams(characters.encode(train), STREAMS)],
        next_token_loss,
        epochs=epochs,
        optimiser=optimiser,
        clip=1.0,
        truncate=TRUNCATE,
        validation=[streams(characters.encode(validation), 1)],
        patience=epochs,
        progress=False,
        callback=lower,
    )
    seconds = time.perf_counter() - begin
    return {
        "seed": seed,
        "test": round(-float(model.log_probabilities(test).mean()), 4),
        "validation": [round(value, 4) for value in history.validation],
        "seconds": round(seconds),
    }


def main():
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--texts", nargs="+", default=["news", "shakespeare"])
    ask.add_argument("--seeds", type=int, default=3)
    ask.add_argument("--epochs", type=int, default=10)
    ask.add_argument("--units", type=int, default=512)
    ask.add_argument("--threads", type=int, default=1)
    ask.add_argument("--write", action="store_true", help="store what section 3.5 plots")
    given = ask.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.texts:
        start, text = time.perf_counter(), text_of(name)
        found = {
            "ngram": counted(text),
            "rnn": [trained(text, seed, given.units, given.epochs) for seed in range(given.seeds)],
        }
        result = {
            **stored.provenance(time.perf_counter() - start, packages=["gensim"]),
            "characters": len(text),
            "symbols": len(set(text)),
            "orders": list(ORDERS),
            "units": given.units,
            **found,
        }
        print(name, json.dumps(result))
        if given.write:
            before = stored.load(SECTION) if stored.path_of(SECTION).exists() else {}
            stored.save(SECTION, before | {name: result})


if __name__ == "__main__":
    main()
