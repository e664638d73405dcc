"""The page by its server: what is a person's, what Segment searches, what lies in the folder, and what is refused."""

import csv
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest

from photos import persons, prediction
from photos.example_files import read_examples
from photos.examples import parse_example
from photos.page.background import Background
from photos.summary import SUMMARY
from tests.helpers import spawned
from tests.helpers.browser import IN_BOX, Page, unpacked
from tests.helpers.read import json_of, write_json
from util.files.errors import UserError, WriteError

EMPTY = ("person", False)
YOURS = ("person", True)
ELSEWHERE = (slice(31, 60), slice(41, 60))
PHOTOS = ["a.jpg", "b.jpg", "c.jpg"]


def test_each_class_is_searched_on_every_photo_where_it_is_not_a_persons(page: Page, tmp_path: Path) -> None:
    page.do("add_class", name="cup")
    page.paint("a.jpg")
    page.do("segment")
    page.paint("c.jpg", place=None)
    page.do("add_class", name="dish")
    assert page.do("segment") == "0 of 0 waiting photos searched"
    page.paint("c.jpg", value=2, place=ELSEWHERE)
    assert page.do("segment") == "2 of 2 waiting photos searched"
    by_network = {"cup": "network", "dish": "network"}
    assert (whose(page, "a.jpg"), whose(page, "b.jpg")) == (by_network | {"cup": "person"}, by_network)
    assert page.known("c.jpg") == {"cup": EMPTY, "dish": YOURS}
    page.paint("b.jpg", place=None)
    page.do("segment")
    assert json_of(tmp_path / "out/a.json")["supports"].keys() == {"dish"}  # cup is finished
    assert page.do("absent", value=2, photos=PHOTOS, absent=True) == "2 photos: nothing of dish is there, by you"
    assert "nothing to search" in page.do("segment")
    assert page.known("c.jpg")["dish"] == YOURS
    page.do("absent", value=2, photos=PHOTOS, absent=False)
    assert (page.known("c.jpg")["dish"], whose(page, "a.jpg")["dish"]) == (YOURS, "network")


def whose(page: Page, photo: str) -> dict[str, str]:
    return {name: by for name, (by, _) in page.known(photo).items()}


def test_the_download_says_whose_each_mask_is_and_nothing_of_the_machine(page: Page, tmp_path: Path) -> None:
    page.paint("a.jpg")
    page.paint("c.jpg", place=None)
    page.do("segment")
    packed = page.do("pack", formats=["png", "coco", "labelstudio"])
    assert packed == "3 photos packed, with 1 masks that nobody confirmed"
    made = unpacked(page, tmp_path / "made")
    places = [task["data"]["image"].partition("=")[2] for task in json_of(made / "labelstudio/tasks.json")]
    assert all((made / "labelstudio" / place).is_file() for place in places)
    by = {row["photo"]: row["by"] for row in csv.DictReader((made / SUMMARY).open())}
    assert by == {"a.jpg": "person", "b.jpg": "network", "c.jpg": "person"}
    assert str(tmp_path) not in (made / "a.json").read_text()
    for unconfirmed, photos in ((True, {"a.jpg", "b.jpg"}), (False, {"a.jpg"})):
        examples, _ = read_examples([f"{made}/coco"], unconfirmed=unconfirmed)
        assert {example.photo.name for example in examples} == photos
    assert {mark["by"] for mark in json_of(made / "coco/instances.json")["annotations"]} == {"person", "network"}


def test_a_started_page_shows_the_same_and_the_command_goes_on_with_it(
    page: Page, start: Callable[[], Page], predict, baseline: Path, tmp_path: Path
) -> None:
    page.paint("a.jpg")
    page.do("segment")
    page.paint("c.jpg", place=None)
    before = [*map(page.known, PHOTOS)]
    again = start()
    assert [*map(again.known, PHOTOS)] == before
    examples, _ = read_examples([f"{tmp_path}/out/persons"], tmp_path / "photos")
    assert [example.photo.name for example in examples] == ["a.jpg"]
    again.close()
    words = ("--config", baseline, "--supports", f"{tmp_path}/out/persons", "--photos", f"{tmp_path}/photos")
    words = (*words, "--query", f"{tmp_path}/photos", "--out", f"{tmp_path}/out", "--resume")
    run = predict(*words)
    assert run.code == 0
    assert "3 of 3 results are complete" in run.output and "was not found" not in run.output  # c: a person says so
    of_a, of_b, of_c = (json_of(tmp_path / f"out/{stem}.json")["classes"][0] for stem in "abc")
    assert [row["by"] for row in (of_a, of_b, of_c)] == ["person", "network", "person"]
    assert (of_a["pixels"] > 0, of_c["pixels"]) == (True, 0)
    check_other_formats_follow(start, lambda name: predict(*words, "--format", name), tmp_path / "out")


