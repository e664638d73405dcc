"""The page: marks, rules and sessions by real requests to its server; what is written is what ``predict.py`` reads."""

import errno
import io
import json
import os
import shutil
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest
from PIL import Image

from util.data.images.read import read_mask
from util.errors import UserError
from util.evaluate.calibration import Calibration
from util.formats import coco, labelme, recognise, yolo
from util.page.photo import Mark, drawn, mask_at
from util.page.server import Handler, Server
from util.page.session import Session
from util.predict import Prediction, Segmenter
from util.predict.results import FORMATS, Results
from util.predict.supports import read_supports

NONE_LEFT = "no photo is left to be segmented"
SHAPE = (40, 60)
EMPTY = np.zeros(SHAPE, np.uint8)
BOX = {"tool": "box", "value": 1, "radius": 2, "points": [[30, 20], [10, 5]]}


class Page:
    """A session and its server, as a browser sees them."""

    def __init__(self, segmenter: Segmenter, out: Path):
        self.session = Session(segmenter, out)
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.session = self.session
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def get(self, path: str, body: bytes | None = None, **headers: str) -> Any:
        """Return an answer: what JSON says, else bytes."""
        headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        try:
            with urlopen(Request(f"{self.address}/{path}", body, headers)) as answer:
                content = answer.read()
                return json.loads(content) if answer.headers["Content-Type"] == "application/json" else content
        except HTTPError as error:
            return json.load(error)

    def do(self, action: str, **values: Any) -> str:
        """Run an action to its end and return its note or its error."""
        answer = self.get(action, json.dumps(values).encode())
        self.session.work.thread.join(60) if self.session.work.state else None
        return "".join(answer.values()) or self.session.work.note

    def row(self, name: str) -> dict[str, Any]:
        """Return what the grid shows of a photo."""
        return {row["name"]: row for row in self.get("state?since=-1")["photos"]}[name]

    def draw(self, name: str, *marks: dict) -> str:
        return self.do("draw", photo=name, marks=marks, before=self.row(name)["drawn"])


def unpacked(page: Page, folder: Path) -> Path:
    """Return the folder of the page's download, unpacked."""
    folder.with_suffix(".zip").write_bytes(page.get("download"))
    with zipfile.ZipFile(folder.with_suffix(".zip")) as archive:
        archive.extractall(folder)
    return folder


def replaced(photo: Path, keeps_time: bool = True) -> None:
    """Give a photo's file other content of the same size, and the time of before."""
    before, content = photo.stat(), photo.read_bytes()
    with Image.open(photo) as image:
        other = io.BytesIO()
        Image.fromarray(255 - np.asarray(image.convert("RGB"))).save(other, "JPEG", quality=40)
    assert len(other.getvalue()) <= len(content)
    photo.write_bytes(other.getvalue().ljust(len(content), b"\xff"))
    if keeps_time:
        os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def start(tmp_path: Path, baseline: Path, made) -> Iterator[Callable[[], Page]]:
    if "page" not in made.segmenters:
        made.segmenters["page"] = Segmenter(config=baseline, device="cpu")
    pages: list[Page] = []

    def begin() -> Page:
        pages.append(Page(made.segmenters["page"], tmp_path / "out"))
        return pages[-1]

    yield begin
    for page in pages:
        page.server.shutdown()
        page.server.server_close()


def test_base_classes_keep_their_names(make_checkpoint, photos: list[Path], tmp_path: Path) -> None:
    page = Page(Segmenter(make_checkpoint("pocket")), tmp_path / "out")
    for photo in photos[:2]:
        page.do("open", path=str(photo))
    assert page.do("keep_base", on=True) == "" and page.do("add_class", name="cat") == ""
    classes = [name for name, _ in page.get("state?since=-1")["classes"]]
    assert len(classes) == 7 and classes[-1] == "cat"
    assert "is a base class" in page.do("rename_class", value=1, name="dog")
    page.draw(photos[0].name, BOX | {"value": 7})
    assert page.do("segment") == "1 of 1 photos segmented" and list(page.row(photos[1].name)["share"]) == classes
    page.server.shutdown()


