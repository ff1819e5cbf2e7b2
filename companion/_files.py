"""Files that are never half-written."""

import contextlib
import os
import secrets
import shutil
from pathlib import Path


@contextlib.contextmanager
def replacing(path):
    """Open a file for bytes that takes the place of ``path`` only once it is complete.

    A link stays one: what it leads to is replaced. The permissions of a file replaced are kept.
    """
    path = Path(os.path.realpath(path))
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}")  # one a writer
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash may leave the new name without the content
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