def check_other_formats_follow(start: Callable[[], Page], export: Callable[[str], object], out: Path) -> None:
    """Check that a format that was written before a correction on the page is written again with another one."""
    export("labelme")
    assert json_of(out / "labelme/b.json")["shapes"]
    page = start()
    page.paint("b.jpg", place=None)
    page.close()
    export("coco")
    assert not json_of(out / "labelme/b.json")["shapes"]


def test_a_search_that_is_stopped_says_what_was_found(page: Page) -> None:
    page.paint("a.jpg")
    with page.folder.lock:  # which the search waits for
        page.folder.segment()
        page.folder.stop()
    page.folder.work.thread.join(60)
    assert page.folder.work.done["note"] == "1 of 2 waiting photos searched"
    work = Background()
    waiting = [work.state.waiting for _ in work.each("segmented", ["a.jpg", "b.jpg"])]
    assert waiting == [["a.jpg", "b.jpg"], ["b.jpg"]]


def test_a_mask_given_back_is_the_networks_again(page: Page) -> None:
    page.paint("a.jpg")
    page.do("segment")
    found, scene = page.mask("b.jpg")
    page.paint("b.jpg", place=None)
    label, scene = page.mask("b.jpg")
    page.save("b.jpg", label, [], scene["version"])
    assert np.array_equal(page.mask("b.jpg")[0], found) and page.known("b.jpg")["object"][0] == "network"
    page.do("add_class", name="dish")
    page.paint("b.jpg", value=2, place=(slice(None), slice(None)))
    assert page.known("b.jpg")["object"] == ("network", False)  # all of its pixels are a person's
    page.do("rename_class", value=1, name="cup")
    label, scene = page.mask("b.jpg")
    page.save("b.jpg", label, [], scene["version"])  # as by Undo
    assert page.known("b.jpg").keys() == {"cup"}
    assert np.array_equal(page.mask("b.jpg")[0], found)


def test_classes_are_renamed_and_removed_and_the_others_stay(page: Page, copies, capfd, tmp_path: Path) -> None:
    page.do("add_class", name="cup")
    page.do("add_class", name="dish")
    page.paint("a.jpg")
    page.paint("a.jpg", value=2, place=ELSEWHERE)
    page.do("segment")
    assert page.do("rename_class", value=1, name="mug") == "cup is mug now"
    assert page.known("a.jpg") == {"mug": YOURS, "dish": YOURS}
    dish = page.known("b.jpg")["dish"]
    page.do("remove_class", value=1)
    assert page.known("a.jpg") == {"dish": YOURS} and page.known("b.jpg") == {"dish": dish}
    assert "taken" in page.do("add_class", name="dish") and "read as no class" in page.do("add_class", name="unknown")
    assert "no longer there" in page.do("remove_class", value=1)
    (example,), _ = read_examples([f"{tmp_path}/out/persons"], copies[0].parent)
    assert example.name == "dish" and "unknown (255): ignored class (1)" in capfd.readouterr().err


def test_a_removed_photo_does_not_return(
    page: Page, start: Callable[[], Page], copies: list[Path], tmp_path: Path
) -> None:
    page.paint("a.jpg")
    page.do("remove", photo="a.jpg")
    assert not [*tmp_path.glob("out/**/a[._]*")]
    again = start()
    assert "3 skipped" in again.folder.open(copies)  # as the same command opens them again
    assert {row["name"] for row in again.get("state")["photos"]} == {"b.jpg", "c.jpg"}
    assert copies[1].exists()


