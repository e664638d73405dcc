"""The page's server, of the standard library: the page's files, the state as JSON, pictures of the photos, and actions.

It has one user, who may open the page in several windows. Other pages in the user's browser can neither act here, since
browsers let them send no JSON, nor read answers through a name of their own for this address: no script can send
another ``Host``, or the ``Via`` of a proxy.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from photos.command import HOST, PORT, SESSION
from photos.options import segmenter_of
from photos.page.background import line_of
from photos.page.photo import PREVIEW, jpeg
from photos.page.session import Session
from util.errors import UserError

INDEX = "page.html"
SCRIPT = "text/javascript"  # browsers run modules of this type alone; the system's table of types may have another
FILES = {
    INDEX: "text/html",
    "page.css": "text/css",
    "page.js": SCRIPT,
    "canvas.js": SCRIPT,
    "server.js": SCRIPT,
    "state.js": SCRIPT,
}
JSON = "application/json"
BYTES = "application/octet-stream"
MAX_UPLOAD = 2**28  # bytes
MAX_REASON = 300  # characters of a line as the reason of an answer
AnyServer = TypeVar("AnyServer", bound="QuietServer")
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class QuietServer(ThreadingHTTPServer):
    """A server of a thread for each request."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has closed its connection."""

    def serve_until_interrupted(self) -> None:
        """Answer requests until Ctrl-C, or the signal that ends a process."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever()


class Server(QuietServer):
    """A server of one session."""

    session: Session


class QuietHandler(BaseHTTPRequestHandler):
    """A request; errors become an answer ``{"error": line}``, whose reason is that line too."""

    server: Any
    protocol_version = "HTTP/1.1"

    def look(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Return the content that GET asks for, bytes or what becomes JSON, and its media type."""
        raise NotImplementedError

    def act(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Do what POST asks for, and return as ``look``."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer a request, with what is looked at, or with what an action says."""
        url = urlsplit(self.path)
        answer = self.look if self.command == "GET" else self.act
        try:
            self._check_host()
            content, kind = answer(url.path, dict(parse_qsl(url.query)))
        except Exception as error:
            line = line_of(error)
            self.send_response(400, line[:MAX_REASON].encode("ascii", "replace").decode())
            self._send({"error": line}, JSON, "no-store")
        else:
            self.send_response(200)
            self._send(content, kind, "max-age=86400" if "changed=" in self.path else "no-store")

    do_POST = do_GET

    def _check_host(self) -> None:
        """Refuse (UserError) a request to a local server by another name, unless a proxy sends it."""
        host = re.sub(r":\d+$", "", self.headers.get("Host", LOCAL[0]))
        is_local = self.server.server_address[0] in LOCAL
        if is_local and host not in LOCAL and "Via" not in self.headers:
            raise UserError(
                "open this page as http://localhost; a proxy must set the header 'Host: localhost' or 'Via'"
            )

    def _send(self, content: Any, kind: str, caching: str) -> None:
        """Send the rest of an answer: its media type, how long it may be kept, and its content."""
        with self._readable(content) as body:
            length = body.seek(0, os.SEEK_END)
            body.seek(0)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.send_header("Cache-Control", caching)
            self.end_headers()
            shutil.copyfileobj(body, self.wfile)

    def _readable(self, content: Any) -> IO[bytes]:
        """Return an answer as a file: a file's content, bytes, or anything else as JSON."""
        if isinstance(content, Path):
            return content.open("rb")
        return BytesIO(content if isinstance(content, bytes) else json.dumps(content).encode())

    def body(self, kinds: Sequence[str]) -> bytes:
        """Return what a request sends; UserError: its length is none or too large, or it is none of the ``kinds``."""
        length = self.headers.get("Content-Length", "")
        is_possible = length.isdecimal() and int(length) <= MAX_UPLOAD
        if not is_possible or self.headers.get("Content-Type") not in kinds:
            self.close_connection = True
            allowed = f"at most {MAX_UPLOAD} bytes (Content-Length) of {' or '.join(kinds)}"
            raise UserError(f"{self.path}: refused; a request has {allowed}")
        return self.rfile.read(int(length))

    def log_message(self, *arguments: object) -> None:
        """Say nothing about requests."""


class Handler(QuietHandler):
    """A request of the page."""

    def look(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Return a file of the page, its state, or a picture of a photo."""
        session = self.server.session
        name = path.strip("/") or INDEX
        if name in FILES:
            return Path(__file__).with_name(name).read_bytes(), FILES[name]
        if path == "/download":
            if not session.has_archive:
                raise UserError("no zip is ready; press Prepare zip")
            return session.archive, BYTES
        if path == "/picture":  # takes long, and nothing changes it
            return jpeg(session.photos[query["photo"]].picture(PREVIEW)), "image/jpeg"
        with session.lock:
            if path == "/state":
                return session.state(int(query["since"])), JSON
            photo = session.photos[query.get("photo", path)]
            if path == "/scene":
                return photo.scene(), JSON
            if path == "/layer":
                return photo.layer(), "image/png"
            return jpeg(photo.thumbnail()), "image/jpeg"

    def act(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Do one of the session's actions, and return its note."""
        session = self.server.session
        action = path.strip("/")
        if action not in session.actions:
            self.close_connection = True
            raise UserError(f"{action}: is no action of the page")
        body = self.body((JSON, BYTES))
        values = {**query, "content": body} if action == "upload" else json.loads(body)
        with session.lock:
            note = session.actions[action](**values)
            session.save()
            return {"note": note or ""}, JSON


def serve(parsed: argparse.Namespace) -> int:
    """Serve the page of a command line until it is interrupted, and return the exit code 0."""
    segmenter = segmenter_of(parsed, [])
    out = parsed.out or SESSION
    host, port = parsed.host or HOST, parsed.port or PORT
    with listening(Server, Handler, host, port) as server:
        server.session = session = Session(segmenter, out)
        title = segmenter.model.title
        print(f"{title}: open http://{host}:{port}; work is kept in {out}; Ctrl-C ends this program", flush=True)
        server.serve_until_interrupted()
        session.end()
    return 0


def listening(server: type[AnyServer], handler: type[QuietHandler], host: str, port: int) -> AnyServer:
    """Return a server that listens at an address; UserError: it cannot."""
    try:
        return server((host, port), handler)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror}; name another") from None
