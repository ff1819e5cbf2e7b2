"""Results of runs that are too long for a page: made by a command, stored with how they were made.

A section's file stands in the part of the package that has the chapter's name, so that it is there
wherever the package is installed. It is written by a command of the project and never by hand.
"""

import json
import platform
import shlex
import sys
from datetime import date
from importlib import metadata
from pathlib import Path

import torch

import companion
from companion._files import replacing

__all__ = ["load", "path_of", "provenance", "save"]


def path_of(section):
    """Return the file of a section's stored result.

    Parameters
    ----------
    section : str
        Chapter's and section's word, such as ``"bptt/remedies"``.

    Returns
    -------
    pathlib.Path
        The file, which may not exist yet.

    Raises
    ------
    ValueError
        If the package has no such part.

    Examples
    --------
    >>> path_of("bptt/remedies").name
    'remedies.json'
    """
    part, _, word = str(section).partition("/")
    folder = Path(companion.__file__).parent / part
    if not (part.isidentifier() and word.isidentifier() and (folder / "__init__.py").is_file()):
        raise ValueError(f"section must be a part and a word, as 'bptt/remedies', got {section!r}")
    return folder / f"{word}.json"


def load(section):
    """Read a section's stored result.

    Parameters
    ----------
    section : str
        Chapter's and section's word.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the package has no such part.
    FileNotFoundError
        If the section has no stored result.

    Examples
    --------
    >>> sorted(load("bptt/remedies"))[:3]
    ['attempts', 'command', 'date']
    """
    path = path_of(section)
    if not path.is_file():
        raise FileNotFoundError(f"section {section!r} has no stored result, {path} is missing")
    return json.loads(path.read_text("utf-8"))


def save(section, result):
    """Store a section's result.

    Parameters
    ----------
    section : str
        Chapter's and section's word.
    result : dict
        What JSON can hold; ``provenance`` belongs into it.

    Raises
    ------
    ValueError
        If the package has no such part.
    """
    with replacing(path_of(section)) as file:
        file.write((json.dumps(result, indent=1) + "\n").encode("utf-8"))


def provenance(seconds, packages=()):
    """Say how a result is being made: by which command, when, with what and how long.

    Parameters
    ----------
    seconds : float
        Wall time of the run.
    packages : iterable of str
        Distributions whose versions matter, beside torch and NumPy.

    Returns
    -------
    dict
        ``command``, ``date``, ``versions``, ``device``, ``threads`` and ``seconds``.

    Examples
    --------
    >>> provenance(1.26)["seconds"]
    1.3
    """
    module = sys.modules["__main__"].__spec__
    script = Path(sys.argv[0])
    place = (Path(script.parent.name) / script.name).as_posix()
    program = ["-m", module.name] if module else [place]
    names = ["torch", "numpy", *packages]
    return {
        "command": shlex.join(["python", *program, *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "versions": {
            "python": platform.python_version(),
            "companion": companion.__version__,
            **{name: metadata.version(name) for name in names},
        },
        "device": companion.device().type,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 1),
    }