def test_annotations_of_open_photos_are_a_persons_and_others_are_counted(page: Page, copies, tmp_path: Path) -> None:
    namesake = shutil.copy(copies[2], tmp_path / "b.jpg")
    examples = [parse_example(f"cup={path}:box=9,9,50,50") for path in (copies[1], namesake)]
    assert page.folder.take_examples(examples).startswith(
        "1 of 2 annotations taken; the others are of photos that are not open (--photos"
    )
    assert page.known("a.jpg") == {"cup": YOURS} and page.known("b.jpg") == {}


@pytest.mark.process
def test_absences_in_results_come_back_to_a_page(page: Page, baseline: Path, tmp_path: Path) -> None:
    page.paint("a.jpg")
    page.paint("c.jpg", place=None)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("--config", baseline, "--supports", tmp_path / "out", "--query", tmp_path / "photos", "--port", port)
    served = spawned.start("predict.py", "serve", *words, "--out", tmp_path / "again")
    spawned.wait_for(lambda: "open http" in served.stdout, served)
    served.signal(signal.SIGINT)
    assert (served.code, "2 of 2 annotations taken" in served.stdout) == (0, True)


def test_a_result_of_a_photo_that_was_replaced_is_made_again(page: Page, copies, capfd, tmp_path: Path) -> None:
    page.paint("a.jpg")
    page.do("segment")
    assert page.known("b.jpg")["object"][0] == "network"
    shutil.copy(copies[2], copies[0])
    shutil.copy(copies[2], copies[1])
    for name in ("a.jpg", "b.jpg"):
        assert page.known(name) == {}  # a person's mask is of the earlier file too
    assert "no class has an example" in page.do("segment")
    page.paint("c.jpg")
    for folder in ("out/persons", "out"):
        examples, _ = read_examples([f"{tmp_path}/{folder}"], copies[0].parent)
        assert {example.photo.name for example in examples} == {"c.jpg"}
    assert capfd.readouterr().err.count("left out: masks of photos that were replaced since") == 2
    page.do("segment")
    assert page.known("b.jpg")["object"][0] == "network"


def test_a_photo_that_is_replaced_while_it_is_segmented_is_searched_again(page: Page, copies: list[Path]) -> None:
    segmenter = page.folder.segmenter.without_classes()
    segmenter.add("object", [f"{copies[2]}:box=9,9,50,50"])
    results, facts = page.folder.results, {**segmenter.facts, "instances": False}
    for found in segmenter.many(copies[:2]):
        shutil.copy(copies[2], copies[0])
        results.write(found, facts)
    assert results.waiting(copies[:2], facts, {}) == [copies[0]]


def test_a_mask_is_checked_before_it_is_kept(page: Page) -> None:
    label, scene = page.mask("a.jpg")
    label[IN_BOX] = 1
    assert "does not fit" in page.save("a.jpg", label[1:], [1], scene["version"])
    assert "no longer there" in page.save("a.jpg", label, [7], scene["version"])
    _, before = page.mask("b.jpg")
    page.paint("b.jpg", place=None)
    assert "was changed meanwhile" in page.save("b.jpg", label, [1], before["version"])
    for runs in ([1, -5], [300, 9], "x", [[1]], [1], [1, 2**62] * 4 + [1, label.size]):
        assert page.do("save", photo="a.jpg", runs=runs, persons_values=[1], version=scene["version"])
    assert page.known("a.jpg") == {}


def test_uploads_replace_no_photo_and_take_no_paths(page: Page, copies: list[Path], tmp_path: Path) -> None:
    content, other, _ = (path.read_bytes() for path in copies)

    def send(name: str, sent: bytes) -> str:
        return "".join(page.get(f"upload?name={quote(name)}", sent, Content_Type="application/octet-stream").values())

    assert "open already" in send("b.jpg", content)
    assert "is no photo" in send("x.jpg", b"no photo")
    assert send("caf\u00e9.jpg", other + b"\0") == ""
    assert "is caf\u00e9_2.jpg here" in send("cafe\u0301.jpg", other + b"\1")  # in another form of Unicode
    assert "is damaged" in send("cut.jpg", content[:900])
    page.do("remove", photo="a.jpg")
    assert send("../../a.jpg", other) == ""  # one that was removed keeps its name
    assert (tmp_path / "out/photos/a.jpg").read_bytes() == other


