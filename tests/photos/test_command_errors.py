"""A wrong option is one line on stderr, exit code 2, and no file."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from photos import Segmenter
from tests.annotations import drawn
from util.files.errors import UserError


@pytest.fixture
def refused(predict, baseline: Path, example_texts: dict[str, str], photos, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a good command line with some options replaced, and gives the error line."""

    def run(**options: object) -> str:
        given = {"config": baseline, "support": example_texts["box"], "query": photos[0], "out": tmp_path / "out"}
        words = []
        for name, value in {**given, **options}.items():
            if value is not None:
                words += [f"--{name.replace('_', '-')}", value]
        line = predict(*words).error
        assert not list(tmp_path.glob("out/*"))
        return line

    return run


def test_marks_that_cannot_be_read_are_refused(baseline: Path, example_texts: dict[str, str]) -> None:
    """The last two mark nothing, and vanish at the network's input."""
    segmenter = Segmenter(config=baseline, device="cpu")
    photo = example_texts["box"].partition(":")[0]
    wrong = "box=1,2,3|box=1,2,3,4;1,2,x,4|box=0,0,61,44|box=nan,0,9,9|points=|points=1,2;99,3|scribble=1;2"
    wrong += "|points=9,9 nott=9,3|box=1,2,30,40 mask.png|gone.png|points=0.4,0.5|not=30,9|box=2,2,3,3"
    for marks in wrong.split("|"):
        with pytest.raises(UserError, match=re.escape(marks)):
            segmenter.add(None, [f"{photo}:{marks}"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"support": None}, "add --support"),
        (
            {"support": "photo.jpg"},
            "photo.jpg: the photo has no annotation; write PHOTO:mask.png or PHOTO:box=x0,y0,x1,y1",
        ),
        ({"support": ".._/x=photo.jpg:mask.png"}, "'.._/x'"),
        ({"support": "photo.jpg:photo.json"}, "outlines in a file are read by --supports photo.json"),
        ({"support": "photo.jpg:photo.xml"}, "export those of other formats, such as VOC's XML, as COCO"),
        ({"support": "gone.jpg:box=1,2,3,4"}, "gone.jpg: "),
        ({"query": None}, "the following arguments are required: --query"),
        ({"query": "gone/*.jpg"}, "no such photo or folder; write a pattern without quotes"),
        ({"suport": "x"}, "did you mean '--support'?"),
        ({"suport": "x", "out": None}, "--out; unrecognized arguments: --suport; did you mean '--support'?"),
        ({"shots": 5}, "--shots 5; see "),
        ({"out": None}, "the following arguments are required: --out"),
        ({"out": "some.pth"}, "some.pth: is a file; name a folder"),
        ({"query": "some.pth"}, "some.pth: "),
        ({"query": "one/a.png", "support": "one/a.jpg:one/a.png"}, "--query: names no photo but masks"),
        ({"resize": 0}, "--resize: 0 is out of range"),
        ({"port": 80}, "unrecognized arguments: --port 80"),
        ({"resize": 40}, "nearest: 33, 41"),
        ({"format": "voc"}, "'voc' is none of png, coco, yolo, labelme, labelstudio"),
        ({"classes": "horse", "supports": "set"}, "'horse' is not a class of set"),
        ({"classes": "dog", "supports": "one"}, "no photo shows one of the classes"),
        ({"min_presence": 50}, "min_presence 50: is no presence score"),
        ({"min_presence": 0.5}, "presence score of at least 0.5"),
        ({"config": "gone.yaml"}, "gone.yaml: "),
        ({"config": None, "net": "lite0"}, "--net: has no effect without --model"),
        ({"config": None, "model": "pocket"}, "this run is not trained; train it by train.sh, or name other weights"),
        ({"model": "insid3"}, "argument --model: not allowed with argument --config"),
        ({"config": None, "checkpoint": "gone.pth"}, "gone.pth: "),
        ({"checkpoint": "some.pth"}, "some.pth: "),
    ],
)
def test_options_of_predict_that_do_not_fit_are_refused(
    refused, options: dict[str, object], reason: str, tmp_path: Path, monkeypatch
) -> None:
    drawn.coco(tmp_path / "set")
    path = drawn.masks(tmp_path / "one") / "a.png"
    Image.fromarray(drawn.region(drawn.CAT)).save(path)
    monkeypatch.chdir(tmp_path)
    Path("some.pth").write_text("")
    assert reason in refused(**options)


def test_a_command_that_is_not_there_is_named_and_help_shows_the_others(predict) -> None:
    assert "serv: no such command; did you mean 'serve'?" in predict("serv").error
    help_of_all = predict("--help").output
    assert all(word in help_of_all for word in ("--support ", "--query ", "calibrate", "serve"))


def test_queries_that_would_share_their_results(predict, baseline_words, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    twin = tmp_path / f"again/{photos[0].stem}.png"
    for path in (twin, tmp_path / "a.png", tmp_path / "a_mask.png"):
        Image.new("RGB", (40, 50)).save(path)
    for first, second in ((photos[0], twin), (tmp_path / "a.png", tmp_path / "a_mask.png")):
        done = predict(*baseline_words, "--query", first, second, "--out", tmp_path)
        assert "rename a photo" in done.error
    assert f"note: {tmp_path}: holds photos to segment" in done.errors
