"""Files of others are hostile until checked: whatever is in them, it is one line and exit code 2, and nothing runs.

``hostile.py`` holds the files. Photos and masks of a data set are in ``test_bad_data.py``, wrong settings in
``test_config_mistakes.py``, wrong words of a command line with each command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.hostile import CONTENTS, JPEG, NOISE, SIDE, TRAP, weights
from tests.outcome import run_script
from util.config.read import read_config
from util.engine.network import new_model
from util.engine.run_context import make_run_context

PROTOTYPE, SYMNET = "mini_split0_prototype_resnet10.yaml", "mini_split0_resnet10.yaml"
UNTRAINED = {"encoder": {"weights": None}}


@pytest.fixture
def hostile(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file of some content under a name, or makes something else than a file."""

    def make(content: str, name: str) -> Path:
        path = tmp_path / "hostile" / name
        path.parent.mkdir(exist_ok=True)
        if content == "folder":
            path.mkdir()
        elif content == "circle of links":
            path.symlink_to(path)
        elif content != "gone":
            path.write_bytes(CONTENTS[content])
        return path

    return make


@pytest.fixture
def refused(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Return a function that runs a script and checks that it ends with one line, which names the file and why."""

    def check(path: Path, reason: str, script: str, *words: object) -> None:
        line = run_script(script, words, capfd, monkeypatch).error
        assert path.name in line and reason in line and len(line) < 2000, line
        assert not TRAP.exists() and not list(tmp_path.glob("out/*"))

    return check


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(NOISE).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("gone", "does not exist"),
        ("folder", "folder"),
        ("circle of links", "does not exist"),
        ("empty", "not a photo that can be read"),
        ("text", "not a photo that can be read"),
        ("nul", "not a photo that can be read"),
        ("eps", "not a photo that can be read"),
        ("start", "not a photo that can be read"),
        ("bomb", "the limit"),
        ("larger bomb", "the limit"),
        ("huge", "the limit is"),
        ("cut", "not a photo that can be read"),
    ],
)
def test_photo(content: str, reason: str, hostile, refused, mini_yaml, photo: Path, tmp_path: Path) -> None:
    path = hostile(content, "query.jpg")
    config = mini_yaml(PROTOTYPE, model=UNTRAINED)
    words = ("predict.py", "--config", config, "--out", tmp_path / "out", "--support")
    refused(path, reason, *words, f"{photo}:box=1,1,40,40", "--query", path)
    if content in ("gone", "folder", "cut"):
        refused(path, reason, *words, f"{path}:box=1,1,40,40", "--query", photo)


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        ("gone", "png", "this mask does not exist"),
        ("text", "png", "not a mask that can be read"),
        ("bomb", "png", "the limit"),
        ("black", "png", "marks no pixel"),
        ("wide", "png", "65 x 64 pixels, its photo has 64 x 64"),
        ("folder", "json", "cannot read these outlines"),
        ("empty", "json", "neither labelme's"),
        ("brace", "json", "neither labelme's"),
        ("list", "json", "not in labelme's form"),
        ("objects", "json", "neither labelme's 'shapes' nor COCO's"),
        ("no shapes", "json", "outlines nothing"),
        ("line", "json", "type 'line' has no area"),
        ("far", "json", "impossible"),
        ("word", "json", "not in labelme's form"),
        ("outline nan", "json", "not in labelme's form"),
        ("no points", "json", "not in labelme's form"),
        ("deep shapes", "json", "not in labelme's form"),
        ("deep annotations", "json", "cut short or not JSON"),
        ("utf-16", "json", "cannot read these outlines"),
        ("elsewhere", "json", "lists no image 'photo.png'"),
        ("coco huge", "json", "of a photo of 1000000000 x 1000000000 pixels, this one has 64 x 64"),
        ("coco nan", "json", "NaN is no number"),
        ("coco above", "json", "not the name of a file"),
        ("coco runs", "json", "damaged"),
        ("coco negative runs", "json", "not in COCO's format"),
        ("coco class", "json", "category_id -1 is not among the categories"),
        ("coco words", "json", "not in COCO's format"),
    ],
)
def test_marks(content: str, suffix: str, reason: str, hostile, refused, mini_yaml, photo: Path, tmp_path: Path):
    path = hostile(content, f"marks.{suffix}")
    words = ("--config", mini_yaml(PROTOTYPE, model=UNTRAINED), "--query", photo, "--out", tmp_path / "out")
    name = photo if reason == "damaged" else path  # the photo whose annotation it is
    refused(name, reason, "predict.py", *words, "--support", f"{photo}:{path}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("gone", "does not exist"),
        ("folder", "does not exist"),
        ("empty", "truncated"),
        ("text", "truncated"),
        ("pickle", "safely"),
        ("torch pickle", "safely"),
        ("torch zip", "truncated"),
        ("torch list", "no named tensors"),
        ("torch plain", "carries no config"),
        ("torch config", "run must be a section"),
    ],
)
def test_checkpoint(content: str, reason: str, hostile, refused, photo: Path, tmp_path: Path) -> None:
    path = hostile(content, "weights.pth")
    words = ("--checkpoint", path, "--query", photo, "--out", tmp_path / "out", "--support", f"{photo}:box=1,1,9,9")
    refused(path, reason, "predict.py", *words)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("nan", "finite numbers"),
        ("integers", "of the right kind"),
        ("complex", "of the right kind"),
        ("shape", "another shape"),
    ],
)
def test_weights(damage: str, reason: str, refused, mini_yaml, tmp_path: Path) -> None:
    config = mini_yaml("mini_split0_ssp_resnet10.yaml", model=UNTRAINED)
    own = new_model(make_run_context(read_config(config))).state_dict()
    torch.save(weights(own, damage), tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", reason, "test.py", config, "--checkpoint", tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "suffix", "reason"),
    [
        ("pickle", "pkl", "read safely"),
        ("empty", "pkl", "read safely"),
        ("folder", "pkl", "read safely"),
        ("text", "npz", "read safely"),
        ("table objects", "npz", "read safely"),
        ("table other", "npz", "read safely"),
        ("table rows", "npz", "3 rows of text vectors"),
        ("table flat", "npz", "one table of numbers"),
        ("table words", "npz", "one table of numbers"),
        ("table inf", "npz", "not finite"),
        ("table nan", "npz", "not finite"),
    ],
)
def test_vectors(content: str, suffix: str, reason: str, hostile, refused, mini_yaml) -> None:
    path = hostile(content, f"vectors.{suffix}")
    refused(path, reason, "test.py", mini_yaml(SYMNET), "--set", f"data.text={path}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("folder", "cannot read this list"),
        ("empty", "names no image"),
        ("list utf-16", "cannot read this list"),
        ("list above", "not an image of this data set"),
        ("list absolute", "not an image of this data set"),
        ("list nul", "not an image of this data set"),
        ("list twice", "twice"),
        ("circle of links", "cannot read this list"),
    ],
)
def test_list_of_images(content: str, reason: str, hostile, refused, mini_yaml) -> None:
    path = hostile(content, "list.txt")
    refused(path, reason, "test.py", mini_yaml(PROTOTYPE), "--set", f"data.test_list={path}")


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        ("folder", "list.txt", "cannot read this list"),
        ("nul", "list.txt", "neither 'image mask' nor"),
        ("list utf-16", "list.txt", "not a text file"),
        ("list form", "list.txt", "list.txt:1: neither"),
        ("list above", "list.txt", "list.txt:1: neither"),
        ("pickle", "list.pkl", "read safely"),
        ("list numbers", "list.pkl", "read safely"),
        ("list dictionary", "list.pkl", "not in the data set"),
    ],
)
def test_list_of_a_fold(content: str, name: str, reason: str, hostile, refused, mini_yaml) -> None:
    path = hostile(content, name)
    refused(path, reason, "prepare.py", "lists", mini_yaml(PROTOTYPE), "--import", path, "--fold", "0")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("empty", "holds no episode"),
        ("list utf-16", "cannot read this manifest"),
        ("manifest line", "'query' is missing or not str"),
        ("manifest deep", "not a line of JSON"),
        ("manifest negative", "class -1 is not novel"),
    ],
)
def test_manifest(content: str, reason: str, hostile, refused, mini_yaml) -> None:
    path = hostile(content, "episodes.jsonl")
    refused(path, reason, "test.py", mini_yaml(PROTOTYPE, model=UNTRAINED), "--manifest", path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("gone", "cannot read this config"),
        ("folder", "cannot read this config"),
        ("nul", "not valid YAML"),
        ("utf-16", ""),
        ("yaml binary", "cannot read this config"),
        ("yaml tag", "could not determine a constructor"),
        ("yaml lists", "values, aliases counted"),
        ("yaml sections", "values, aliases counted"),
        ("yaml circle", "values, aliases counted"),
        ("yaml deep", "values, aliases counted"),
        ("yaml dashes", "values, aliases counted"),
    ],
)
def test_config(content: str, reason: str, hostile, refused) -> None:
    path = hostile(content, "config.yaml")
    refused(path, reason, "test.py", path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("folder", "cannot read this annotation file"),
        ("empty", "not JSON"),
        ("utf-16", "cannot read this annotation file"),
        ("deep annotations", "not JSON"),
        ("list", "holds no 'images'"),
        ("coco above", "not the name of a file"),
        ("coco words", "not in COCO's format"),
        ("coco class", "category_id -1"),
        ("coco huge", "of a photo of 1000000000 x 1000000000 pixels"),
        ("coco nan", "NaN is no number"),
    ],
)
def test_annotations(content: str, reason: str, hostile, refused, photo: Path, tmp_path: Path) -> None:
    path = hostile(content, "marks.json")
    folder = tmp_path / "photos"
    folder.mkdir()
    photo.rename(folder / photo.name)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    words = ("custom", "--name", "own", "--images", folder, "--coco-json", path, "--config-dir", tmp_path / "configs")
    words += ("--classes", tmp_path / "names.txt")
    named = photo if content == "coco huge" else path
    refused(named, reason, "prepare.py", *words, "--out", tmp_path / "own", "--folds", "2")


def test_a_photo_damaged_behind_its_header_stops_no_other(
    hostile, mini_yaml, photo: Path, tmp_path: Path, capfd, monkeypatch
) -> None:
    bad, good = hostile("cut", "bad.jpg"), tmp_path / "good.jpg"
    good.write_bytes(JPEG)
    words = ("--config", mini_yaml(PROTOTYPE, model=UNTRAINED), "--out", tmp_path / "out")
    words += ("--support", f"{photo}:box=1,1,40,40", "--query", photo, bad, good)
    ended = run_script("predict.py", words, capfd, monkeypatch)
    assert str(bad) in ended.error and "2 of 3 photos" in ended.output
    masks = {p.name: Image.open(p).size for p in (tmp_path / "out").glob("*_mask.png")}
    assert masks == {"photo_mask.png": (SIDE, SIDE), "good_mask.png": (SIDE, SIDE)}
