"""The page's server, of the standard library: the page's files, its state as JSON, pictures of photos, and actions.

It has one user on this machine, who may open the page in several windows. Other pages in the user's browser can neither
act here, since browsers let them send no JSON, nor read answers through a name of their own for this address: no script
can send another ``Host``.
"""

import hashlib
import inspect
import json
import os
import re
import shutil
import signal
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, quote, urlsplit

import cv2
import numpy as np
from PIL import Image

from annotations.annotation import content_errors
from photos.encoded_class import MOST
from photos.examples import Example
from photos.page.background import line_of
from photos.page.folder import Folder
from photos.read_photos import read_photo
from photos.results_folder import FORMATS
from photos.segmenter import Segmenter
from util.files.errors import UserError
from util.files.overlay import class_colour, class_map

INDEX = "page.html"
FILES = {INDEX: "text/html", "page.css": "text/css", "page.js": "text/javascript", "mask.js": "text/javascript"}
JSON = "application/json"
BYTES = "application/octet-stream"
MAX_BYTES = {JSON: 2**25, BYTES: 2**28}  # of a request, by its kind
PATIENCE = 30  # seconds after which a connection that sends nothing is closed
PREVIEW, THUMBNAIL = 2048, 320  # pixels of the longer side, at most
HEADERS = {  # of every answer: no other page may show this one, or learn its address
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
HOSTS = ("localhost", "127.0.0.1", "[::1]")
ACTIONS = (  # of the page, methods of the folder
    *("samples", "upload", "remove", "save", "ask", "absent", "segment", "stop", "pack"),
    *("add_class", "rename_class", "remove_class"),
)


class Server(ThreadingHTTPServer):
    """A server of one folder, which this machine alone reaches, with a thread for each connection."""

    daemon_threads = True
    folder: Folder

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has closed its connection."""


class Handler(BaseHTTPRequestHandler):
    """A request; errors become an answer ``{"error": line}``."""

    server: Any
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer a GET by ``look``, and a POST by ``act``."""
        url = urlsplit(self.path)
        answer = self.look if self.command == "GET" else self.act
        try:
            self._check_address()
            content, kind = answer(url.path, dict(parse_qsl(url.query)))
        except Exception as error:
            self._send(400, {"error": line_of(error), "kind": type(error).__name__}, JSON)
        else:
            self._send(200, content, kind)

    do_POST = do_GET

    def _check_address(self) -> None:
        """Refuse (UserError) a request to the server by another name, or of the page of another folder."""
        folder, host = identity_of(self.server.folder), re.sub(r":\d+$", "", self.headers.get("Host", HOSTS[0]))
        if host in HOSTS and self.headers.get("Page-Folder", folder) == folder:
            return
        self.close_connection = True
        raise UserError(
            f"this page was of another folder, the server has {self.server.folder.out} now; load the page again"
            if host in HOSTS
            else "open this page as http://localhost; from another machine by ssh -L PORT:localhost:PORT"
        )

    def _send(self, code: int, content: Any, kind: str) -> None:
        """Send an answer: its code, its media type, and its content."""
        self.send_response(code)
        with self._readable(content) as body:
            length = body.seek(0, os.SEEK_END)
            body.seek(0)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            is_kept = "changed=" in self.path and code == 200
            self.send_header("Cache-Control", "max-age=86400" if is_kept else "no-store")
            for name, value in HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            shutil.copyfileobj(body, self.wfile)

    def _readable(self, content: Any) -> IO[bytes]:
        """Return an answer as a file: a file's content, bytes, or anything else as JSON."""
        if isinstance(content, Path):
            return content.open("rb")
        return BytesIO(content if isinstance(content, bytes) else json.dumps(content).encode())

    def body(self) -> bytes:
        """Return the body of a request; UserError: it has no length, is too large, or is of another kind."""
        length = self.headers.get("Content-Length", "")
        limit = MAX_BYTES.get(self.headers.get("Content-Type", ""), -1)
        if not length.isdecimal() or int(length) > limit:
            self.close_connection = True
            allowed = " or ".join(f"{most} bytes of {kind}" for kind, most in MAX_BYTES.items())
            raise UserError(f"this request is refused; it may have at most {allowed}, and must state Content-Length")
        return self.rfile.read(int(length))

    def log_message(self, *arguments: object) -> None:
        """Say nothing about requests."""

    def look(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Return a file of the page, its state, or a photo's picture or mask."""
        folder = self.server.folder
        name = path.strip("/") or INDEX
        if name in FILES:
            return Path(__file__).with_name(name).read_bytes(), FILES[name]
        if name == "download" and folder.archive is not None:
            return folder.archive, BYTES
        photo = query.get("photo", "")
        with folder.lock:
            match name:
                case "state":
                    return page_state(folder, query.get("seen", "")), JSON
                case "mask":
                    return folder.scene(photo), JSON
                case "thumb":
                    return jpeg(thumbnail(folder, photo)), "image/jpeg"
        if name == "picture":
            return jpeg(picture(folder, photo, PREVIEW)), "image/jpeg"
        raise UserError(f"{name}: is nothing of this page")

    def act(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Do one of the page's actions, and return its note."""
        folder = self.server.folder
        action = path.strip("/")
        if action not in ACTIONS:
            self.close_connection = True
            raise UserError(f"{action}: is no action of the page")
        do = getattr(folder, action)
        body = self.body()
        with content_errors("this request is damaged (", ")"):
            values = {**query, "content": body} if action == "upload" else json.loads(body)
            called = inspect.signature(do).bind(**values)
        with folder.lock:
            answer = do(**called.arguments)
        return answer if isinstance(answer, dict) else {"note": answer or ""}, JSON


def identity_of(folder: Folder) -> str:
    """Return what tells the page of a folder from those of others that were served at the same port."""
    return quote(str(folder.out.resolve()))


def page_state(folder: Folder, seen: str) -> dict[str, Any]:
    """Return what the browser shows; only its digest where that was ``seen``."""
    engine = folder.segmenter.engine
    classes = {value: name for value, name in enumerate(folder.classes.names, 1) if name}
    state = {
        "title": f"{engine.title}, {Path(engine.source).name}",
        "untrained": [value for value, name in classes.items() if engine.outlook(name)],
        "out": str(folder.out),
        "folder": identity_of(folder),
        "formats": FORMATS,
        "most": MOST,
        "job": folder.work.state,
        "done": folder.work.done,
        "archive": folder.archive is not None,
        "photos": [folder.row(name) for name in sorted(folder.photos, key=str.casefold)],
        "classes": [[value, name, class_colour(value)] for value, name in classes.items()],
    }
    digest = hashlib.sha256(json.dumps(state).encode()).hexdigest()
    return {"seen": digest} if digest == seen else {**state, "seen": digest}


def picture(folder: Folder, name: str, side: int) -> np.ndarray:
    """Return a photo with at most ``side`` pixels on a side, (h, w, 3) uint8; notes why it cannot be read."""
    path = folder.opened.path(name)
    try:
        image = Image.fromarray(read_photo(path))
    except UserError as error:
        folder.masks.errors[path] = str(error)
        raise
    image.thumbnail((side, side))
    return np.asarray(image)


def thumbnail(folder: Folder, name: str) -> np.ndarray:
    """Return a small picture of a photo with its mask, (h, w, 3) uint8."""
    small = picture(folder, name, THUMBNAIL)
    label = folder.masks.label(folder.opened.path(name))
    return class_map(small, cv2.resize(label, small.shape[1::-1], interpolation=cv2.INTER_NEAREST))


def jpeg(image: np.ndarray) -> bytes:
    """Return an RGB picture (h, w, 3) uint8 as a JPEG."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return content.tobytes()


def serve(segmenter: Segmenter, out: Path, port: int, photos: Sequence[Path], examples: Sequence[Example]) -> None:
    """Serve the page of the folder ``out`` until it is interrupted, with photos opened and examples taken before."""
    try:
        server = Server((HOSTS[1], port), Handler)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; name another") from None
    with server:
        server.folder = folder = Folder(segmenter, out)
        if photos:
            print(folder.open(photos))
        if examples:
            print(folder.take_examples(examples))
        print(
            f"{segmenter.engine.title}: open http://{HOSTS[1]}:{server.server_address[1]}; "
            f"work is kept in {out}; Ctrl-C ends this program",
            flush=True,
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
        folder.end()
