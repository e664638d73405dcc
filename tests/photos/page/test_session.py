"""A session of the page: photos are annotated, segmented, corrected and judged; it goes on after a restart."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from photos.example_files import read_examples
from photos.page.segmentation import segmentation
from photos.results import Results
from tests.helpers.browser import BOX, IN_BOX, NONE_LEFT, Page, unpacked
from util.files.errors import UserError
from util.files.mask_images import read_mask


def test_the_example_segments_the_other_photos(page: Page, tmp_path: Path) -> None:
    assert "no photo is an example" in page.do("segment")
    page.do("samples")
    page.do("add_class", name="unused")
    assert page.row("coins_1.jpg")["example"]
    assert page.do("segment").endswith("; unused: skipped, no photo is an example of it")
    page.judge("portrait.jpg", "accepted")
    page.draw("coins_3.jpg", BOX)
    page.do("click", photo="coins_3.jpg", x=90.0, y=40.0, value=1)
    page.do("box", photo="coins_3.jpg", points=[[60, 30], [120, 80]], value=1)
    assert {edit["tool"] for edit in page.edits("coins_3.jpg")} == {"box", "outline"}
    page.do("use_as_example", photo="coins_4.jpg", value=1)
    assert "photos show" in page.do("segment")  # again, but for what has a verdict
    assert page.do("segment").startswith(NONE_LEFT)
    assert (read_mask(tmp_path / "out/coins_3_mask.png")[IN_BOX] == 1).all()
    supports, _ = read_examples([str(tmp_path / "out/examples")])
    assert [(support.name, support.photo.name) for support in supports] == [
        ("coin", "coins_1.jpg"),
        ("coin", "coins_4.jpg"),
    ]


def test_a_review_is_written(reviewed: Page, copies: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "d"):  # as they are corrected
        assert (read_mask(out / f"{name}_mask.png")[IN_BOX] == 1).all()
    results = Results(out, ["object"])
    is_reviewed = {name: results.is_reviewed(copies[0].with_name(name)) for name in ("a.jpg", "c.jpg", "d.jpg")}
    assert is_reviewed == {"a.jpg": True, "c.jpg": True, "d.jpg": False}
    reviewed.do("pack", formats=["png"])
    accepted = json.loads((out / "a.json").read_text())
    assert accepted["threshold"] is None  # the slider moved later
    assert len(accepted["corrections"]) == 1
    assert json.loads((out / "d.json").read_text())["threshold"] == 0.9


def test_a_photo_from_which_all_is_removed_is_no_example(page: Page, copies: list[Path]) -> None:
    page.do("open", path=str(copies[0]))
    stroke = {"tool": "brush", "value": 1, "radius": 7, "points": [[20, 20], [31, 27]]}
    page.draw("b.jpg", stroke)
    assert page.row("b.jpg")["example"]
    note = page.do("click", photo="b.jpg", x=25.0, y=24.0, value=0)
    assert note == "b.jpg is no example any more"
    assert not page.row("b.jpg")["example"]
    page.do("undo", photo="b.jpg")
    assert page.row("b.jpg")["example"]


def test_a_session_goes_on_after_a_restart(start: Callable[[], Page], reviewed: Page, tmp_path: Path) -> None:
    before = reviewed.state()
    scene = reviewed.get("scene?photo=a.jpg")
    edits = reviewed.edits("a.jpg")
    assert [edit["tool"] for edit in edits] == ["box"]
    assert (scene["height"], scene["width"]) == read_mask(tmp_path / "out/a_mask.png").shape
    reviewed.session.end()
    page = start()
    after = page.state()
    assert (after["rule"], after["classes"]) == (before["rule"], before["classes"])
    for old, new in zip(before["photos"], after["photos"], strict=True):
        assert {**old, "changed": 0} == {**new, "changed": 0}
    assert page.get("scene?photo=a.jpg") == scene
    assert page.edits("a.jpg") == edits
    check_pictures(page)
    assert page.do("segment").startswith(NONE_LEFT)


def test_results_without_scores_are_segmented_anew(start, segmented: Page, tmp_path: Path) -> None:
    segmented.session.end()
    file = tmp_path / "out/a.json"
    file.write_text(file.read_text().replace('"score"', '"confidence"'))  # of an earlier version
    page = start()
    assert not page.row("a.jpg")["found"]
    assert "photos show an object" in page.do("segment")
    assert page.do("pack", formats=["coco"]) == "3 of 3 photos packed"


def test_a_correction_is_undone_after_a_restart(start: Callable[[], Page], segmented: Page, tmp_path: Path) -> None:
    mask = tmp_path / "out/a_mask.png"
    before = read_mask(mask)
    segmented.draw("a.jpg", BOX)
    segmented.judge("a.jpg", "accepted")
    assert (read_mask(mask) != before).any()
    segmented.session.end()
    page = start()
    page.do("undo", photo="a.jpg")
    np.testing.assert_array_equal(read_mask(mask), before)
    assert page.row("a.jpg")["verdicts"] == {"object": "accepted"}


def test_pictures_are_shown(segmented: Page) -> None:
    check_pictures(segmented)


def check_pictures(page: Page) -> None:
    for picture in ("thumb", "picture", "layer"):
        assert page.get(f"{picture}?photo=a.jpg&changed=1")[:2] in (b"\xff\xd8", b"\x89P")


def test_results_of_predict_are_gone_on_with(start, predict, support, photos: list[Path], tmp_path: Path) -> None:
    words = (*support, "--query", photos[0], "--out", tmp_path / "out")
    predict(*words)
    page = start()
    page.draw(photos[0].name, BOX)
    page.judge(photos[0].name, "accepted")
    assert "0 of 0 photos" in predict(*words, "--resume").output
    assert (read_mask(tmp_path / "out" / f"{photos[0].stem}_mask.png")[IN_BOX] == 1).all()


def replace_photo(photo: Path, keeps_time: bool) -> None:
    """Give a photo's file other content of the same size, and the time of before if it ``keeps_time``."""
    before = photo.stat()
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB"))
    inverted = io.BytesIO()
    Image.fromarray(255 - pixels).save(inverted, "JPEG", quality=40)
    content = inverted.getvalue()
    assert len(content) <= before.st_size
    photo.write_bytes(content.ljust(before.st_size, b"\xff"))
    if keeps_time:
        os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_photo_that_was_replaced_is_looked_at_anew(
    segmented: Page, copies: list[Path], tmp_path: Path, keeps_time
) -> None:
    segmented.judge("c.jpg", "accepted")
    for photo in copies[1:]:
        replace_photo(photo, keeps_time)
    assert "c.jpg: its file was replaced" in segmented.judge("c.jpg", "accepted")
    assert "a.jpg: skipped, its file was replaced; press Segment" in segmented.do("pack", formats=["coco"])
    content = json.loads((unpacked(segmented, tmp_path / "got") / "coco/instances.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["b.jpg"]
    assert content["annotations"]
    said = segmented.do("segment")
    assert said == "2 of 2 photos show an object; 2 photos replaced since, such as a.jpg: segmented anew"
    assert not segmented.row("c.jpg")["verdicts"]
    assert segmented.do("segment") == NONE_LEFT


def test_a_photo_that_is_removed_while_segment_begins_is_left_out(page: Page, copies: list[Path]) -> None:
    page.do("open", path=str(copies[0].parent))
    page.draw("b.jpg", BOX)
    assert segmentation(page.session, ["gone.jpg", "a.jpg", "b.jpg"]).photos == ["a.jpg"]


@pytest.mark.parametrize("keeps_time", [True, False])
def test_an_example_that_was_replaced_is_refused(segmented: Page, copies: list[Path], keeps_time: bool) -> None:
    replace_photo(copies[0], keeps_time)
    assert "b.jpg: was replaced since it was annotated" in segmented.do("segment")
    assert "nothing to download" not in segmented.do("pack", formats=["png"])
    assert segmented.session.archive is not None


def test_a_photo_of_the_same_content_and_another_time_is_the_same(segmented: Page, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "photos", tmp_path / "again")
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "again").rename(tmp_path / "photos")
    assert segmented.do("segment") == NONE_LEFT
    assert not segmented.session.files.is_outdated(segmented.session.state.photo("a.jpg"))


def test_nothing_is_accepted_that_was_not_looked_at(page: Page, copies: list[Path], tmp_path: Path) -> None:
    page.do("open", path=str(tmp_path / "photos"))
    before = page.row("a.jpg")
    assert "a.jpg: was not segmented" in page.judge("a.jpg", "accepted")
    assert "press Segment" in page.judge("a.jpg", "rejected")
    assert page.judge("a.jpg", "") == "a.jpg: has no verdict"
    assert page.row("a.jpg") | {"changed": 0} == before | {"changed": 0}
    out = tmp_path / "out"
    assert not [*out.glob("*.json"), *out.glob("*.csv")]


def test_an_example_can_be_accepted(page: Page, copies: list[Path], tmp_path: Path) -> None:
    page.do("open", path=str(tmp_path / "photos"))
    page.draw("b.jpg", BOX)
    assert page.judge("b.jpg", "accepted") == "b.jpg is accepted"
    assert (read_mask(tmp_path / "out/b_mask.png")[IN_BOX] == 1).all()


@pytest.mark.parametrize("content", ["{", "[]", "\0"])
def test_a_damaged_session_is_named(start, page: Page, photos: list[Path], tmp_path: Path, content: str) -> None:
    file = tmp_path / "out/page/session.json"
    page.do("open", path=str(photos[0]))
    file.write_text(content)
    with pytest.raises(
        UserError,
        match=r"session\.json: .* damaged.*\); remove it: annotations and results stay",
    ):
        start()
    assert file.read_text() == content


def test_an_example_teaches_the_selected_and_accepted_classes(segmented: Page, tmp_path: Path) -> None:
    """Of a segmented photo the selected class and those accepted, a class without an example, and none rejected."""
    mask = tmp_path / "out/examples/masks/a.png"
    segmented.do("add_class", name="zebra")
    note = segmented.draw("a.jpg", {**BOX, "value": 2})
    assert note.startswith("a.jpg is an example of zebra (") and "object" not in note
    assert np.unique(read_mask(mask)).tolist() == [0, 2]
    assert "example" not in segmented.draw("c.jpg", {**BOX, "value": 2})  # a correction
    assert segmented.do("use_as_example", photo="c.jpg", value=2).startswith("c.jpg is an example of zebra (")
    segmented.judge("a.jpg", "rejected")
    segmented.do("judge", photo="a.jpg", verdict="rejected", value=2)
    assert not mask.exists() and not segmented.row("a.jpg")["example"]
    segmented.judge("a.jpg", "")
    assert np.unique(read_mask(mask)).tolist() == [0, 2]


def test_steps_are_undone_and_redone_and_a_click_refines_the_box_about_it(page: Page, copies: list[Path]) -> None:
    page.do("open", path=str(copies[0]))
    page.do("box", photo="b.jpg", points=[[10, 5], [30, 20]], value=1)
    boxed = page.edits("b.jpg")
    page.do("click", photo="b.jpg", x=20, y=12, value=1)
    refined = page.edits("b.jpg")
    assert refined != boxed
    points = np.concatenate([edit["points"] for edit in refined])
    assert (points >= [9, 4]).all() and (points <= [31, 21]).all()
    page.do("undo", photo="b.jpg")
    assert page.edits("b.jpg") == boxed
    page.do("redo", photo="b.jpg")
    assert page.edits("b.jpg") == refined
    assert "nothing is left to redo" in page.do("redo", photo="b.jpg")


def test_a_drawn_class_has_no_presence_score_and_goes_with_its_edits(segmented: Page, tmp_path: Path) -> None:
    segmented.do("add_class", name="zebra")
    segmented.draw("a.jpg", {**BOX, "value": 2})
    assert segmented.row("a.jpg")["presence"]["zebra"] is None
    segmented.do("undo", photo="a.jpg")
    segmented.do("slide", threshold=0.4, min_presence=None)
    label = segmented.session.label("a.jpg")
    assert not (label == 2).any()


def test_what_another_window_changed_is_not_overwritten_unseen(segmented: Page) -> None:
    seen = segmented.row("a.jpg")["changed"]
    segmented.draw("a.jpg", BOX)
    for action, values in (("undo", {}), ("clear", {}), ("judge", {"verdict": "accepted", "value": 1})):
        assert "a.jpg: was changed meanwhile" in segmented.do(action, photo="a.jpg", seen=seen, **values)
    assert segmented.edits("a.jpg") == [BOX]
    assert not segmented.row("a.jpg")["verdicts"]
    segmented.do("undo", photo="a.jpg", seen=segmented.row("a.jpg")["changed"])
    assert segmented.edits("a.jpg") == []


def test_the_session_file_holds_the_current_state(reviewed: Page) -> None:
    state = reviewed.session.state
    assert json.loads(reviewed.session.file.read_text()) == json.loads(json.dumps(state, default=vars))
