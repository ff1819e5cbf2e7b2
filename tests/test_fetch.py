"""Public files: found, checked, downloaded, resumed; against a server of our own."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pooch.core
import pytest

from companion.sequences.fetch import FILES, Source, cache_folder, fetch

CONTENT = b"".join(b"%07d\n" % i for i in range(32_768))  # 256 KiB; every place is its own


class Handler(BaseHTTPRequestHandler):
    """Serve ``server.content``; ``server.answers`` may hold other ways to answer, in turn."""

    def do_GET(self):
        server, given = self.server, self.headers.get("Range")
        server.asked.append(given)
        if server.gate is not None:
            server.gate.wait(20)
        how = server.answers.pop(0) if server.answers else "well"
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        if how == "404":
            return self.send_error(404)
        if how == "no range":
            start = 0
        if start and start >= len(server.content):
            return self.send_error(416)
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            end = len(server.content)
            self.send_header("Content-Range", f"{server.units} {start}-{end - 1}/{end}")
        self.end_headers()
        self.wfile.write(body[:100_000] if how == "cut" else body)  # then the connection closes

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(pooch.core.time, "sleep", lambda _: None)  # before it tries again
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.answers, server.asked, server.gate = CONTENT, [], [], None
    server.units = "bytes"
    server.files = {
        "bytes.bin": Source(
            f"http://127.0.0.1:{server.server_port}/bytes.bin",
            hashlib.sha256(CONTENT).hexdigest(), "this test", "MIT",
        )
    }  # fmt: skip
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("COMPANION_CACHE", str(folder))
    monkeypatch.delenv("COMPANION_DATA", raising=False)
    return folder


def left(cache):
    """What lies in the cache, without the lock."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_a_file_is_downloaded_once_and_checked_each_time(server, cache):
    path = fetch("bytes.bin", server.files)
    assert path == cache / "bytes.bin" and path.read_bytes() == CONTENT
    assert left(cache) == ["bytes.bin"] and len(server.asked) == 1
    assert fetch("bytes.bin", server.files) == path and len(server.asked) == 1
    path.write_bytes(CONTENT[:-1])  # it went bad: it is downloaded anew
    assert fetch("bytes.bin", server.files).read_bytes() == CONTENT and len(server.asked) == 2


def test_a_download_cut_off_goes_on_where_it_stopped(server, cache):
    server.answers = ["cut", "cut", "cut"]
    with pytest.raises(ConnectionError, match="bytes.bin could not be downloaded"):
        fetch("bytes.bin", server.files)  # tries twice
    assert left(cache) == ["bytes.bin.part"]
    part = (cache / "bytes.bin.part").read_bytes()
    assert CONTENT.startswith(part) and 180_000 < len(part) <= 200_000
    # the third sends less than it could cut off
    assert fetch("bytes.bin", server.files).read_bytes() == CONTENT
    first, second, third = server.asked
    assert first is None and 90_000 < int(second[len("bytes=") : -1]) <= 100_000
    assert third == f"bytes={len(part)}-"
    assert left(cache) == ["bytes.bin"]


def test_a_process_killed_midway_leaves_a_part_that_is_used(server, cache):
    cache.mkdir()
    (cache / "bytes.bin.part").write_bytes(CONTENT[:1234])
    assert fetch("bytes.bin", server.files).read_bytes() == CONTENT
    assert server.asked == ["bytes=1234-"]


def test_a_server_without_ranges_sends_it_all_again(server, cache):
    cache.mkdir()
    (cache / "bytes.bin.part").write_bytes(b"wrong" * 1000)
    server.answers = ["no range"]
    assert fetch("bytes.bin", server.files).read_bytes() == CONTENT
    assert server.asked == ["bytes=5000-"]


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b"x" * 1000, b"x" * len(CONTENT)])
def test_whatever_the_part_holds_the_file_is_right(server, cache, part):
    """A part that is whole, too long (the server answers 416) or of other content."""
    cache.mkdir()
    (cache / "bytes.bin.part").write_bytes(part)
    assert fetch("bytes.bin", server.files).read_bytes() == CONTENT
    assert left(cache) == ["bytes.bin"]
    assert server.asked == [f"bytes={len(part)}-"] + [None] * (part != CONTENT)


@pytest.mark.parametrize("content", [CONTENT[:-1], b"<html>Log in first</html>", b""])
def test_wrong_content_leaves_nothing(server, cache, content):
    server.content = content
    with pytest.raises(ValueError, match="bytes.bin came corrupt or cut off") as caught:
        fetch("bytes.bin", server.files)
    source = server.files["bytes.bin"]
    for expected in (source.sha256, hashlib.sha256(content).hexdigest(), source.url):
        assert expected in str(caught.value)
    assert left(cache) == [] and len(server.asked) == 2


@pytest.mark.parametrize("how", ["404", "offline"])
def test_offline_the_error_says_what_to_put_where(server, cache, how):
    server.answers = ["404", "404"]
    files = server.files
    if how == "offline":  # a port on which nobody listens
        files = {"bytes.bin": files["bytes.bin"]._replace(url="http://127.0.0.1:9/bytes.bin")}
    with pytest.raises(ConnectionError) as caught:
        fetch("bytes.bin", files)
    source = files["bytes.bin"]
    for expected in (source.url, source.sha256, str(cache / "bytes.bin"), "COMPANION_DATA"):
        assert expected in str(caught.value)
    assert not (cache / "bytes.bin").exists()
    (cache / "bytes.bin").write_bytes(CONTENT)  # so one does
    assert fetch("bytes.bin", files) == cache / "bytes.bin"


