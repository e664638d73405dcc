"""The page without gradio: marks, visits, thresholds, corrections, archive, and visitors who send nonsense."""

from __future__ import annotations

import copy
import csv
import io
import json
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.errors import UserError
from util.evaluate.calibration import Calibration
from util.formats import coco, labelme, yolo
from util.page import actions as examples
from util.page.actions import load_example, message_of, open_example, segment, take_as_supports, write_archive
from util.page.found import FoundPhoto, threshold_of
from util.page.marks import MAX_MARKS, MAX_POINTS, Mark, read_marks, support_label, text_of
from util.page.visit import Visit, free_stem
from util.predict import Prediction, Segmenter
from util.predict.results import FORMATS

SHAPE = (40, 60)
BOX = Mark("box", 1, 2, ((30, 20), (10, 5)))


def many(marks: int, points: int) -> str:
    """Return marks as text, all of them strokes of the same number of points."""
    stroke = f'{{"tool": "brush", "value": 1, "radius": 1, "points": [{",".join(["[1,1]"] * points)}]}}'
    return f'{{"key": 1, "marks": [{",".join([stroke] * marks)}]}}'


@pytest.fixture
def visit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visit:
    monkeypatch.setattr(examples, "SIDE", 128)
    return Visit(tmp_path)


@pytest.fixture
def segmenter(baseline: Path, made) -> Segmenter:
    if "page" not in made.segmenters:
        made.segmenters["page"] = Segmenter(config=baseline, device="cpu")
    return made.segmenters["page"].without_classes()


def mark(visit: Visit, *marks: Mark) -> None:
    visit.mark(text_of(visit.open.key, marks))


def test_each_tool_marks_the_pixels_that_it_covers() -> None:
    label = support_label([BOX], 1, SHAPE)
    assert label.sum() == 15 * 20 and label[5, 10] == label[19, 29] == 1 and label[20, 29] == label[19, 30] == 0
    brush = support_label([Mark("brush", 1, 3, ((10, 20), (40, 20)))], 1, SHAPE)
    assert brush[20, 10:41].all() and brush[18, 25] and not brush[30].any()
    point = support_label([Mark("point", 1, 2, ((30, 20),))], 1, SHAPE)
    assert point[20, 30] == 1 and point[20, 35] == 255 and point[20, 45] == 0


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        "[" * 100_000,
        '{"key": 1}',
        '{"key": 1, "marks": [3]}',
        '{"key": 1, "marks": [{"tool": "laser", "value": 1, "radius": 1, "points": [[1, 1]]}]}',
        '{"key": 1, "marks": [{"tool": "brush", "value": 9, "radius": 1, "points": [[1, 1]]}]}',
        '{"key": 1, "marks": [{"tool": "brush", "value": 1, "radius": NaN, "points": [[1, 1]]}]}',
        '{"key": 1, "marks": [{"tool": "brush", "value": 1, "radius": 1, "points": [[1e300, 1]]}]}',
        '{"key": 1, "marks": [{"tool": "brush", "value": 1, "radius": 1, "points": []}]}',
        '{"key": 1, "marks": [{"tool": "box", "value": 1, "radius": 1, "points": [[1, 1]]}]}',
        many(MAX_MARKS + 1, 1),
        many(1, MAX_POINTS + 1),
        "x" * 2**23,
    ],
)
def test_marks_of_another_form_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read|on one photo"):
        read_marks(text, 2)


def test_classes_are_added_renamed_and_removed(visit: Visit) -> None:
    visit.add_class("<b>star</b>".replace("/", ""))
    visit.rename_class(1, "disc")
    open_example(visit)
    mark(visit, BOX, Mark("box", 2, 1, ((50, 50), (90, 90))))
    assert visit.keep_marks() == 2 and [kept.name for kept in visit.supports] == ["disc", "<b>star<b>"]
    open_example(visit)
    mark(visit, BOX, Mark("box", 2, 1, ((50, 50), (90, 90))))
    visit.remove_class(1)
    assert visit.classes == ["<b>star<b>"] == [kept.name for kept in visit.supports]
    assert [m.value for m in visit.open.marks] == [1]
    with pytest.raises(UserError, match="only class"):
        visit.remove_class(1)
    for number in range(7):
        visit.add_class(f"class {number}")
    with pytest.raises(UserError, match="at most 8"):
        visit.add_class("one more")


