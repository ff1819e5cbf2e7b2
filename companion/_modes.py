"""A model's modes, training or evaluation, put back after use."""

import contextlib


@contextlib.contextmanager
def modes_kept(model):
    """Give every part of ``model`` the mode back that it had, however the block ends."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
