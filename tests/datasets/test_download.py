"""Tests of fetching and unpacking: a real HTTP server that can break off, real archives, some of them spoilt."""

import hashlib
import io
import re
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from datasets.download import fetch, unpack
from util.files.errors import UserError

CONTENT = np.random.default_rng(0).bytes(3_000_000)
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()
HALF = 1_000_000


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``cut`` answers stop after that many bytes, ``ranges`` says whether parts can be asked for."""

    cut = None
    ranges = True


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        start = 0
        if asked and self.server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if self.path != "/data.bin" or start >= len(CONTENT):
            return self.send_error(416 if start else 404)
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: self.server.cut]
        self.server.sent.append((asked, len(body)))
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.sent = []
        server.url = f"http://127.0.0.1:{server.server_port}/data.bin"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_fetch_continues(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    server.cut = HALF
    with pytest.raises(UserError, match=rf"broke after {HALF} of {len(CONTENT)} bytes.*same command again"):
        fetch(server.url, target, MD5)
    assert not target.exists()
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:HALF]
    server.cut = None
    for _ in range(2):  # the second call asks nobody
        assert fetch(server.url, target, MD5).read_bytes() == CONTENT
    assert server.sent == [(None, HALF), (f"bytes={HALF - 1}-", len(CONTENT) - HALF + 1)]
    assert _names(tmp_path) == ["data.bin"]


def test_fetch_with_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "data.bin"
    with pytest.raises(UserError, match="checksum is not md5:0123"):
        fetch(server.url, target, "md5:0123")
    assert _names(tmp_path) == []
    target.write_bytes(b"put there by hand")
    with pytest.raises(UserError, match="remove it"):
        fetch(server.url, target, MD5)
    assert target.read_bytes() == b"put there by hand"


def test_fetch_from_a_server_that_cannot_continue(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(b"the start of another file")
    server.ranges = False
    assert fetch(server.url, tmp_path / "data.bin").read_bytes() == CONTENT


def test_fetch_without_network(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="404") as refused:
        fetch(server.url + ".old", tmp_path / "data.bin")
    assert str(tmp_path / "data.bin") in str(refused.value)
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/data.bin"  # nobody listens there once it is closed
    with pytest.raises(UserError, match=rf"{url}: .*refused.*put it at {tmp_path}/data.bin"):
        fetch(url, tmp_path / "data.bin")
    assert _names(tmp_path) == []


FILES = {"set/a.txt": b"first", "set/deep/b.bin": CONTENT[:300_000], "set/empty": b"", "c.txt": b"last"}


def _archive(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
            for name, content in files.items():
                out.writestr(name, content)
    else:
        mode = "w:gz" if path.suffix == ".tgz" else "w"
        with tarfile.open(path, mode) as out:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tgz"])
def test_unpack(tmp_path: Path, kind: str) -> None:
    archive = _archive(tmp_path / kind, FILES)
    out = tmp_path / "out"
    (out / "set/deep").mkdir(parents=True)
    (out / "set/deep/b.bin").write_bytes(b"cut off")
    (out / "mine.txt").write_bytes(b"mine")
    unpack(archive, out)
    contents = {name: (out / name).read_bytes() for name in _names(out) if not name.startswith(".")}
    assert contents == {**FILES, "mine.txt": b"mine"}
    (out / "c.txt").write_bytes(b"changed")
    unpack(archive, out)  # is done already
    assert (out / "c.txt").read_bytes() == b"changed"


@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_unpack_stays_inside(tmp_path: Path, kind: str) -> None:
    for name in ("/tmp/outside", "set/../../outside", "a\\..\\outside"):
        archive = _archive(tmp_path / kind, {"first": b"good", name: b"bad"})
        with pytest.raises(UserError, match="outside"):
            unpack(archive, tmp_path / "out")
        assert _names(tmp_path) == [kind]


@pytest.mark.parametrize(
    ("kind", "keep"), [("a.zip", 0.9), ("a.zip", None), ("a.tar", 0.0), ("a.tar", 0.5), ("a.tgz", 0.9), ("a.tgz", None)]
)
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, kind: str, keep: float | None) -> None:
    archive = _archive(tmp_path / kind, FILES)
    content = bytearray(archive.read_bytes())
    if keep is None:
        content[len(content) // 2] ^= 255  # one byte differs; a file in a plain tar has no checksum
    else:
        del content[int(keep * len(content)) :]
    archive.write_bytes(content)
    with pytest.raises(UserError, match=f"{kind}: this archive is cut short or damaged"):
        unpack(archive, tmp_path / "out")
    assert _names(tmp_path) == [kind]