def test_copies_come_first(server, cache, tmp_path, monkeypatch):
    copies = tmp_path / "copies"
    monkeypatch.setenv("COMPANION_DATA", str(copies))
    with pytest.raises(ValueError, match="COMPANION_DATA must name a folder, got '.*copies'"):
        fetch("bytes.bin", server.files)
    copies.mkdir()
    copy = copies / "bytes.bin"
    copy.write_bytes(CONTENT)
    assert fetch("bytes.bin", server.files) == copy and not server.asked and not cache.exists()
    copy.write_bytes(b"another version")
    with pytest.raises(ValueError) as caught:
        fetch("bytes.bin", server.files)
    sums = server.files["bytes.bin"].sha256, hashlib.sha256(b"another version").hexdigest()
    assert f"{copy} must have SHA-256 {sums[0]}, got {sums[1]}" in str(caught.value)
    copy.unlink()  # a folder without this file
    assert fetch("bytes.bin", server.files) == cache / "bytes.bin"


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path, cache, monkeypatch):
    (tmp_path / "file").write_text("where a folder should be")
    for folder in ("file", "file/deeper"):
        monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / folder))
        with pytest.raises(OSError, match="cannot be written .* COMPANION_CACHE.* COMPANION_DATA"):
            fetch("bytes.bin", server.files)
    assert not server.asked


def test_what_cannot_be_read_is_named(server, tmp_path, cache, monkeypatch):
    copies = tmp_path / "copies"
    (copies / "bytes.bin").mkdir(parents=True)
    monkeypatch.setenv("COMPANION_DATA", str(copies))
    with pytest.raises(OSError, match=r"copies/bytes.bin must be a file to be read, got") as caught:
        fetch("bytes.bin", server.files)
    if os.name == "posix":
        assert caught.type is IsADirectoryError and caught.value.errno == errno.EISDIR

    def refused(path):  # chmod would not stop root
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (copies / "bytes.bin").rmdir()
    (copies / "bytes.bin").write_bytes(CONTENT)
    monkeypatch.setattr(pooch, "file_hash", refused)
    with pytest.raises(PermissionError, match="copies/bytes.bin must be a file to be") as caught:
        fetch("bytes.bin", server.files)
    assert caught.value.errno == errno.EACCES
    monkeypatch.delenv("COMPANION_DATA")
    cache.mkdir()
    (cache / "bytes.bin").write_bytes(CONTENT)
    with pytest.raises(PermissionError, match="written or read .* COMPANION_CACHE") as caught:
        fetch("bytes.bin", server.files)
    assert caught.value.errno == errno.EACCES and not server.asked


def test_a_server_may_write_its_units_in_capitals(server, cache):
    cache.mkdir()
    (cache / "bytes.bin.part").write_bytes(CONTENT[:1234])
    server.answers, server.units = ["well"], "Bytes"
    assert fetch("bytes.bin", server.files).read_bytes() == CONTENT
    assert server.asked == ["bytes=1234-"]


def test_what_is_not_there_is_asked_for_once(server, cache):
    server.answers = ["404"]
    with pytest.raises(ConnectionError, match="could not be downloaded .*404"):
        fetch("bytes.bin", server.files)
    assert len(server.asked) == 1


def test_a_cache_that_may_only_be_read_is_enough(server, cache):
    cache.mkdir()
    (cache / "bytes.bin").write_bytes(CONTENT)
    before = left(cache), os.listdir(cache)
    assert fetch("bytes.bin", server.files) and (left(cache), os.listdir(cache)) == before


PROCESS = """
import sys
from companion.sequences.fetch import Source, fetch
print("ready", flush=True)
sys.stdin.readline()
path = fetch("bytes.bin", {"bytes.bin": Source(*sys.argv[1:], "this test", "MIT")})
print(len(path.read_bytes()), flush=True)
"""


def test_of_two_processes_one_downloads_and_the_other_waits(server, cache):
    server.gate = threading.Event()
    source = server.files["bytes.bin"]
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    other = subprocess.Popen(
        [sys.executable, "-c", PROCESS, source.url, source.sha256], cwd=here, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == "ready\n", other.communicate()
        other.stdin.write("go\n")
        other.stdin.flush()
        timer = threading.Timer(0.7, server.gate.set)  # until then the first waits for the server
        timer.start()
        assert fetch("bytes.bin", server.files).read_bytes() == CONTENT
        out, err = other.communicate(timeout=60)
        assert out == f"{len(CONTENT)}\n", err
    finally:
        other.kill()
        other.wait()
    timer.join()
    assert len(server.asked) == 1 and left(cache) == ["bytes.bin"]


def test_of_two_threads_one_downloads(server, cache):
    server.gate, found = threading.Event(), []

    def ask():
        found.append(len(fetch("bytes.bin", server.files).read_bytes()))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    threading.Timer(0.3, server.gate.set).start()
    for thread in threads:
        thread.join()
    assert found == [len(CONTENT)] * 3 and len(server.asked) == 1


def test_every_file_has_its_papers():
    for name, source in FILES.items():
        assert "/" not in name and source.url.startswith("https://")
        assert len(source.sha256) == 64 and int(source.sha256, 16)
        assert source.source and source.licence
    with pytest.raises(ValueError, match="name must be one of 'JSB_Chorales.mat', .* got 'x'"):
        fetch("x")
    with pytest.raises(ValueError, match=r"name must be one of 'JSB_Chorales.mat', .* got \['x'\]"):
        fetch(["x"])


def test_the_cache_is_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("COMPANION_CACHE", raising=False)
    assert "companion-unrolled" in cache_folder().parts
    monkeypatch.setenv("COMPANION_CACHE", "~/somewhere")
    assert cache_folder().is_absolute() and cache_folder().name == "somewhere"
