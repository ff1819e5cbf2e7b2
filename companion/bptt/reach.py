"""How far back a remedy lets a network learn: the adding problem, longer and longer.

    python -m companion.bptt.reach --write [--seeds 3] [--updates 1000]

trains every remedy on sequences of 10, 20, 40, ... steps until it fails, and stores what it took.
Equal for all: units, updates, sequences an update, clipping. The learning rate is the better one of
0.003 and 0.01 for each remedy, chosen beforehand.
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from companion import stored
from companion._checks import at_least, one_of
from companion.bptt.remedies import GradientNormPenalty, identity_, orthogonal_
from companion.recurrent import Leaky, RNNCell, Unroll
from companion.sequences import adding
from companion.training import fit

__all__ = ["LENGTHS", "LEARNED", "REMEDIES", "Attempt", "Remedy", "attempt", "reach"]

LENGTHS = (10, 20, 40, 80, 160, 320)  # steps
LEARNED = 1 / 24  # half of what knowing the second number alone leaves
UNITS, BATCH, ROUND = 32, 64, 50  # hidden units; sequences an update; updates between two tests


class Remedy(NamedTuple):
    """A cell that is to keep the gradient alive, and how it is trained.

    Attributes
    ----------
    cell : callable
        ``cell(input_size, hidden_size)`` makes one.
    learning_rate : float
        Adam's.
    penalty : float or None
        Weight of ``GradientNormPenalty``, divided by the number of steps; None without it.
    """

    cell: object
    learning_rate: float
    penalty: float | None = None


def _relu(inputs, units):
    return RNNCell(inputs, units, nonlinearity="relu")


def _slow(inputs, units):
    return Leaky(_relu(inputs, units), leak=0.05)


REMEDIES = {
    "tanh": Remedy(RNNCell, 0.01),
    "orthogonal, tanh": Remedy(lambda *sizes: orthogonal_(RNNCell(*sizes)), 0.003),
    "ReLU": Remedy(_relu, 0.003),
    "orthogonal, ReLU": Remedy(lambda *sizes: orthogonal_(_relu(*sizes)), 0.003),
    "penalty, ReLU": Remedy(_relu, 0.003, penalty=1.0),
    "identity, ReLU": Remedy(lambda *sizes: identity_(_relu(*sizes)), 0.003),
    "leaky, ReLU": Remedy(_slow, 0.01),
}


class Attempt(NamedTuple):
    """What came of one training.

    Attributes
    ----------
    steps : int
        Length of the sequences.
    updates : int or None
        Updates after which the error was below ``LEARNED``; None if it never was.
    error : float
        The last mean squared error on new sequences.
    seconds : float
        Wall time.
    """

    steps: int
    updates: int | None
    error: float
    seconds: float


class _Sum(nn.Module):
    """Read a sequence, answer at its end."""

    def __init__(self, layer, units):
        super().__init__()
        self.layer, self.readout = layer, nn.Linear(units, 1)

    def forward(self, x):
        y, _ = self.layer(x)
        return self.readout(y[-1])


class _Fresh:
    """New batches at each pass: nothing is seen twice."""

    def __init__(self, steps, rounds, seed):
        self.steps, self.rounds, self.rng = steps, rounds, np.random.default_rng(seed)

    def __iter__(self):
        for _ in range(self.rounds):
            yield _tensors(BATCH, self.steps, self.rng)


def _tensors(count, steps, seed):
    return tuple(torch.tensor(a, dtype=torch.float32) for a in adding(count, steps, seed))


def attempt(name, steps, seed, updates=1000):
    """Train one remedy on the adding problem until it has learned or its updates are spent.

    Parameters
    ----------
    name : str
        A key of ``REMEDIES``.
    steps : int
        Length of the sequences.
    seed : int
        Of weights and data.
    updates : int
        Updates allowed, rounded up to a multiple of 50.

    Returns
    -------
    Attempt
        ``(steps, updates, error, seconds)``.

    Raises
    ------
    TypeError, ValueError
        If the name is unknown or a number is out of range.

    Examples
    --------
    >>> attempt("identity, ReLU", steps=4, seed=0, updates=50).steps
    4
    """
    remedy = REMEDIES[one_of("name", name, REMEDIES)]
    updates = at_least("updates", updates, 1)
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(at_least("seed", seed, 0))
        cell = remedy.cell(2, UNITS)
        model = _Sum(Unroll(cell, loop=remedy.penalty is not None), UNITS)
    penalty = remedy.penalty and GradientNormPenalty(cell, remedy.penalty / steps)
    errors = [float("inf")]

    def learned(model, history):
        errors.append(history.validation[-1])
        return errors[-1] < LEARNED

    try:
        fit(
            model,
            _Fresh(steps, ROUND, seed=[seed, steps]),
            F.mse_loss,
            epochs=-(-updates // ROUND),
            learning_rate=remedy.learning_rate,
            clip=1.0,
            penalty=penalty,
            validation=[_tensors(500, steps, seed=10**6)],
            callback=learned,
            progress=False,
        )
    except FloatingPointError:  # it has exploded
        errors.append(float("inf"))
    done = (len(errors) - 1) * ROUND if errors[-1] < LEARNED else None
    return Attempt(steps, done, errors[-1], time.perf_counter() - start)


def reach(name, seed, lengths=LENGTHS, updates=1000):
    """Try longer and longer sequences until one is not learned.

    Parameters
    ----------
    name, seed, updates
        As for ``attempt``.
    lengths : sequence of int
        Lengths to try, increasing.

    Returns
    -------
    list of Attempt
        One a length, the last one a failure unless all were learned.
    """
    tried = []
    for steps in lengths:
        tried.append(attempt(name, steps, seed, updates))
        if tried[-1].updates is None:
            break
    return tried


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="store what section 4.3 plots")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # networks this small gain nothing from more
    start, found = time.perf_counter(), {}
    for name in REMEDIES:
        found[name] = {}
        for seed in range(arguments.seeds):
            tried = reach(name, seed, updates=arguments.updates)
            found[name][seed] = [a._asdict() for a in tried]
            print(f"{name:18} seed {seed}", *(f"{a.steps}: {a.updates}" for a in tried), flush=True)
    result = {
        **stored.provenance(time.perf_counter() - start),
        "seeds": list(range(arguments.seeds)),
        "settings": {
            "units": UNITS,
            "batch": BATCH,
            "updates": arguments.updates,
            "learned": LEARNED,
            "lengths": LENGTHS,
            "learning_rate": {name: r.learning_rate for name, r in REMEDIES.items()},
            "penalty": {name: r.penalty for name, r in REMEDIES.items() if r.penalty},
        },
        "attempts": found,
    }
    if arguments.write:
        stored.save("bptt/remedies", result)


if __name__ == "__main__":
    main()
