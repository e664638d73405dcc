"""The page's server, of the standard library: three files, the state as JSON, pictures of the photos, and actions.

It has one user, who may open the page in several windows. Other pages in the user's browser can neither act here, since
browsers let them send no JSON, nor read answers through a name of their own for this address: no script can send
another ``Host``, or the ``Via`` of a proxy.
"""

import argparse
import json
import mimetypes
import os
import re
import shutil
import signal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, urlsplit

from util.errors import UserError
from util.page.background import line_of
from util.page.photo import PREVIEW, jpeg
from util.page.session import ACTIONS, Session
from util.predict.command import HOST, PORT, SESSION, segmenter_of

FILES = {"/": "page.html", "/page.js": "page.js", "/canvas.js": "canvas.js", "/page.css": "page.css"}
JSON, BYTES = "application/json", "application/octet-stream"
MAX_UPLOAD = 2**28  # bytes
LOCAL = ("localhost", "127.0.0.1", "[::1]")


class Server(ThreadingHTTPServer):
    """A server of one session."""

    session: Session
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that has closed its connection."""


class Handler(BaseHTTPRequestHandler):
    """A request; errors become an answer ``{"error": line}``."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a request, with files, state and pictures, or with what an action says."""
        url, code, lasting = urlsplit(self.path), 200, "max-age=86400" if "changed=" in self.path else "no-store"
        try:
            named = re.sub(r":\d+$", "", self.headers.get("Host", LOCAL[0]))
            if self.server.server_address[0] in LOCAL and named not in LOCAL and "Via" not in self.headers:
                raise UserError("open this page as http://localhost; a proxy sends 'Host: localhost' or 'Via'")
            answer = self._look if self.command == "GET" else self._act
            content, kind = answer(url.path, dict(parse_qsl(url.query)))
        except Exception as error:
            content, kind, code, lasting = {"error": line_of(error)}, JSON, 400, "no-store"
        with self._readable(content) as body:
            length = body.seek(0, os.SEEK_END)
            body.seek(0)
            self.send_response(code)
            for header in (("Content-Type", kind), ("Content-Length", str(length)), ("Cache-Control", lasting)):
                self.send_header(*header)
            self.end_headers()
            shutil.copyfileobj(body, self.wfile)

    do_POST = do_GET

    def _readable(self, content: Any) -> IO[bytes]:
        """Return an answer as a file: a file's content, bytes, or anything else as JSON."""
        if isinstance(content, Path):
            return content.open("rb")
        return BytesIO(content if isinstance(content, bytes) else json.dumps(content).encode())

    def _look(self, path: str, words: dict[str, str]) -> tuple[Any, str]:
        session = self.server.session
        if path in FILES:
            return Path(__file__).with_name(FILES[path]).read_bytes(), mimetypes.guess_type(FILES[path])[0] or BYTES
        if path == "/download" and session.archive is not None:
            return session.archive, BYTES
        if path == "/picture":  # takes long, and nothing changes it
            return jpeg(session.photo(words["photo"]).picture(PREVIEW)), "image/jpeg"
        with session.lock:
            if path == "/state":
                return session.state(int(words["since"])), JSON
            photo = session.photo(words.get("photo", path))
            if path == "/scene":
                return photo.scene(), JSON
            return (photo.layer(), "image/png") if path == "/layer" else (jpeg(photo.thumbnail()), "image/jpeg")

    def _act(self, path: str, words: dict[str, str]) -> tuple[Any, str]:
        action, length = path.strip("/"), self.headers.get("Content-Length", "")
        is_known = self.headers.get("Content-Type") in (JSON, BYTES) and action in ACTIONS.split()
        is_possible = length.isdecimal() and len(length) <= len(str(MAX_UPLOAD)) and int(length) <= MAX_UPLOAD
        if not (is_possible and is_known):
            self.close_connection = True
            raise UserError(f"{action}: not done; a photo has 0 to {MAX_UPLOAD} bytes (Content-Length)")
        body = self.rfile.read(int(length))
        values = {**words, "content": body} if action == "upload" else json.loads(body)
        with self.server.session.lock:
            note = getattr(self.server.session, action)(**values)
            self.server.session.save()
            return {"note": note or ""}, JSON

    def log_message(self, *arguments: object) -> None:
        """Say nothing about requests."""


def serve(options: argparse.Namespace) -> int:
    """Serve the page of a command line until it is interrupted, and return the exit code 0."""
    opened = {"--support": options.supports, "--supports": options.support_files, "--query": options.queries}
    for name in filter(opened.get, opened):
        raise UserError(f"--serve: takes no {name}; photos and annotations are opened on the page")
    segmenter, out = segmenter_of(options, []), options.out or SESSION
    host, port = options.host or HOST, options.port or PORT
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server = Server((host, port), Handler)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror}; name another") from None
    with server:
        server.session = session = Session(segmenter, out)
        title = segmenter.model.network.title
        print(f"{title} on http://{host}:{port} - Ctrl-C ends it; work is kept in {out}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            session.end()
    return 0
