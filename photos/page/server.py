"""The page's server, of the standard library: the page's files, the state as JSON, pictures of the photos, and actions.

It has one user, who may open the page in several windows. Other pages in the user's browser can neither act here, since
browsers let them send no JSON, nor read answers through a name of their own for this address: no script can send
another ``Host``, or the ``Via`` of a proxy. From other machines it is reached by an address that ends with a key.
"""

import argparse
import contextlib
import hmac
import inspect
import ipaddress
import json
import os
import re
import secrets
import shutil
import signal
import socket
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from annotations.annotation import content_errors
from photos.command import PORT, SESSION
from photos.options import segmenter_of
from photos.page.background import line_of
from photos.page.files import PREVIEW, jpeg
from photos.page.session import Session
from photos.page.view import has_archive, picture, scene, view
from util.files.errors import UserError

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
MAX_BYTES = {JSON: 2**24, BYTES: 2**28}  # of a request, by its kind
MAX_WAITING = 64  # connections that have not sent a whole request
PATIENCE = 30  # seconds after which a connection that sends nothing is closed
KEY_BYTES = 16
HEADERS = {  # of every answer: no other page may show this one, or learn its address
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
MAX_REASON = 300  # characters of a line as the reason of an answer
AnyServer = TypeVar("AnyServer", bound="QuietServer")
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class QuietServer(ThreadingHTTPServer):
    """A server of a thread for each connection, of which ``MAX_WAITING`` may wait for a request.

    Args:
        address: host and port to listen at; port 0 for a free one.
        handler: of requests.
        names: further names by which it is reached.
    """

    daemon_threads = True
    request_queue_size = MAX_WAITING

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], names: Sequence[str] = ()):
        super().__init__(address, handler)
        self.names = {*LOCAL, address[0], *names}
        self.key = ""  # the first part of all paths; none where only this machine reaches it
        if not ipaddress.ip_address(str(self.server_address[0])).is_loopback:  # other machines reach it
            self.names |= {socket.gethostname(), socket.getfqdn()}
            self.key = secrets.token_urlsafe(KEY_BYTES)
        self._waiting: dict[socket.socket, None] = {}  # in the order in which they began to wait
        self._gate = threading.Lock()

    @property
    def url(self) -> str:
        """The address that opens it."""
        host, port = str(self.server_address[0]), self.server_address[1]
        name = socket.gethostname() if ipaddress.ip_address(host).is_unspecified else host
        return f"http://{name}:{port}/{self.key}/" if self.key else f"http://{name}:{port}"

    @property
    def warning(self) -> str:
        """The end of a line that says what others can do here; "" where only this machine reaches it."""
        return "; whoever knows this address can open photos of this machine: there is no password" if self.key else ""

    def knows(self, host: str) -> bool:
        """Return whether a name in a request is one of this server's."""
        return host in self.names or (bool(self.key) and is_address(host))

    def wait_for(self, connection: socket.socket) -> None:
        """Note that a connection has sent no whole request yet; of too many the first is closed."""
        with self._gate:
            self._waiting.pop(connection, None)
            self._waiting[connection] = None
            first = next(iter(self._waiting)) if len(self._waiting) > MAX_WAITING else None
            if first is not None:
                del self._waiting[first]
        if first is not None:
            with contextlib.suppress(OSError):  # it has been closed by the other side
                first.shutdown(socket.SHUT_RDWR)

    def hear(self, connection: socket.socket) -> None:
        """Note that a connection waits no longer."""
        with self._gate:
            self._waiting.pop(connection, None)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection's requests in a thread."""
        self.wait_for(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.hear(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has closed its connection."""

    def serve_until_interrupted(self) -> None:
        """Answer requests until Ctrl-C, or the signal that ends a process."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever()


def is_address(host: str) -> bool:
    """Return whether a host is an address, not a name."""
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(host.strip("[]")))
    return False


class Server(QuietServer):
    """A server of one session."""

    session: Session


class QuietHandler(BaseHTTPRequestHandler):
    """A request; errors become an answer ``{"error": line}``, whose reason is that line too."""

    server: Any
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def look(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Return the content that GET asks for, bytes or what becomes JSON, and its media type."""
        raise NotImplementedError

    def act(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Do what POST asks for, and return as ``look``."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer a request, with what is looked at, or with what an action says."""
        self.server.hear(self.connection)
        url = urlsplit(self.path)
        answer = self.look if self.command == "GET" else self.act
        try:
            self._check_host()
            content, kind = answer(self._path_of(url.path), dict(parse_qsl(url.query)))
        except Exception as error:
            line = line_of(error)
            self.send_response(400, line[:MAX_REASON].encode("ascii", "replace").decode())
            self._send({"error": line}, JSON, "no-store")
        else:
            self.send_response(200)
            self._send(content, kind, "max-age=86400" if "changed=" in self.path else "no-store")
        self.server.wait_for(self.connection)

    do_POST = do_GET

    def _check_host(self) -> None:
        """Refuse (UserError) a request to the server by another name, unless a proxy sends it to a local one."""
        host = re.sub(r":\d+$", "", self.headers.get("Host", LOCAL[0]))
        is_of_proxy = "Via" in self.headers and not self.server.key
        if self.server.knows(host) or is_of_proxy:
            return
        self.close_connection = True
        if self.server.key:
            raise UserError(f"{host}: is no name of this server; start it with --host ADDRESS,{host}")
        raise UserError("open this page as http://localhost; a proxy must set the header 'Host: localhost' or 'Via'")

    def _path_of(self, path: str) -> str:
        """Return the path of a request below the server's address; UserError: it lacks the key."""
        key = self.server.key
        if not key:
            return path
        first, slash, rest = path.removeprefix("/").partition("/")
        if not (slash and hmac.compare_digest(first.encode(), key.encode())):
            self.close_connection = True
            raise UserError("open the whole address that the program printed, with the key at its end and the last /")
        return f"/{rest}"

    def _send(self, content: Any, kind: str, caching: str) -> None:
        """Send the rest of an answer: its media type, how long it may be kept, and its content."""
        with self._readable(content) as body:
            length = body.seek(0, os.SEEK_END)
            body.seek(0)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            self.send_header("Cache-Control", caching)
            for name, value in HEADERS.items():
                self.send_header(name, value)
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
        kind = self.headers.get("Content-Type", "")
        limits = {known: MAX_BYTES[known] for known in kinds}
        if not length.isdecimal() or int(length) > limits.get(kind, -1):
            self.close_connection = True
            allowed = " or ".join(f"{limit} bytes of {known}" for known, limit in limits.items())
            raise UserError(f"this request is refused; it may have at most {allowed}, and must state Content-Length")
        try:
            return self.rfile.read(int(length))
        except TimeoutError:
            self.close_connection = True
            raise UserError(f"this request is refused; it sent nothing for {PATIENCE} s") from None

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
            if not has_archive(session):
                raise UserError("no zip is ready; press Prepare zip")
            return session.archive, BYTES
        if path == "/state":
            with content_errors("this request is damaged (", ")"):
                since = int(query["since"])
            return view(session, since), JSON
        photo = query.get("photo", path)
        if path == "/picture":
            return jpeg(picture(session, photo, PREVIEW)), "image/jpeg"
        if path == "/scene":
            return scene(session, photo), JSON
        with session.lock:
            if path == "/layer":
                return session.files.layer(session.state, session.state.photo(photo)), "image/png"
            picture(session, photo, 1)  # notes why it cannot be read
            return jpeg(session.files.thumbnail(session.state, session.state.photo(photo))), "image/jpeg"

    def act(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Do one of the session's actions, and return its note."""
        session = self.server.session
        action = path.strip("/")
        if action not in Session.ACTIONS:
            self.close_connection = True
            raise UserError(f"{action}: is no action of the page")
        body = self.body((JSON, BYTES))
        with content_errors("this request is damaged (", ")"):
            values = {**query, "content": body} if action.startswith("upload") else json.loads(body)
            seen = values.pop("seen", None)
            called = inspect.signature(getattr(session, action)).bind(**values)
        with session.lock:
            if seen is not None:
                session.check_seen(values["photo"], seen)
            answer = getattr(session, action)(**called.arguments)
            return answer if isinstance(answer, dict) else {"note": answer or ""}, JSON


def serve(parsed: argparse.Namespace) -> int:
    """Serve the page of a command line until it is interrupted, and return the exit code 0."""
    segmenter = segmenter_of(parsed, [])
    out = parsed.out or SESSION
    host, port = "127.0.0.1", parsed.port or PORT
    with listening(Server, Handler, host, port) as server:
        server.session = session = Session(segmenter, out)
        title = segmenter.model.title
        opened = f"{title}: open {server.url}{server.warning}"
        print(f"{opened}; work is kept in {out}; Ctrl-C ends this program", flush=True)
        server.serve_until_interrupted()
        session.end()
    return 0


def listening(server: type[AnyServer], handler: type[QuietHandler], host: str, port: int) -> AnyServer:
    """Return a server that listens at an address, which other names of it may follow, with commas.

    UserError: it cannot.
    """
    address, *names = host.split(",")
    try:
        return server((address, port), handler, names)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror}; name another") from None
