"""The page: marks, classes, photos, thresholds, corrections and the archive without gradio; its parts with gradio."""

from __future__ import annotations

import csv
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from util.errors import UserError
from util.evaluate.calibration import Calibration
from util.formats import coco, labelme, yolo
from util.page import state as page_state
from util.page.marks import Mark, support_label
from util.page.photo import Photo
from util.page.state import State
from util.predict import Prediction, Segmenter
from util.predict.results import FORMATS

SHAPE = (40, 60)
BOX = Mark("box", 1, 2, [[30, 20], [10, 5]])
OTHER = Mark("box", 2, 1, [[50, 50], [90, 90]])


@pytest.fixture
def state(tmp_path: Path, baseline: Path, made, monkeypatch: pytest.MonkeyPatch) -> State:
    if "page" not in made.segmenters:
        made.segmenters["page"] = Segmenter(config=baseline, device="cpu")
    monkeypatch.setattr(page_state, "SIDE", 128)
    return State(made.segmenters["page"], tmp_path)


def draw(state: State, photo: Photo, *marks: Mark) -> None:
    state.take_marks(json.dumps({"key": photo.key, "marks": [vars(mark) for mark in marks]}))


@pytest.mark.parametrize(("words", "reason"), [(("--out", "x"), "takes no --out"), ((), "requirements-serve.txt")])
def test_refusals(predict, baseline: Path, monkeypatch: pytest.MonkeyPatch, words: tuple, reason: str) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "util.page.page", raising=False)
    assert reason in predict("--config", baseline, "--serve", *words).error


def test_each_tool_marks_the_pixels_that_it_covers() -> None:
    label = support_label([BOX], 1, SHAPE)
    assert label.sum() == 15 * 20 and label[5, 10] == label[19, 29] == 1 and label[20, 29] == label[19, 30] == 0
    brush = support_label([Mark("brush", 1, 3, [[10, 20], [40, 20]])], 1, SHAPE)
    assert brush[20, 10:41].all() and brush[18, 25] and not brush[30].any()
    point = support_label([Mark("point", 1, 2, [[30, 20]])], 1, SHAPE)
    assert point[20, 30] == 1 and point[20, 35] == 255 and point[20, 45] == 0


def test_classes_are_added_renamed_and_removed(state: State, photos: list[Path]) -> None:
    state.add_class("star")
    state.rename_class(1, "disc")
    for _ in range(2):
        state.open_photo(photos[0])
        draw(state, state.open, BOX, OTHER)
        state.keep_marks()
    assert [name for name, _ in state.supports] == ["disc", "star"] * 2
    state.open_photo(photos[0])
    draw(state, state.open, BOX, OTHER)
    state.remove_class(1)
    assert state.classes == ["star"] == list({name for name, _ in state.supports})
    assert [mark.value for mark in state.open.marks] == [1]
    for number in range(7):
        state.add_class(f"class {number}")
    for name in ("one more", "star"):
        with pytest.raises(UserError):
            state.add_class(name)
    state.add_queries([photos[0]])
    with pytest.raises(UserError, match=photos[0].name):
        state.add_queries([photos[0]])


@pytest.mark.parametrize("offset", [None, 1.5])
def test_at_level_0_the_mask_is_the_networks(
    state: State, photos: list[Path], tmp_path: Path, offset: float | None
) -> None:
    state.add_queries(photos[:1])
    photo = state.queries[0]
    margins = np.random.default_rng(0).normal(size=(2, *photo.shape)).astype(np.float32)
    calibration = None if offset is None else Calibration("", "", "", "", 0.7, offset, [1.0], 0.5, 0.6)
    image = np.zeros((*photo.shape, 3), np.uint8)
    found = Prediction.from_margins(image, ["a", "b"], margins, [0.6, 0.7], calibration)
    photo.take(9, found, tmp_path)
    assert (found.own_threshold == 0.5) == (offset is None)
    assert (photo.corrected(state.threshold).mask == found.mask).all()
    assert photo.corrected(state.threshold).summary() == found.summary()
    masks = {}
    for level in (-1, 1e-6, 1):
        state.set_level(level)
        masks[level] = photo.corrected(state.threshold).mask
    low, near, high = masks.values()
    assert (near != found.mask).mean() < 0.001
    assert (low > 0).sum() > (found.mask > 0).sum() > (high > 0).sum() > 0 and (low[high > 0] == high[high > 0]).all()


def test_segment_correct_and_download(state: State, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        state.pack(FORMATS)
    state.load_example()
    state.add_class("unused")
    assert "unused: left out" in state.segment(1) and len(state.found) == 4
    state.shown = 1
    photo = state.result
    draw(state, photo, Mark("box", 2, 1, [[0, 0], [50, 40]]))
    state.set_level(1.0)
    assert 0.5 < state.threshold < 1 and (photo.corrected(state.threshold).mask[:40, :50] == 2).all()
    assert [row[0] for row in state.table()] == state.classes[:2]
    state.pack(FORMATS)
    with zipfile.ZipFile(state.archive) as archive:
        archive.extractall(tmp_path / "got")
        texts = [archive.read(name) for name in archive.namelist() if name.endswith((".json", ".csv", ".yaml", ".xml"))]
    assert not any(str(tmp_path).encode() in text for text in texts)
    results, stem = tmp_path / "got/results", photo.path.stem
    assert (np.asarray(Image.open(results / f"{stem}_mask.png"))[:40, :50] == 2).all()
    record = json.loads((results / f"{stem}.json").read_text())
    assert (record["query"], record["threshold"]) == (f"photos/{stem}.jpg", state.threshold)
    assert record["corrections"] == 1 and (tmp_path / "got" / record["query"]).is_file()
    assert len(list(csv.DictReader(io.StringIO((results / "summary.csv").read_text())))) == 8
    for module, path in ((coco, "coco/instances.json"), (yolo, "yolo"), (labelme, "labelme")):
        assert len(module.read_annotations(results / path).photos) == 4, path
    state.take_result()
    assert state.supports[-1][1].source == f"{stem}.jpg"
    key = photo.key
    state.rename_class(2, "renamed")
    state.segment(1)  # again: corrections remain
    assert photo.key != key and photo.names[1] == "renamed" and len(photo.marks) == 1
    assert (photo.corrected(state.threshold).mask[:40, :50] == 2).all()


def test_the_parts_show_the_state(state: State) -> None:
    pytest.importorskip("gradio")
    from util.page.page import Page

    page = Page(state)
    state.load_example()
    state.segment(1)
    updates = page._updates("done", renew=True)
    assert set(updates) == {*page.shown, *page.choices} and updates[page.note] == "done"
