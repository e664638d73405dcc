"""The page's download: what it holds in each format, and that it says nothing of the machine."""

import errno
import json
import zipfile
from pathlib import Path

import pytest

from annotations import recognise
from photos.results import FORMATS
from tests.helpers.browser import Page, unpacked
from util.files.mask_images import read_mask

PARTS = {"session.json", "lock", "beneath", "predictions.zip"}  # of the folder ``page``


@pytest.fixture
def download(reviewed: Page, tmp_path: Path) -> Path:
    """Return the unpacked download, in all formats, of photos of which c.jpg is rejected."""
    assert reviewed.do("pack", formats=FORMATS) == "4 of 4 photos packed"
    return unpacked(reviewed, tmp_path / "download")


def test_each_format_holds_the_objects_that_are_not_rejected(download: Path, copies: list[Path]) -> None:
    places = {"coco": "coco/instances.json", "yolo": "yolo", "labelme": "labelme", "results": ""}
    for kind, place in places.items():
        photos = recognise.READERS[kind](download / place, copies[0].parent).photos
        has_objects = {Path(photo.name).name: bool(photo.instances) for photo in photos}
        assert has_objects == {"a.jpg": True, "b.jpg": True, "c.jpg": False, "d.jpg": True}, kind
    tasks = recognise.read(str(download / "labelstudio/tasks.json"), copies[0].parent)
    assert len(tasks.annotated) == 3
    assert read_mask(download / "b_mask.png").any()
    assert not read_mask(download / "c_mask.png").any()


def test_the_download_says_nothing_of_the_machine(download: Path, tmp_path: Path) -> None:
    suffixes = (".json", ".csv", ".html", ".txt", ".yaml", ".xml")
    texts = [file for file in download.rglob("*") if file.suffix in suffixes]
    assert len(texts) > 15
    assert not [file for file in texts if str(tmp_path) in file.read_text()]
    folders = [path for path in download.rglob("*") if path.is_dir()]
    tops = {folder.name for folder in folders if folder.parent == download}
    assert tops == {"review", *FORMATS} - {"png"}
    assert not [folder for folder in folders if not any(folder.iterdir())]


def test_names_in_results_of_a_received_session_lead_nowhere(segmented: Page, tmp_path: Path) -> None:
    record_file = tmp_path / "out/a.json"
    record = json.loads(record_file.read_text())
    outside = tmp_path / "outside.jpg"
    record_file.write_text(json.dumps({**record, "overlay": f"{6 * '../'}outside.jpg"}))
    assert segmented.do("pack", formats=["png"]) == "3 of 3 photos packed"
    assert not outside.exists() and not outside.is_symlink()
    assert (unpacked(segmented, tmp_path / "download") / "review/a_overlay.jpg").is_file()


def test_the_download_holds_the_formats_that_are_ticked(reviewed: Page, tmp_path: Path) -> None:
    reviewed.do("pack", formats=["yolo"])
    download = unpacked(reviewed, tmp_path / "download")
    assert {file.name for file in download.iterdir()} == {"README.txt", "yolo"}
    assert (download / "README.txt").read_text().startswith("Masks of object on 4 photos.\nyolo: ")


def test_photos_lie_where_the_formats_programs_look_for_them(download: Path, copies: list[Path]) -> None:
    homes = [download / name for name in ("coco/images", "labelme", "yolo/images")]
    for photo in copies:
        assert [(home / photo.name).read_bytes() == photo.read_bytes() for home in homes] == [True, True, True]
    outlined = json.loads((download / "labelme/a.json").read_text())
    assert outlined["imagePath"] == "a.jpg"
    coco = json.loads((download / "coco/annotations/instances_default.json").read_text())
    assert {image["file_name"] for image in coco["images"]} == {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}
    assert len((download / "README.txt").read_text().splitlines()) <= 10


def test_a_photo_that_cannot_be_read_is_named_and_the_others_are_packed(segmented: Page, copies: list[Path]) -> None:
    copies[0].unlink()  # the example, b.jpg
    copies[2].unlink()
    note = segmented.do("pack", formats=FORMATS)
    assert note.startswith("1 of 3 photos packed; ") and "b.jpg" in note and "c.jpg" in note
    content = json.loads((unpacked(segmented, copies[0].parent / "got") / "coco/instances.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.jpg"]


def test_without_space_on_the_disk_the_earlier_download_remains(segmented: Page, tmp_path: Path, monkeypatch) -> None:
    segmented.do("pack", formats=["png", "coco"])
    before = segmented.session.archive.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", fail)
    assert "predictions.zip: cannot be written (No space left" in segmented.do("pack", formats=["png"])
    assert segmented.session.archive is None
    folder = tmp_path / "out/page"
    assert (folder / "predictions.zip").read_bytes() == before
    assert {file.name for file in folder.iterdir()} <= PARTS
