"""Files that are never half-written."""

import contextlib
import os
import secrets
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Open a file for bytes that takes the place of ``path`` only once it is complete."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")  # one a writer
    try:
        with open(beside, "xb") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
