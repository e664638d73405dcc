"""A mistake on the page is one line, and files of others stay as they are."""

import re
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.browser import BOX, NONE_LEFT, Page
from util.files.errors import UserError


def test_options_without_effect_are_refused(predict, baseline: Path) -> None:
    assert "--query: has no effect with --serve" in predict("--config", baseline, "--serve", "--query", "x").error


@pytest.mark.parametrize(("path", "line"), [("nowhere", "no such photo or folder"), ("photos", "no photo")])
def test_what_is_no_photo_is_not_opened(page: Page, tmp_path: Path, path: str, line: str) -> None:
    (tmp_path / "photos").mkdir()
    assert line in page.do("open", path=str(tmp_path / path))


@pytest.fixture
def good_and_bad(page: Page, tmp_path: Path) -> Page:
    """Return a page with an empty photo, new.png, and one that cannot be read, bad.jpg."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (60, 44)).save(folder / "new.png")
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 cut")
    assert page.do("open", path=str(folder)) == "2 photos added"
    return page


def test_a_photo_that_cannot_be_read_is_named(good_and_bad: Page) -> None:
    assert "bad.jpg" in good_and_bad.get("thumb?photo=bad.jpg")["error"]
    assert "bad.jpg" in good_and_bad.row("bad.jpg")["error"]
    good_and_bad.draw("new.png", BOX)
    assert "bad.jpg" in good_and_bad.do("segment")
    assert "bad.jpg" in good_and_bad.row("bad.jpg")["error"]


def test_actions_that_cannot_be_done_say_why(good_and_bad: Page) -> None:
    assert "no longer open" in good_and_bad.get("scene?photo=gone.png")["error"]


def test_requests_of_other_pages_are_refused(page: Page) -> None:
    assert "error" in page.get("stop", b"{}", Content_Type="text/plain")
    assert "localhost" in page.get("state?since=-1", Host="elsewhere.org:80")["error"]


@pytest.mark.parametrize("headers", [{"Host": "localhost"}, {"Host": "elsewhere.org", "Via": "1.1 a proxy"}])
def test_requests_by_a_name_of_this_machine_are_answered(good_and_bad: Page, headers: dict[str, str]) -> None:
    assert good_and_bad.get("state?since=-1", **headers)["photos"]


def test_uploads_of_equal_names_and_of_equal_photos(page: Page, photos: list[Path]) -> None:
    first, second, _ = (photo.read_bytes() for photo in photos)
    assert page.get("upload?name=y%202.jpg", first) == {"photo": "y 2.jpg", "added": True}
    assert page.get("upload?name=Y%202.png", second) == {"photo": "Y 2_2.png", "added": True}
    assert page.get("upload?name=z.jpg", first) == {"photo": "y 2.jpg", "added": False}
    assert [row["name"] for row in page.state()["photos"]] == ["y 2.jpg", "Y 2_2.png"]


@pytest.mark.parametrize("name", ["a%00.jpg", "a%1b[31m.jpg", f"{300 * 'a'}.jpg", "..", "%2F"])
def test_an_upload_under_a_name_that_no_file_has_is_refused(name: str, page: Page, photos: list[Path]) -> None:
    assert "is no name of a photo" in page.get(f"upload?name={name}", photos[0].read_bytes())["error"]
    assert not page.state()["photos"]


def test_an_upload_that_is_no_image_is_refused(page: Page, tmp_path: Path) -> None:
    assert page.get("upload?name=text.jpg", b"text")["error"].startswith("text.jpg: is no photo (JPEG, PNG, ")
    assert not (tmp_path / "out/photos").exists()
    assert not page.state()["photos"]


def test_a_name_that_a_class_has_is_taken(page: Page) -> None:
    page.do("add_class", name="cat")
    assert "cat: this name is taken" in page.do("add_class", name="cat")
    assert "background: this name is taken" in page.do("rename_class", value=1, name="background")


@pytest.mark.parametrize("length", ["-1", "x", "", str(2**28 + 1)])
def test_lengths_of_requests_are_checked(page: Page, length: str) -> None:
    lines = ["POST /stop HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {length}"]
    request = "\r\n".join([*lines, "", "{}"])
    with socket.create_connection(page.server.server_address, timeout=20) as connection:
        connection.sendall(request.encode())
        assert b"must state Content-Length" in connection.makefile("rb").read()


@pytest.fixture
def one_example(page: Page, copies: list[Path], tmp_path: Path) -> Page:
    """Return a page with the example b.jpg."""
    page.do("open", path=str(copies[0]))
    page.draw("b.jpg", BOX)
    return page


def test_the_page_does_not_overwrite_other_programs_files(
    one_example: Page, copies: list[Path], tmp_path: Path
) -> None:
    archive = tmp_path / "out.zip"
    archive.write_bytes(b"mine")
    other = tmp_path / "out/a.json"
    other.write_text('{"shapes": [], "imagePath": "a.jpg"}')
    assert "a.json: was not written by this program" in one_example.do("open", path=str(copies[1]))
    one_example.do("open", path=str(copies[2]))
    assert "of 1 photo" in one_example.do("segment")
    assert one_example.do("pack", formats=["png", "coco"])
    assert archive.read_bytes() == b"mine"
    assert other.read_text().startswith('{"shapes"')


def test_a_photo_by_the_name_of_a_mask_is_refused(one_example: Page, copies: list[Path], tmp_path: Path) -> None:
    mask = tmp_path / "out/b_mask.png"
    shutil.copy(copies[2], mask)
    assert "is a photo to segment" in one_example.do("open", path=str(mask))


@pytest.mark.parametrize("content", ["[]", '{"query_file": [0, 0]}', "{"])
def test_odd_files_beside_the_results_change_nothing(one_example: Page, tmp_path: Path, content: str) -> None:
    (tmp_path / "out/odd.json").write_text(content)
    assert one_example.do("segment") == NONE_LEFT
    assert one_example.do("pack", formats=["png"]) == "1 of 1 photos packed"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"points": [[float("nan"), 1], [5, 5], [9, 1]]}, "no numbers, or far beyond"),
        ({"points": [[-1e9, 1], [1e9, 5], [9, 1e9]]}, "no numbers, or far beyond"),
        ({"points": [[(-1) ** i * 6e4, i] for i in range(90)]}, "its line is longer than"),
        ({"points": [[1, 2, 3]]}, "not pairs"),
        ({"points": []}, "not pairs"),
        ({"radius": float("nan")}, "its radius"),
        ({"radius": 1e9}, "its radius"),
        ({"tool": "axe"}, "is not one of brush, eraser, box, point, outline"),
        ({"value": 300}, "its class 300"),
        ({"value": 3}, "this class is no longer there"),
        ({"tool": "box"}, "a box has two corners"),
    ],
)
def test_an_edit_that_cannot_be_drawn_is_refused_and_not_kept(one_example: Page, change: dict, problem: str) -> None:
    kept = one_example.session.file.read_bytes()
    edit = {"tool": "outline", "value": 1, "radius": 1, "points": [[1, 1], [9, 1], [5, 9]], **change}
    assert re.search(problem, one_example.do("draw", photo="b.jpg", edit=edit))
    assert one_example.session.file.read_bytes() == kept


def test_a_session_with_an_edit_that_cannot_be_drawn_is_refused(start, one_example: Page) -> None:
    file = one_example.session.file
    file.write_text(file.read_text().replace('"radius": 2.0', '"radius": 1e9'))
    one_example.session._only.close()
    with pytest.raises(UserError, match=r"damaged \(this box cannot be drawn: its radius .*\); remove it"):
        start()


@pytest.mark.parametrize("values", [(float("nan"), None), (2, None), ("x", None), (None, -1)])
def test_a_slider_out_of_its_range_is_refused(one_example: Page, values: tuple) -> None:
    threshold, presence = values
    assert "between 0 and 1" in one_example.do("slide", threshold=threshold, min_presence=presence)


def test_a_click_beside_the_photo_is_refused(one_example: Page) -> None:
    assert "not on the photo" in one_example.do("click", photo="b.jpg", x=-3, y=2, value=1)
