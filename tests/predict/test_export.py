"""An exported folder gives the network's masks in a process that imports nothing of this project."""

import csv
import importlib.util
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from model.pocket import comparison
from util.data.images.read import TAG
from util.evaluate.calibration import FORMAT, MARGIN_NUMBERS, Calibration, key_of
from util.export import export as exporting
from util.export.export import write_export
from util.files import read_json
from util.predict import Segmenter
from util.predict.prediction import Decision
from util.predict.supports import parse_support
from util.runtime import device

NEEDED_BY_OTHERS = {"pt2": "onnxruntime", "onnx": "torch"}  # packages that run.py imports for the other format
ALONE = """
import runpy, sys
for name in (sys.argv[1], "cv2", "scipy", "yaml", "model", "util"):
    sys.modules[name] = None  # cannot be imported
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _photos(plain: list[Path], folder: Path) -> list[Path]:
    """Return photos, some of them turned by EXIF data, with alpha or 16 bits, and a file that is none."""
    pixels, exif = np.asarray(Image.open(plain[0])), Image.Exif()
    exif[TAG] = 6
    Image.fromarray(pixels[:40]).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(np.dstack([pixels, pixels[:, :, 0]])).save(folder / "alpha.png")
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256 + 200).save(folder / "deep.png")
    (folder / "damaged.jpg").write_text("")
    return [*plain, *(folder / name for name in ("turned.jpg", "alpha.png", "deep.png", "damaged.jpg"))]


@pytest.mark.process
@pytest.mark.parametrize("name", NEEDED_BY_OTHERS)
def test_the_folder_gives_the_same_masks_elsewhere(
    predict, make_checkpoint, marked: dict, drawn_support, photos, tmp_path: Path, name: str
) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (requirements-export.txt)")
    weights, supports = tmp_path / "weights.pth", [drawn_support, f"box={marked['box']}"]
    shutil.copy(make_checkpoint("ssp"), weights)
    network = Segmenter(weights, supports, device="cpu", decision=Decision(refine=False))
    classes = [text.partition("=")[0] for text in supports]
    key = key_of(network.model.run.config, network.model.weights.digest)
    numbers = [0.5] * MARGIN_NUMBERS + [3.0, -2.0, 1.0, 2.0, 1.0, -1.0]
    network.calibration = Calibration(FORMAT, "", key, "", 1.0, 0.0, numbers, 0.1, 0.5)
    queries = _photos(photos, tmp_path)
    scores = [found.presence for found in network.many(queries[:-1])]
    network.calibration = replace(network.calibration, threshold=float(np.median(scores)))  # some are shown, some not
    (tmp_path / "calibration.yaml").write_text(yaml.safe_dump(asdict(network.calibration)))
    words = ("export", "--checkpoint", weights, "--format", name, "--out", tmp_path / "made")
    done = predict(*words, "--support", supports[0], "--support", supports[1])
    assert done.code == 0 and not done.errors.strip(), done.errors
    assert "not empty" in predict(*words).error
    elsewhere = (tmp_path / "made").rename(tmp_path / "elsewhere")
    run = [sys.executable, "-I", "-c", ALONE, NEEDED_BY_OTHERS[name], elsewhere / "run.py", *queries]
    alone = subprocess.run([*map(str, run), "--out", "found"], cwd=tmp_path, capture_output=True, text=True)
    assert alone.returncode == 2 and alone.stderr.splitlines()[-1].startswith(f"error: {queries[-1]}: "), alone.stderr
    rows = [*csv.DictReader((tmp_path / "found/summary.csv").open())]
    assert [(row["photo"], row["class"]) for row in rows] == [(str(q), c) for q in queries[:-1] for c in classes]
    assert {row["shown"] for row in rows} == {"True", "False"}
    for i, found in enumerate(network.many(queries[:-1])):
        mask = np.asarray(Image.open(tmp_path / f"found/{queries[i].stem}_mask.png"))
        assert mask.shape == found.mask.shape and (mask != found.mask).mean() < 0.001
        presence = [float(row["presence"]) for row in rows[2 * i : 2 * i + 2]]
        assert presence == pytest.approx(found.presence, abs=1e-4)


@pytest.mark.compile
@pytest.mark.parametrize("model", ["", "dcama", "sccan", "hsnet", "pocket"])
def test_every_method_equals_its_files(
    empty_segmenter, drawn_support, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setattr(comparison, "STEPS", 2)  # of Pocket's solver, each in the graph: 40 take half a minute
    segmenter = empty_segmenter(model)
    segmenter.add("disc", [parse_support(drawn_support).read()])
    assert write_export(segmenter, tmp_path / "out", "pt2") < exporting.MAX_DIFFERENCE


@pytest.mark.compile
@pytest.mark.parametrize(("asked", "precision"), [("auto", "float32"), ("bf16", "bf16")])
def test_the_precision_is_that_of_predictions(
    predict, make_checkpoint, drawn_support, photos, tmp_path: Path, monkeypatch, asked: str, precision: str
) -> None:
    """Which ``auto`` is not, on a processor that computes bf16 fast."""
    monkeypatch.setattr(device, "fast_bf16", lambda _: True)
    weights, out = make_checkpoint("ssp", f"run.precision={asked}"), tmp_path / "out"
    words = ("export", "--checkpoint", weights, "--support", drawn_support)
    done = predict(*words, "--out", out)
    assert f"in {precision}, differs from predict.py in {precision}" in done.output, done.errors
    facts = read_json(out / "export.json", "", "")
    assert facts["precision"] == precision and facts["difference"] <= exporting.allowed_difference(precision)
    segmenter = Segmenter(weights, [drawn_support], device="cpu", decision=Decision(refine=False))
    spec = importlib.util.spec_from_file_location("run", out / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mask, _ = module.Exported()(np.asarray(Image.open(photos[0]).convert("RGB")))
    assert segmenter.facts["precision"] == precision and (mask != segmenter(photos[0]).mask).mean() < 0.03
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda _: True)
    refused = predict(*words, "--out", tmp_path / "onnx", "--format", "onnx", "--set", "run.precision=fp16").error
    assert "--format onnx: takes float32 and not fp16" in refused and not (tmp_path / "onnx").exists()


@pytest.mark.compile
def test_a_file_that_differs_is_removed(
    predict, baseline: Path, marked: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "MAX_DIFFERENCE", -1.0)
    error = predict("export", "--config", baseline, "--support", marked["box"], "--out", tmp_path / "out").error
    assert "removed" in error and not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--out", "{full}"), "not empty"),
        (("--out", "{full}", "--overwrite"), "holds other files"),
        (("--out", "{file}/out"), "Not a directory"),
        (("--out", "{file}2"), "no supports"),
    ],
)
def test_refusals(predict, baseline: Path, marked: dict, tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    file, full = tmp_path / "file", tmp_path / "full"
    full.mkdir()
    for path in (file, full / "photo.jpg"):
        path.write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [word.replace("{file}", str(file)).replace("{full}", str(full)) for word in words]
    supports = () if reason == "no supports" else ("--support", marked["box"])
    assert reason in predict("export", "--config", baseline, *supports, *given).error
    assert sorted(tmp_path.rglob("*")) == before
