"""The page of ``predict.py --serve`` as a browser sees it: requests to its server."""

import json
import threading
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from photos import Segmenter
from photos.page.server import JSON, Handler, Server
from photos.page.session import Session

NONE_LEFT = "no photo is left to be segmented"
SEGMENTED = " photos show "
BOX = {"tool": "box", "value": 1, "radius": 2, "points": [[30, 20], [10, 5]]}
IN_BOX = (slice(5, 20), slice(10, 30))  # the pixels of BOX


class Page:
    """A session and its server, as a browser sees them."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.session = Session(segmenter, out)
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.session = self.session
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def get(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        """Return an answer: what JSON says, else bytes."""
        named = {"Content-Type": JSON}
        for key, value in headers.items():
            named[key.replace("_", "-")] = value
        try:
            with urlopen(Request(f"{self.address}/{path}", body, named)) as answer:
                content = answer.read()
        except HTTPError as error:
            return json.load(error)
        return json.loads(content) if answer.headers["Content-Type"] == JSON else content

    def do(self, action: str, **values: Any) -> str:
        """Run an action to its end and return its note or its error."""
        answer = self.get(action, json.dumps(values).encode())
        if self.session.work.state:
            self.session.work.thread.join(60)
        return "".join(answer.values()) or self.session.work.done.note

    def state(self) -> dict[str, Any]:
        return self.get("state?since=-1")

    def classes(self) -> list[str]:
        return [name for _, name, _ in self.state()["classes"]]

    def row(self, name: str) -> dict[str, Any]:
        """Return what the grid shows of a photo."""
        rows = {row["name"]: row for row in self.state()["photos"]}
        return rows[name]

    def edits(self, name: str) -> list[dict[str, Any]]:
        return self.session.state.photo(name).edits

    def draw(self, name: str, *edits: dict) -> str:
        """Draw on a photo; return the last note."""
        return [self.do("draw", photo=name, edit=edit) for edit in edits][-1]

    def judge(self, name: str, verdict: str) -> str:
        return self.do("judge", photo=name, verdict=verdict, value=1)


def unpacked(page: Page, folder: Path) -> Path:
    """Return the folder of the page's download, unpacked."""
    archive = folder.with_suffix(".zip")
    archive.write_bytes(page.get("download"))
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder
