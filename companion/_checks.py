"""Errors that name the argument, what was expected and what came."""

import math
import numbers


def at_least(name, value, least):
    """Return ``value`` as an ``int`` if it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r:.80}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def real(name, value):
    """Return ``value`` if it is a real number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r:.80}")
    return value


def positive(name, value):
    """Return ``value`` as a ``float`` if it is a positive, finite number."""
    if not 0 < real(name, value) < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)


def torch_seed(value):
    """Return ``value`` as an ``int`` if torch's generators take it for a seed."""
    seed = at_least("seed", value, 0)
    if seed >= 2**64:
        raise ValueError(f"seed must be below 2**64, got {seed}")
    return seed


def one_of(name, value, choices):
    """Return ``value`` if it is one of ``choices``."""
    if value not in tuple(choices):  # a dict would hash it
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {allowed}, got {value!r:.80}")
    return value