def test_a_class_is_removed_with_its_marks_and_results(start, photos: list[Path], tmp_path: Path) -> None:
    page = start()
    for photo in photos[:3]:
        page.do("open", path=str(photo))
    for name in ("cat", "dog", "cow"):
        page.do("add_class", name=name)
    example, other, predicted = (photo.name for photo in photos[:3])
    second = {**BOX, "points": [[0, 0], [20, 16]]}
    page.draw(example, BOX, second | {"value": 3}, second | {"tool": "eraser"})
    page.draw(other, BOX)
    assert page.do("segment").startswith("1 of 1 photos segmented")
    page.do("judge", photo=predicted, verdict="accepted", value=1)
    assert f"its result on {predicted} has a verdict" in page.do("remove_class", value=1)
    page.do("judge", photo=predicted, verdict="", value=1)
    assert page.do("remove_class", value=1) == "cat is removed"
    assert [name for name, _ in page.get("state?since=-1")["classes"]] == ["dog", "cow"]
    scene = page.get(f"scene?photo={example}")
    assert [(mark["tool"], mark["value"]) for mark in scene["marks"]] == [("box", 2), ("eraser", 1)]
    label = read_mask(tmp_path / f"out/marked/masks/{Path(example).stem}.png")
    assert {*np.unique(label)} == {0, 2}
    assert not page.row(other)["marked"] and not page.row(predicted)["found"]


def test_each_tool_marks_the_pixels_that_it_covers() -> None:
    def label(tool: str, radius: float, *points: list[float], on: np.ndarray = EMPTY) -> np.ndarray:
        return drawn(on, [Mark(tool=tool, value=1, radius=radius, points=[*points])])

    box, brush, point = (
        label("box", 2, [30, 20], [10, 5]),
        label("brush", 3, [10, 20], [40, 20]),
        label("point", 2, [30, 20]),
    )
    assert box.sum() == 15 * 20 and box[5, 10] == box[19, 29] == 1 and not label("eraser", 30, [20, 12], on=box).any()
    assert label("outline", 0, [0, 0], [4, 0], [4, 3], [0, 3]).sum() == 12
    assert brush[20, 10:41].all() and brush[18, 25] and not brush[30].any()
    assert [point[20, 30], point[20, 35], point[20, 45]] == [1, 255, 0]


@pytest.mark.parametrize("offset", [None, 1.5])
def test_at_the_own_threshold_the_mask_is_the_networks(offset: float | None) -> None:
    margins = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    margins = 20 * np.stack([cv2.GaussianBlur(one, (0, 0), 8) for one in margins])  # without specks
    calibration = None if offset is None else Calibration("", "", "", "", 0.7, offset, [1.0], 0.5, 0.6)
    found = Prediction.from_margins(np.zeros((*SHAPE, 3), np.uint8), ["a", "b"], margins, [0.6, 0.7], calibration)
    low, own, high = (mask_at(found.probability, found.own_threshold**power, [True, True]) for power in (1.3, 1, 0.7))
    assert (own != found.mask).mean() < 0.001
    assert (low > 0).sum() > (own > 0).sum() > (high > 0).sum() > 0 and (low[high > 0] == high[high > 0]).all()
    assert not (mask_at(found.probability, found.own_threshold, [False, True]) == 1).any()


