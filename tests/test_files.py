"""Files behind links and without them, each folder once; names that are not UTF-8; folders made aside."""

import errno
import os
from pathlib import Path

import pytest

from tests.annotations import drawn
from tests.annotations.drawn import photo
from util.files.errors import UserError, WriteError
from util.files.folders import files_below, paths_below
from util.files.names import own_name
from util.files.output_folders import link, made_aside
from util.files.pages import page_of
from util.files.parallel import result_or_error
from util.files.photos import photos_below
from util.files.writing import write_atomically


@pytest.mark.parametrize("name", ["", ".", "..", "../a.png", "/etc/a.png", "b\\a.png", "a\0.png"])
def test_a_name_in_a_file_that_leads_elsewhere_is_refused(name: str) -> None:
    assert own_name("a..b.png") == "a..b.png"
    with pytest.raises(ValueError, match="no name of a file"):
        own_name(name)


def test_the_data_of_a_page_end_no_script() -> None:
    page = page_of("<script>const entries = $entries</script>", entries=["</script>&$x"])
    assert page == '<script>const entries = ["\\u003c/script>&$x"]</script>'


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def test_a_folder_behind_links_is_found_once_and_circles_end(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "in"
    for path in (store / "a.txt", store / "deep/b.txt", folder / "own/c.txt", folder / ".hidden/d.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name, target in (("first", store), ("second", store), ("own/up", folder), ("again", folder / "own")):
        (folder / name).symlink_to(target)
    (store / "circle").symlink_to(store / "deep")
    (store / "deep/circle").symlink_to(folder / "first")
    assert names(folder) == ["first/a.txt", "first/deep/b.txt", "own/c.txt"]  # by its own path where it has one
    assert paths_below(folder, "deep") == [folder / "first/deep"] and paths_below(tmp_path / "nowhere") == []
    (folder / "itself").symlink_to("itself")
    assert "itself" in names(folder)


def test_links_that_lead_nowhere_are_photos_or_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("gone.jpg")
    (tmp_path / "batch").symlink_to("gone")
    assert [path.name for path in photos_below(tmp_path)] == ["a.jpg", "b.jpg"]
    assert "1 files are not read" in (said := capsys.readouterr().err)
    assert "lead nowhere, such as batch" in said


def test_a_name_that_is_no_utf8_is_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xff.jpg")
    write_atomically(tmp_path / "a.csv", f"café {name}\n")
    assert (tmp_path / "a.csv").read_text() == "café caf\\udce9 \\udcff.jpg\n"


@pytest.mark.parametrize("kind", ["labelme", "yolo", "coco"])
def test_annotations_and_their_photos_behind_links_are_found(tmp_path: Path, kind: str) -> None:
    drawn.WRITERS[kind](tmp_path / "store")
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in (tmp_path / "store").iterdir():  # folders and files
        (linked / path.name).symlink_to(path)
    assert drawn.areas(linked) == drawn.AREAS


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_no_link_can_be_made_there_are_copies(tmp_path: Path, monkeypatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    photos, out = tmp_path / "photos", tmp_path / "photos/out"  # a folder is not copied into itself
    for name in ("a.jpg", "more/b.jpg"):
        photo(photos / name)
    for _ in range(2):  # the second time they are there
        link(photos / "a.jpg", tmp_path / "a.jpg", relative=True)
        link(photos, out / "images", relative=True)
        assert names(out) == ["images/a.jpg", "images/more/b.jpg"]
        assert not any(path.is_symlink() for path in tmp_path.rglob("*"))
        (out / "images/a.jpg").unlink()  # as if the copy had been interrupted
    assert (tmp_path / "a.jpg").read_bytes() == (photos / "a.jpg").read_bytes()
    (out / "images/mine.txt").touch()
    for target in (out / "images", photos / "more/b.jpg"):
        with pytest.raises(WriteError, match="another file is in the way"):
            link(photos, target)


def test_a_folder_is_made_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / ".out.making").mkdir()
    (tmp_path / ".out.making/of_a_killed_run").touch()
    with made_aside(out, "marker") as folder:
        (folder / "marker").touch()
        assert not out.exists()
    with pytest.raises(UserError, match=f"{out}/a: is bad"), made_aside(out, "marker") as folder:
        (folder / "b").touch()
        raise UserError(f"{folder}/a: is bad")
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and names(out) == ["marker"]
    with pytest.raises(UserError, match="holds other files"), made_aside(out, "another"):
        pass


def test_a_pipe_is_written_through_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(pipe, "a table")
    assert os.read(reader, 99) == b"a table" and pipe.is_fifo()
    os.close(reader)


def test_a_full_disk_is_not_counted_as_a_bad_file() -> None:
    def write(_: int) -> None:
        raise WriteError("a.png: cannot be written")

    with pytest.raises(WriteError):
        result_or_error(write, 0)
