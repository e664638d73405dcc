"""An exported folder gives the network's masks in a process that imports nothing of this project."""

import csv
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from model.pocket import comparison
from photos import Prediction, Segmenter
from photos.examples import parse_example
from photos.export import export as exporting
from photos.export import run
from photos.export.export import write_export
from photos.prediction import Decision
from tests.photos.conftest import Made
from util.evaluate.calibration import FORMAT, MARGIN_NUMBERS, Calibration, key_of
from util.files import read_json
from util.files.images import TAG
from util.loop import device

NEEDED_BY_OTHERS = {"pt2": "onnxruntime", "onnx": "torch"}  # packages that run.py imports for the other format
ALONE = """
import runpy, sys
for name in (sys.argv[1], "cv2", "scipy", "yaml", "annotations", "model", "photos", "util"):
    sys.modules[name] = None  # cannot be imported
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def queries(photos: list[Path], made: Made) -> list[Path]:
    """Return photos, some of them turned by EXIF data, with alpha or 16 bits."""
    pixels, exif = np.asarray(Image.open(photos[0])), Image.Exif()
    exif[TAG] = 6
    turned, alpha, deep = (made.folder / name for name in ("turned.jpg", "alpha.png", "deep.png"))
    Image.fromarray(pixels[:40]).save(turned, exif=exif)
    Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(alpha)
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256 + 200).save(deep)
    return [*photos, turned, alpha, deep]


@pytest.fixture
def supports(drawn_support: str, example_texts: dict[str, str]) -> list[str]:
    """Return supports of two classes."""
    return [drawn_support, f"box={example_texts['box']}"]


@pytest.fixture
def weights(make_checkpoint, supports: list[str], queries: list[Path], made: Made) -> Path:
    """Return weights beside a calibration, by whose threshold the classes are on some of the queries."""
    path = made.folder / "calibrated" / "weights.pth"
    if path.exists():
        return path
    path.parent.mkdir()
    shutil.copy(make_checkpoint("ssp", "run.precision=auto"), path)
    segmenter = Segmenter(path, supports, device="cpu")
    key = key_of(segmenter.model.run.config, segmenter.model.weights.digest)
    numbers = [0.5] * MARGIN_NUMBERS + [3.0, -2.0, 1.0, 2.0, 1.0, -1.0]
    calibration = Calibration(FORMAT, "", key, "", 1.0, 0.0, numbers, 0.1, 0.5)
    segmenter.calibration = calibration
    scores = [prediction.presence for prediction in segmenter.many(queries)]
    calibration = replace(calibration, threshold=float(np.median(scores)))
    (path.parent / "calibration.yaml").write_text(yaml.safe_dump(asdict(calibration)))
    return path


@pytest.fixture
def fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this be a processor that computes bf16 fast."""
    monkeypatch.setattr(device, "fast_bf16", lambda _: True)


@pytest.fixture
def export(predict, weights: Path, supports: list[str], made: Made, fast_bf16) -> Callable[[str], tuple[Path, str]]:
    """Return a function that gives the export in a format, made once and moved, and the output of its command."""

    def give(name: str) -> tuple[Path, str]:
        if name not in made.exports:
            out = made.folder / f"made {name}"
            words = ("export", "--checkpoint", weights, "--format", name, "--out", out)
            done = predict(*words, "--support", supports[0], "--support", supports[1])
            assert done.code == 0 and not done.errors.strip(), done.errors
            made.exports[name] = (out.rename(made.folder / f"elsewhere {name}"), done.output)
        return made.exports[name]

    return give


