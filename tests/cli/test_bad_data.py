"""Tests of bad data and settings as a user meets them: exit code 2, one line that names the culprit, no result."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests import spawned
from tests.paths import REPOSITORY
from util.config.read import read_config
from util.data.images.read import read_image
from util.data.lists.index import load_index
from util.errors import UserError

PROTOTYPE, SYMNET = "mini_split0_prototype_resnet10.yaml", "mini_split0_resnet10.yaml"
UNTRAINED = {"encoder": {"backbone": "resnet18", "stem": "plain", "weights": None}}
QUICK = {"checkpoint": "none", "episodes": 4, "seeds": [0], "pictures": 0}


@dataclass
class Bench:
    """A copy of the drawn data set that may be damaged, and configs over it."""

    write: object
    root: Path

    def config(self, base: str = PROTOTYPE, **sections: dict) -> Path:
        """Write a config over the copy and return its path."""
        data = {"root": str(self.root), **sections.pop("data", {})}
        return self.write(base, data=data, model=UNTRAINED, test=QUICK, **sections)

    def damaged_after_indexing(self, workers: int) -> Path:
        """Build the index, then spoil every image without a sign in the masks; return the config's path."""
        config = self.config(data={"workers": workers})
        load_index(read_config(config).data, "test", progress=False)
        for number in range(len(self.names())):
            self.image(number).write_bytes(b"no picture")
        return config

    def names(self) -> list[str]:
        """Return the names of the test images."""
        return (self.root / "ImageSets/Segmentation/val.txt").read_text().split()

    def image(self, number: int) -> Path:
        return self.root / "JPEGImages" / f"{self.names()[number]}.jpg"

    def mask(self, number: int) -> Path:
        return self.root / "SegmentationClassAug" / f"{self.names()[number]}.png"


@pytest.fixture
def bench(mini_yaml, mini_root: Path, tmp_path: Path) -> Bench:
    return Bench(mini_yaml, Path(shutil.copytree(mini_root, tmp_path / "data")))


def _check(code: int, output: str, errors: str, config: Path, parts: tuple[str, ...]) -> None:
    """Check the output for the user: code 2, one clean error line that holds all of ``parts``, and no result."""
    assert code == 2, errors
    assert "Traceback" not in output + errors
    lines = [line for line in re.split(r"[\r\n]", errors) if "error:" in line]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: "), lines[0]  # not at the end of a progress bar
    assert all(part in lines[0] for part in parts), lines[0]
    assert "error:" not in output
    assert not list(config.parent.rglob("result.json"))


def _run(config: Path, *parts: str) -> None:
    """Run test.py as a process of its own and check how it ends."""
    run = spawned.run("test.py", config, check=2)
    _check(run.code, run.stdout, run.stderr, config, parts)


@pytest.fixture
def call(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs test.py in this process, which saves seconds, and checks how it ends."""

    def check(config: Path, *parts: str) -> None:
        code = _script(config, monkeypatch)
        output, errors = capfd.readouterr()
        _check(code, output, errors, config, parts)

    return check


def _script(config: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run test.py in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["test.py", str(config)])
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(REPOSITORY / "test.py"), run_name="__main__")
    return caught.value.code


# --- as processes of their own ---------------------------------------------------------------------------------------


@pytest.mark.process
def test_image_that_a_loader_process_cannot_read(bench: Bench) -> None:
    config = bench.damaged_after_indexing(workers=2)
    _run(config, str(bench.root / "JPEGImages"), ".jpg", "damaged")


@pytest.mark.process
def test_output_folder_that_is_a_file(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    _run(bench.config(run={"folder": str(tmp_path / "taken")}), str(tmp_path / "taken"), "run.folder")
    assert (tmp_path / "taken").read_text() == "a file"


# --- the same in this process ----------------------------------------------------------------------------------------


@pytest.mark.train
def test_undamaged_copy_gives_a_result(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    config = bench.config()
    assert _script(config, monkeypatch) == 0
    assert len(list(config.parent.rglob("result.json"))) == 1


def test_mask_of_colours(bench: Bench, call) -> None:
    with Image.open(bench.mask(3)) as mask:
        colours = mask.convert("RGB")
    colours.save(bench.mask(3))
    call(bench.config(), str(bench.mask(3)), "stored as RGB")


def test_checkpoint_that_does_not_exist(bench: Bench, tmp_path: Path, call) -> None:
    config = bench.config(SYMNET)
    text = config.read_text().replace("checkpoint: none", f"checkpoint: {tmp_path / 'lost.pth'}")
    config.write_text(text)
    call(config, str(tmp_path / "lost.pth"))


@pytest.mark.parametrize("damage", ["empty", "rubbish", "header only", "first half", "last bytes lost"])
def test_damaged_photo_is_refused(bench: Bench, damage: str) -> None:
    path = bench.image(0)
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "rubbish": b"no picture" * 50,
            "header only": whole[:160],
            "first half": whole[: len(whole) // 2],
            "last bytes lost": whole[:-100],
        }[damage]
    )
    with pytest.raises(UserError) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
