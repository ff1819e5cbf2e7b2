"""What a caller passed, as NumPy has it."""

import reprlib

import numpy as np
import torch

from companion._checks import at_least


def as_array(values):
    """Return an array: a tensor's without its gradient, a masked one with its mask."""
    return values.numpy(force=True) if isinstance(values, torch.Tensor) else np.asanyarray(values)


def as_numbers(name, values):
    """Return an array of real numbers, or say which argument is none."""
    try:
        array = as_array(values)
        if array.dtype == object:  # fractions
            array = np.array([float(value) for value in array.flat]).reshape(array.shape)
    except (TypeError, ValueError, RuntimeError):  # also where rows differ in length
        array = None
    if array is None or array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers, got {reprlib.repr(values)}")
    if np.ma.is_masked(array):
        raise ValueError(f"{name} must have no masked values, got {reprlib.repr(values)}")
    return np.asarray(array)


def as_whole_numbers(name, values):
    """Return an array of whole numbers; an empty list counts, although NumPy makes it floating."""
    array = as_array(values)
    if not array.size:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, got dtype {array.dtype}")
    return array


def as_generator(seed):
    """Return a generator as it is, or a new one from a seed."""
    if isinstance(seed, np.random.Generator):
        return seed
    return np.random.default_rng(at_least("seed", seed, 0))
