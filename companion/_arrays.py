"""What a caller passed, as NumPy has it."""

import numpy as np
import torch

from companion._checks import at_least


def as_array(values):
    """Return an array: a tensor's without its gradient, a masked one with its mask."""
    return values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asanyarray(values)


def as_generator(seed):
    """Return a generator as it is, or a new one from a seed."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(at_least("seed", seed, 0))