def test_uploads_are_checked_and_named_apart(visit: Visit, photos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "upload" / "bad.jpg"
    bad.parent.mkdir()
    bad.write_bytes(photos[0].read_bytes()[:900])
    with pytest.raises(UserError, match=r"bad\.jpg: .*damaged") as error:
        visit.add_queries([bad])
    assert message_of(str(error.value), tmp_path).startswith("bad.jpg:")
    (tmp_path / "page.svg").write_text("<svg/>")
    with pytest.raises(UserError, match="name is not a photo's"):
        visit.add_queries([tmp_path / "page.svg"])
    huge = tmp_path / "huge.png"
    Image.new("1", (1, 1)).save(huge)
    header = b"IHDR" + struct.pack(">II", 20_000, 20_000) + huge.read_bytes()[24:29]
    content = huge.read_bytes()
    huge.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with pytest.raises(UserError, match="pixels"):
        visit.open_photo(huge)
    visit.add_queries([photos[0], photos[0]])
    first, second = (query.path for query in visit.queries)
    assert second.stem == f"{first.stem}_2" and first.parent.parent == visit.folder
    assert free_stem("../../a b<c>", set()) == "_.._a_b_c_" and free_stem("...", set()) == "photo"


@pytest.mark.parametrize("offset", [None, 1.5])
def test_at_level_0_the_mask_is_the_networks(tmp_path: Path, offset: float | None) -> None:
    margins = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    image = np.zeros((*SHAPE, 3), np.uint8)
    calibration = None if offset is None else Calibration("", "", "", "", 0.7, offset, [1.0], 0.5, 0.6)
    found = Prediction.from_margins(image, ["a", "b"], margins, [0.6, 0.7], calibration)
    assert (found.own_threshold == 0.5) == (offset is None)
    photo = FoundPhoto(1, tmp_path / "a.png", found, tmp_path)
    own, just_above = (threshold_of(level, photo.spread, photo.own_threshold) for level in (0, 1e-6))
    assert (photo.mask(own) == found.mask).all() and photo.summary(own) == found.summary()
    assert (photo.mask(just_above) != found.mask).mean() < 0.001
    low, high = (photo.mask(threshold_of(level, photo.spread, own)) for level in (-1, 1))
    assert (low > 0).sum() > (found.mask > 0).sum() > (high > 0).sum() > 0 and (low[high > 0] == high[high > 0]).all()


def test_segment_correct_and_download(visit: Visit, segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no marked photo"):
        segment(visit, segmenter)
    load_example(visit)
    visit.add_class("unused")
    notes = segment(visit, segmenter)
    assert len(visit.found) == 4 and any("unused: left out" in note for note in notes)
    visit.shown = 1
    photo = visit.shown_photo()
    visit.correct(text_of(photo.key, [Mark("box", 2, 1, ((0, 0), (50, 40)))]))
    visit.level = 1.0
    assert 0.5 < visit.threshold < 1
    with pytest.raises(UserError, match="not with a point"):
        visit.correct(text_of(photo.key, [Mark("point", 1, 1, ((1, 1),))]))
    assert (photo.mask(visit.threshold)[:40, :50] == 2).all()
    with zipfile.ZipFile(write_archive(visit, FORMATS, instances=True)) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "got")
        texts = [archive.read(name) for name in names if name.endswith((".json", ".csv", ".yaml", ".xml", ".txt"))]
    assert not any(str(tmp_path).encode() in text for text in texts)
    assert all(not name.startswith(("/", "..")) for name in names)
    results, stem = tmp_path / "got/results", photo.query.stem
    assert (np.asarray(Image.open(results / f"{stem}_mask.png"))[:40, :50] == 2).all()
    record = json.loads((results / f"{stem}.json").read_text())
    assert (
        record["query"] == f"photos/{stem}.jpg"
        and record["threshold"] == visit.threshold
        and record["corrections"] == 1
    )
    assert (tmp_path / "got" / record["query"]).is_file()
    assert len(list(csv.DictReader(io.StringIO((results / "summary.csv").read_text())))) == 8
    for read, path in (
        (coco.read_annotations, results / "coco/instances.json"),
        (yolo.read_annotations, results / "yolo"),
        (labelme.read_annotations, results / "labelme"),
    ):
        assert len(read(path).photos) == 4, path
    assert take_as_supports(visit) >= 1 and visit.supports[-1].support.source == f"{stem}.jpg"
    visit.rename_class(2, "renamed")
    segment(visit, segmenter)  # again: corrections remain
    again = visit.shown_photo()
    assert again.key != photo.key and again.names[1] == "renamed" and len(again.marks) == 1
    assert (again.mask(visit.threshold)[:40, :50] == 2).all()


def test_visits_stay_apart(visit: Visit, segmenter: Segmenter, tmp_path: Path) -> None:
    others = [copy.deepcopy(visit) for _ in range(6)]
    for number, other in enumerate(others):
        load_example(other)
        other.queries = other.queries[: 1 + number % 2]
        other.rename_class(1, f"class {number}")
    workers = [threading.Thread(target=segment, args=(other, segmenter)) for other in others]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number, other in enumerate(others):
        assert len(other.found) == 1 + number % 2 and other.found[0].names[0] == f"class {number}"
    assert not visit.queries and not segmenter.classes