def test_mark_segment_correct_accept_restart_and_download(start: Callable[[], Page], tmp_path: Path) -> None:
    page, out = start(), tmp_path / "out"
    assert "no photo is an example" in page.do("segment")
    page.do("example")
    page.do("add_class", name="unused")
    assert page.row("coins_1.jpg")["marked"] and page.do("segment").startswith(
        "4 of 4 photos segmented; unused: skipped"
    )
    own = read_mask(out / "coins_2_mask.png")
    page.draw("coins_2.jpg", BOX)
    assert (read_mask(out / "coins_2_mask.png")[5:20, 10:30] == 1).all()
    for name, verdict in (("coins_2.jpg", "accepted"), ("portrait.jpg", "rejected")):
        page.do("judge", photo=name, verdict=verdict, value=1)
    page.draw("coins_3.jpg", BOX)
    page.do("click", photo="coins_3.jpg", x=90.0, y=40.0, value=1, before=page.row("coins_3.jpg")["drawn"])
    page.do("box", photo="coins_3.jpg", points=[[60, 30], [120, 80]], value=1, before=page.row("coins_3.jpg")["drawn"])
    assert {mark["tool"] for mark in page.get("scene?photo=coins_3.jpg")["marks"]} == {"box", "outline"}
    page.do("mark", photo="coins_4.jpg")  # two marked photos: the others are made again, but for what has a verdict
    assert page.do("segment").startswith("1 of 1 photos") and page.do("segment").startswith(NONE_LEFT)
    assert (read_mask(out / "coins_3_mask.png")[5:20, 10:30] == 1).all()
    page.do("slide", threshold=0.9, min_score=None)
    assert page.do("pack", formats=FORMATS) == "5 of 5 photos packed"  # also what is marked and was not looked at
    got = unpacked(page, tmp_path / "got")
    for module, path in ((coco, "coco/instances.json"), (yolo, "yolo"), (labelme, "labelme")):
        photos = module.read_annotations(got / path, out / "photos").photos
        assert len(photos) == 5 and [bool(photo.instances) for photo in photos] == [True] * 4 + [False], path
    assert len(recognise.read(str(got / "labelstudio/tasks.json"), out / "photos").annotated) == 4
    assert not read_mask(got / "portrait_mask.png").any() and read_mask(got / "coins_1_mask.png").any()
    texts = [file for file in got.rglob("*") if file.suffix in (".json", ".csv", ".html", ".txt", ".yaml", ".xml")]
    assert len(texts) > 15 and not [file for file in texts if str(tmp_path) in file.read_text()]
    tops = {file.name for file in got.iterdir() if file.is_dir()}
    assert tops == {"review", *FORMATS} - {"png"} and all(
        any(path.iterdir()) for path in got.rglob("*") if path.is_dir()
    )
    annotations = recognise.read(f"results:{got}", out / "photos")
    assert [bool(photo.instances) for photo in annotations.photos] == [True] * 4 + [False]
    page.do("pack", formats=["yolo"])
    assert {file.name for file in unpacked(page, tmp_path / "other").iterdir()} == {"yolo"}
    record = json.loads((out / "coins_2.json").read_text())
    assert record["threshold"] is None and len(record["corrections"]) == 1  # accepted before the slider moved
    assert json.loads((out / "coins_3.json").read_text())["threshold"] == 0.9
    marked, _ = read_supports([str(out / "marked")])
    assert [(one.name, one.photo.name) for one in marked] == [("coin", "coins_1.jpg"), ("coin", "coins_4.jpg")]
    results = Results(out, ["coin"])
    assert [results.is_reviewed(out / f"photos/{name}.jpg") for name in ("coins_2", "portrait", "coins_3")] == [1, 1, 0]
    before = page.get("state?since=-1")
    page.session.end()
    page = start()
    after = page.get("state?since=-1")
    for key in ("rule", "classes"):
        assert after[key] == before[key]
    for old, new in zip(before["photos"], after["photos"], strict=True):
        assert {**old, "changed": 0, "drawn": 0} == {**new, "changed": 0, "drawn": 0}
    scene = page.get("scene?photo=coins_2.jpg")
    assert [mark["tool"] for mark in scene["marks"]] == ["box"] and (scene["width"], scene["height"]) == own.shape[::-1]
    assert page.do("segment").startswith(NONE_LEFT)
    page.do("draw", photo="coins_2.jpg", marks=[], before=0)
    assert (read_mask(out / "coins_2_mask.png") == own).all()
    assert page.row("coins_2.jpg")["verdicts"] == {"coin": "accepted"}
    for picture in ("thumb", "picture", "layer"):
        assert page.get(f"{picture}?photo=coins_3.jpg&changed=1")[:2] in (b"\xff\xd8", b"\x89P")