def test_requests_of_others_are_refused(page: Page, tmp_path: Path) -> None:
    for host in ("elsewhere.org", "localhost.elsewhere.org"):
        assert "localhost" in page.get("state", Host=host)["error"]
    for header in ({"Content_Type": "text/plain"}, {"Content_Length": f"{2**25 + 1}"}):
        assert "refused" in page.get("stop", b"{}", **header)["error"]
    with urlopen(page.address) as answer:
        assert answer.headers["X-Frame-Options"] == "DENY"
    assert "no action" in page.get("end", b"{}")["error"]
    assert "nothing of this page" in page.get("..%2Fpage.json")["error"]
    assert "damaged" in page.get("remove", b'{"other": 1}')["error"]
    other = tmp_path / "out/summary.csv"
    other.write_text("a table of another program")
    page.paint("a.jpg")
    assert "was not written by this program" in page.do("segment")
    assert other.read_text() == "a table of another program"
    assert "nothing of this page" in page.get("download")["error"]


def test_a_class_whose_renaming_ends_early_is_one_class(page: Page, start, monkeypatch: pytest.MonkeyPatch) -> None:
    page.do("add_class", name="cup")
    page.paint("a.jpg")
    page.do("segment")
    # What is kept of persons cannot be written; a result cannot, and then the class is renamed once more, or not
    for writer, name, again in ((persons, "cup", ""), (prediction, "mug", ""), (prediction, "jar", "jar")):

        def full(path: Path, *arguments: object, **options: object) -> None:
            raise WriteError(f"{path}: cannot be written")

        with monkeypatch.context() as patch:
            patch.setattr(writer, "write_atomically", full)
            assert "cannot be written" in page.do("rename_class", value=1, name="glass" if again else "mug")
        if again:
            page.do("rename_class", value=1, name=again)
        page = start()
        assert whose(page, "a.jpg") == {name: "person"} and whose(page, "b.jpg") == {name: "network"}
        assert [known for _, known, _ in page.get("state")["classes"]] == [name]


def _link(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "packing").symlink_to(folder.parent)


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("line", "change"),
    [
        *(("packing: is a link", lambda out, of=of: _link(out / of)) for of in (".", "page", "persons", "photos")),
        ("names.txt: is no file of persons' masks", lambda out: edit(out / "persons/names.txt", "\n", "\nx\n")),
        ("page.json: is damaged", lambda out: (out / "page/page.json").write_text('{"photos": 5}')),
    ],
)
def test_a_received_folder_that_is_damaged_or_leads_elsewhere_is_refused(
    page: Page, start, line: str, change: Callable[[Path], object], tmp_path
) -> None:
    page.paint("a.jpg")
    page.folder.end()
    change(tmp_path / "out")
    with pytest.raises(UserError, match=line):
        start()


@pytest.mark.parametrize(
    "change", [('"counts": "', '"counts": "~'), ('"by": ', '"of": '), ('"score": ', '"score": NaN, "old": ')]
)
def test_results_that_are_damaged_or_lead_elsewhere_are_none(
    page: Page, start, tmp_path: Path, capfd, change: tuple[str, str]
) -> None:
    page.paint("a.jpg")
    page.do("segment")
    page.folder.end()
    out = tmp_path / "out"
    write_json(out / "z.json", {**json_of(out / "a.json"), "query": "/etc/hostname"})
    edit(out / "b.json", *change)
    again = start()
    assert f"{out}/b.json: this result is damaged" in capfd.readouterr().err
    assert [row["name"] for row in again.get("state")["photos"]] == PHOTOS
    assert (again.known("a.jpg"), again.known("b.jpg")) == ({"object": YOURS}, {})
    again.do("segment")
    assert whose(again, "b.jpg") == {"object": "network"} and (out / "z.json").exists()
    again.paint("c.jpg")
    for mask in (out / "a_mask.png", out / "b_mask.png", out / "persons/a.png"):
        mask.unlink()
        mask.mkdir()
    page = start()
    assert "a.png: cannot be removed" in capfd.readouterr().err
    said = page.do("segment")
    assert said.startswith("0 of 2 waiting photos searched") and "b_mask.png: is a folder where a result" in said