@pytest.mark.process
@pytest.mark.parametrize("name", NEEDED_BY_OTHERS)
def test_the_folder_gives_the_same_masks_elsewhere(
    export, weights: Path, supports: list[str], queries: list[Path], *, tmp_path: Path, name: str
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    folder, _ = export(name)
    damaged = tmp_path / "damaged.jpg"
    damaged.write_text("")
    program = [sys.executable, "-I", "-c", ALONE, NEEDED_BY_OTHERS[name], folder / "run.py"]
    words = [*program, damaged, *queries, "--out", "found"]
    done = subprocess.run(map(str, words), cwd=tmp_path, capture_output=True, text=True)
    error = f"error: {damaged}: is no photo; convert it to JPEG or PNG, or leave it out"
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == error, done.stderr
    assert done.stdout.splitlines() == [str(Path("found", f"{query.stem}_mask.png")) for query in queries]
    segmenter = Segmenter(weights, supports, device="cpu", decision=Decision(refine=False))
    predictions = list(segmenter.many(queries))
    assert [prediction.photo for prediction in predictions] == queries
    _check_masks(tmp_path / "found", predictions)
    _check_table(tmp_path / "found", predictions)


def _check_masks(folder: Path, predictions: list[Prediction]) -> None:
    for prediction in predictions:
        mask = np.asarray(Image.open(folder / f"{prediction.photo.stem}_mask.png"))
        assert mask.shape == prediction.mask.shape
        assert (mask != prediction.mask).mean() < 0.001


def _check_table(folder: Path, predictions: list[Prediction]) -> None:
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [(str(prediction.photo), name) for prediction in predictions for name in prediction.names]
    assert [(row["photo"], row["class"]) for row in rows] == expected
    assert {row["shown"] for row in rows} == {"True", "False"}
    presence = [float(row["presence"]) for row in rows]
    assert presence == pytest.approx(np.concatenate([p.presence for p in predictions]), abs=1e-4)


@pytest.mark.compile
@pytest.mark.parametrize("model", ["", "dcama", "sccan", "hsnet", "pocket"])
def test_every_method_equals_its_files(
    empty_segmenter, drawn_support, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(comparison, "STEPS", 2)  # of Pocket's solver, each in the graph: 40 take half a minute
    segmenter = empty_segmenter(model)
    segmenter.add("disc", [parse_example(drawn_support).read()])
    assert write_export(segmenter, tmp_path / "out", "pt2") < exporting.MAX_DIFFERENCE


@pytest.mark.compile
def test_auto_is_the_precision_of_predictions(export, weights: Path, supports: list[str], photos: list[Path]) -> None:
    """Which is float32, also on a processor that computes bf16 fast."""
    folder, output = export("pt2")
    _check_precision(folder, output, "float32")
    segmenter = Segmenter(weights, supports, device="cpu", decision=Decision(refine=False))
    assert segmenter.facts["precision"] == "float32"
    assert _difference(folder, segmenter, photos[0]) < 0.03


@pytest.mark.compile
def test_bf16_is_the_precision_of_predictions(
    predict, baseline: Path, drawn_support: str, photos: list[Path], tmp_path: Path
) -> None:
    in_bf16, out = "run.precision=bf16", tmp_path / "out"
    words = ("export", "--config", baseline, "--set", in_bf16, "--support", drawn_support, "--out", out)
    _check_precision(out, predict(*words).output, "bf16")
    decision = Decision(refine=False)
    segmenter = Segmenter(None, [drawn_support], config=baseline, overrides=[in_bf16], device="cpu", decision=decision)
    assert segmenter.facts["precision"] == "bf16"
    assert _difference(out, segmenter, photos[0]) < 0.03
    assert "not empty" in predict(*words).error


def _check_precision(folder: Path, output: str, precision: str) -> None:
    """Check what an export and the output of its command say of the precision."""
    assert f"in {precision}, its probabilities differ from those of predict.py" in output
    facts = read_json(folder / "export.json", "", "")
    assert facts["precision"] == precision
    places = [facts["checkpoint"], *(source for known in facts["classes"] for source in known["supports"])]
    assert not any("/" in place for place in places)
    assert facts["difference"] <= {"float32": exporting.MAX_DIFFERENCE, "bf16": exporting.MAX_IN_HALF}[precision]


def test_unread_photos_leave_no_folder(tmp_path: Path, photos: list[Path], monkeypatch, capsys) -> None:
    monkeypatch.setattr(run, "Exported", object)  # no photo reaches the graph
    document, cut, gone, deep = (tmp_path / name for name in ("a.pdf", "b.jpg", "c.png", "d.tif"))
    document.write_bytes(b"%PDF-1.4")
    cut.write_bytes(photos[0].read_bytes()[:300])
    Image.fromarray(np.zeros((4, 4), np.int32)).save(deep)
    files = [document, cut, gone, deep]
    monkeypatch.setattr(sys, "argv", ["run.py", *map(str, files), "--out", str(tmp_path / "found")])
    assert run.main() == 2
    out, errors = capsys.readouterr()
    assert not out and not (tmp_path / "found").exists()
    lines = errors.splitlines()
    assert len(lines) == len(files)
    for line, file in zip(lines, files, strict=True):
        assert line.startswith(f"error: {file}: ") and line.endswith("or leave it out")
        with pytest.raises(ValueError, match=re.escape(str(file))):
            run.read(file)
    (tmp_path / "found").mkdir()
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "exists already; name a new folder" in capsys.readouterr().err


def _difference(folder: Path, segmenter: Segmenter, photo: Path) -> float:
    """Return the share of a photo's pixels of which an export and a segmenter say different things."""
    spec = importlib.util.spec_from_file_location("run", folder / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mask, _ = module.Exported()(np.asarray(Image.open(photo).convert("RGB")))
    return float((mask != segmenter(photo).mask).mean())


def test_onnx_takes_float32_alone(predict, make_checkpoint, drawn_support: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda _: True)
    words = ("export", "--checkpoint", make_checkpoint("ssp"), "--support", drawn_support, "--format", "onnx")
    error = predict(*words, "--out", tmp_path / "onnx", "--set", "run.precision=fp16").error
    assert "--format onnx: takes float32 and not fp16" in error
    assert not (tmp_path / "onnx").exists()


@pytest.mark.compile
def test_an_export_whose_output_differs_is_removed(predict, baseline_words, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1.0)
    error = predict("export", *baseline_words, "--out", tmp_path / "out").error
    assert "removed" in error
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--out", "{full}"), "not empty"),
        (("--out", "{full}", "--overwrite"), "holds other files"),
        (("--out", "{file}/out"), "Not a directory"),
        (("--out", "{file}2"), "no example"),
    ],
)
def test_an_export_that_cannot_work_is_refused_and_writes_nothing(
    predict, baseline_words, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    file, full = tmp_path / "file", tmp_path / "full"
    full.mkdir()
    for path in (file, full / "photo.jpg"):
        path.write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [word.replace("{file}", str(file)).replace("{full}", str(full)) for word in words]
    config_and_support = baseline_words[:2] if reason == "no example" else baseline_words
    assert reason in predict("export", *config_and_support, *given).error
    assert sorted(tmp_path.rglob("*")) == before