def test_annotations_become_marked_photos(start, marked: dict[str, str], photos: list[Path], tmp_path: Path) -> None:
    page, photo, out = start(), Path(marked["coco"].partition(":")[0]), tmp_path / "out" / "marked"
    shutil.copy(photo, tmp_path / "marked.png")
    content = json.loads(photo.with_name("polygon.json").read_text())
    content["shapes"].append({"label": "stray", "shape_type": "point", "points": [[1, 1]]})
    (own := tmp_path / "own.json").write_text(json.dumps(content))
    for path in (tmp_path / "marked.png", *photos[:2]):
        page.do("open", path=str(path))
    page.do("add_class", name="cat")
    page.draw(photos[0].name, BOX)
    assert page.do("segment").startswith("2 of 2")
    page.do("slide", threshold=0.4, min_score=None)  # an import wins over it
    assert "enter the path" in page.do("annotations", path=" ")
    note = f"1 example photo; {own}: left out: shapes of the kind 'point' (1)"
    assert page.do("annotations", path=str(own)) == note and page.row("marked.png")["marked"]
    with Image.open(photo.with_name("index.png")) as truth:
        assert np.array_equal(read_mask(out / "masks/marked.png") == 1, np.asarray(truth) == 1)
    page.do("add_class", name="C+")
    assert "those of 'C+'" in page.do("add_class", name="C#")
    page.do("rename_class", value=1, name="dog")
    assert (out / "names.txt").read_text() == "dog\nC+\n"
    page.draw("marked.png", {**BOX, "points": [[0, 0], [5, 5]]})
    assert read_mask(out / "masks/marked.png")[2, 2] == 1
    page.do("mark", photo="marked.png")
    page.draw(photos[0].name)  # all is undone
    assert not (page.row("marked.png")["marked"] or page.row(photos[0].name)["marked"])


def test_results_of_predict_are_gone_on_with(start, predict, baseline: Path, marked, photos, tmp_path: Path) -> None:
    words = ("--config", baseline, "--support", f"cat={marked['box']}", "--query", photos[0], "--out", tmp_path / "out")
    predict(*words)
    page = start()
    page.draw(photos[0].name, BOX)
    page.do("judge", photo=photos[0].name, verdict="accepted", value=1)
    assert "0 of 0 photos" in predict(*words, "--resume").output
    assert (read_mask(tmp_path / "out" / f"{photos[0].stem}_mask.png")[5:20, 10:30] == 1).all()


