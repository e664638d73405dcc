"""The page of ``predict.py serve`` as a browser sees it: requests to its server."""

import io
import json
import threading
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np

from photos import Segmenter
from photos.page.folder import Folder
from photos.page.masks import label_by_row, runs_by_row
from photos.page.server import JSON, Handler, Server

IN_BOX = (slice(5, 30), slice(10, 40))  # pixels that tests paint


class Page:
    """A folder and its server, as a browser sees them."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.folder = self.folder = Folder(segmenter, out)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.folder.end()
        self.folder._only.close()

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
        if self.folder.work.state:
            self.folder.work.thread.join(60)
        return answer.get("error") or answer.get("note") or self.folder.work.done["note"]

    def known(self, name: str) -> dict[str, tuple[str, bool]]:
        """Return of each class of a photo by whom its mask is, and whether it has pixels."""
        state = self.get("state")
        names = {str(value): known for value, known, _ in state["classes"]}
        (row,) = (row for row in state["photos"] if row["name"] == name)
        return {names[value]: (by, share > 0) for value, (by, share, *_) in row["classes"].items()}

    def mask(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Return a photo's mask, and all that the server says of it."""
        scene = self.get(f"mask?photo={name}")
        return label_by_row(scene["runs"], (scene["height"], scene["width"])), scene

    def paint(self, name: str, value: int = 1, place: tuple[slice, slice] | None = IN_BOX) -> str:
        """Paint a class as a browser does; without a place, say that nothing of it is there."""
        label, scene = self.mask(name)
        label[label == value] = 0
        if place is not None:
            label[place] = value
        return self.save(name, label, [*scene["persons"], value], scene["version"])

    def save(self, name: str, label: np.ndarray, values: list[int], version: str) -> str:
        return self.do("save", photo=name, runs=runs_by_row(label), persons_values=sorted(set(values)), version=version)


def unpacked(page: Page, folder: Path) -> Path:
    """Return the folder of the page's download, unpacked."""
    zipfile.ZipFile(io.BytesIO(page.get("download"))).extractall(folder)
    return folder