def test_mistakes_are_one_line(start, predict, baseline: Path, marked: dict[str, str], tmp_path: Path) -> None:
    assert "takes no --query" in predict("--config", baseline, "--serve", "--query", "x").error
    page, folder = start(), tmp_path / "photos"
    folder.mkdir()
    assert "no such photo or folder" in page.do("open", path="nowhere")
    assert "no photo" in page.do("open", path=str(folder))
    Image.new("RGB", (60, 44)).save(folder / "new.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    assert page.do("open", path=str(folder)) == "2 photos added"
    assert "bad.jpg" in page.get("thumb?photo=bad.jpg")["error"] and "bad.jpg" in page.row("bad.jpg")["error"]
    page.draw("new.png", BOX)
    assert "bad.jpg" in page.do("segment") and "bad.jpg" in page.row("bad.jpg")["error"]
    assert "another window" in page.do("draw", photo="new.png", marks=[], before=77)
    assert "no classifier of base classes" in page.do("keep_base", on=True)
    (folder / "coco.json").write_text(Path(marked["coco"].partition(":")[2]).read_text())
    assert "marked.png" in page.do("annotations", path=str(folder / "coco.json"))
    assert "no longer open" in page.get("scene?photo=gone.png")["error"]
    assert "error" in page.get("stop", b"{}", Content_Type="text/plain")
    assert "localhost" in page.get("state?since=-1", Host="elsewhere.org:80")["error"]
    for ours in ({"Host": "localhost"}, {"Host": "elsewhere.org", "Via": "1.1 a proxy"}):
        assert page.get("state?since=-1", **ours)["photos"]
    assert "note" in page.get("upload?name=new2.png", (folder / "new.png").read_bytes())
    assert "open already" in page.get("upload?name=new2.png", b"")["error"]


@pytest.fixture
def copies(photos: list[Path], tmp_path: Path) -> list[Path]:
    """Return copies of some photos, b.jpg, a.jpg and c.jpg, in a folder of their own."""
    (tmp_path / "photos").mkdir()
    return [Path(shutil.copy(photo, tmp_path / f"photos/{name}.jpg")) for photo, name in zip(photos, "bac")]


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_photo_that_was_replaced_is_looked_at_anew(start, copies: list[Path], tmp_path: Path, keeps_time) -> None:
    page = start()
    assert page.do("open", path=str(tmp_path / "photos")) == "3 photos added"
    assert [row["name"] for row in page.get("state?since=-1")["photos"]] == ["a.jpg", "b.jpg", "c.jpg"]
    page.draw("b.jpg", BOX)
    assert page.do("segment") == "2 of 2 photos segmented"
    page.do("judge", photo="c.jpg", verdict="accepted", value=1)
    for photo in copies[1:]:
        replaced(photo, keeps_time)
    assert "c.jpg: its file was replaced" in page.do("judge", photo="c.jpg", verdict="accepted", value=1)
    assert "a.jpg: skipped, its file was replaced; press Segment" in page.do("pack", formats=["coco"])
    content = json.loads((unpacked(page, tmp_path / "got") / "coco/instances.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["b.jpg"] and content["annotations"]
    assert page.do("segment") == "2 of 2 photos segmented; 2 photos replaced on disk, such as a.jpg"
    assert not page.row("c.jpg")["verdicts"] and page.do("segment") == NONE_LEFT
    replaced(copies[0], keeps_time)
    assert "b.jpg: was replaced since it was marked" in page.do("segment")
    assert "nothing to download" not in page.do("pack", formats=["png"]) and page.session.archive is not None
    shutil.copytree(tmp_path / "photos", tmp_path / "again")  # of other times, and the same content
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "again").rename(tmp_path / "photos")
    assert "b.jpg: was replaced" in page.do("segment") and not page.session.photo("a.jpg").is_result_outdated


def test_nothing_is_accepted_that_was_not_looked_at(start, copies: list[Path], tmp_path: Path) -> None:
    page, out = start(), tmp_path / "out"
    page.do("open", path=str(tmp_path / "photos"))
    before = page.row("a.jpg")
    assert "a.jpg: was not segmented" in page.do("judge", photo="a.jpg", verdict="accepted", value=1)
    assert "press Segment" in page.do("judge", photo="a.jpg", verdict="rejected", value=1)
    assert page.do("judge", photo="a.jpg", verdict="", value=1) == ""
    after = page.row("a.jpg")
    assert not [*out.glob("*.json"), *out.glob("*.csv")] and after | {"changed": 0} == before | {"changed": 0}
    page.draw("b.jpg", BOX)  # a marked photo has a mask
    assert page.do("judge", photo="b.jpg", verdict="accepted", value=1) == ""
    assert (read_mask(out / "b_mask.png")[5:20, 10:30] == 1).all()


def test_files_of_others_are_left_alone(start, copies: list[Path], tmp_path: Path, monkeypatch) -> None:
    page, out, archive = start(), tmp_path / "out", tmp_path / "out.zip"
    archive.write_bytes(b"mine")
    page.do("open", path=str(copies[0]))
    page.draw("b.jpg", BOX)
    (out / "a.json").write_text('{"shapes": [], "imagePath": "a.jpg"}')
    assert "a.json: is no result of this program" in page.do("open", path=str(copies[1]))
    shutil.copy(copies[2], out / "b_mask.png")
    assert "is a query" in page.do("open", path=str(out / "b_mask.png"))
    for odd in ("[]", '{"query_file": [0, 0]}', '{"query_file": 1, "query": 2, "classes": 3}', "{"):
        (out / "odd.json").write_text(odd)
        assert page.do("segment") == NONE_LEFT and page.do("pack", formats=["png"])
    (out / "b_mask.png").unlink()
    page.do("open", path=str(copies[2]))
    assert page.do("segment") == "1 of 1 photos segmented" and page.do("pack", formats=["png", "coco"])
    assert archive.read_bytes() == b"mine" and (out / "a.json").read_text().startswith('{"shapes"')

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    before = page.session.archive.read_bytes()
    assert "predictions.zip: cannot be written (No space left" in page.do("pack", formats=["png"])
    assert page.session.archive is None and (out / "page/predictions.zip").read_bytes() == before
    assert {file.name for file in (out / "page").iterdir()} <= {*PARTS}


PARTS = ("session.json", "lock", "marks", "beneath", "predictions.zip")


@pytest.mark.parametrize("content", ["{", "[]", '{"photos": 3}', '{"rule": ["x", null]}', '{"rule": [1, 2, 3]}', "\0"])
def test_a_damaged_session_is_named(start, photos: list[Path], tmp_path: Path, content: str) -> None:
    page, file = start(), tmp_path / "out/page/session.json"
    page.do("open", path=str(photos[0]))
    file.write_text(content)
    with pytest.raises(UserError, match=r"session\.json: .*(damaged|cannot read).*remove it: marks and results stay"):
        start()
    assert file.read_text() == content


def test_uploads_are_counted_and_lengths_checked(start, photos: list[Path]) -> None:
    page, content = start(), photos[0].read_bytes()
    notes = [page.get(f"upload?name={name}", content).get("note") for name in ("z.jpg", "y 2.jpg".replace(" ", "%20"))]
    assert notes == ["1 photo added"] * 2 and "open already" in page.get("upload?name=Z.png", content)["error"]
    assert not (page.session.out / "photos/Z.png").exists()
    assert [row["name"] for row in page.get("state?since=-1")["photos"]] == ["y 2.jpg", "z.jpg"]
    for length in ("-1", "x", "", "9" * 5000, str(2**28 + 1)):
        with socket.create_connection(page.server.server_address, timeout=20) as line:
            head = (
                f"POST /stop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}"
            )
            line.sendall(f"{head}\r\n\r\n{{}}".encode())
            assert b"Content-Length)" in line.makefile("rb").read(), length


def test_a_name_that_is_no_utf8_goes_through(start, photos: list[Path], predict, baseline, marked, tmp_path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo, name in zip(photos, (b"caf\xe9.jpg", b"a.jpg")):
        shutil.copy(photo, folder / os.fsdecode(name))
    shown = "caf\\udce9.jpg"
    page, place = start(), f"photo={quote(shown)}"
    assert page.do("open", path=str(folder)) == "2 photos added"
    page.draw("a.jpg", BOX)
    assert page.do("segment") == "1 of 1 photos segmented" and page.row(shown)["found"]
    assert page.get(f"thumb?{place}&changed=1")[:2] == b"\xff\xd8"
    page.do("judge", photo=shown, verdict="accepted", value=1)
    assert page.do("pack", formats=FORMATS) == "2 of 2 photos packed"
    got = unpacked(page, tmp_path / "got")
    assert (got / "caf\\udce9_mask.png").exists() and "caf%E9" in (tmp_path / "out/review.html").read_text()
    page.session.end()
    assert start().row(shown)["verdicts"] == {"object": "accepted"}  # of a new start
    words = ("--config", baseline, "--support", f"cat={marked['box']}", "--query", folder, "--out", tmp_path / "found")
    for again in ((), ("--resume",)):
        outcome = predict(*words, *again, "--format", "png,coco,yolo,labelme,labelstudio")
        assert outcome.code == 0 and "caf\\udce9.jpg" in outcome.errors and "\\udce9" in outcome.errors
        assert shown in (tmp_path / "found/summary.csv").read_text()
    assert "0 of 0 photos" in outcome.output
