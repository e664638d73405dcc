"""``predict.py`` writes the files that the library's results say, and predicts from weights of others."""

import csv
import json
import os
import re
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from util.checkpoints import checkpoint
from util.data.images.read import read_mask
from util.data.mini import CLASS_NAMES
from util.files import read_json
from util.predict import Segmenter
from util.predict.load_model import OUTLOOK, SHIPPED, load_model
from util.predict.photos import read_photo
from util.predict.prediction import Decision
from util.predict.results import Results


def test_it_writes_mask_overlay_probability_and_numbers(predict, baseline: Path, marked: dict, photos, tmp_path: Path):
    words = ["--config", baseline, "--support", marked["box"], "--name", "cat", "--query", photos[0], photos[1]]
    done = predict(*words, "--no-refine", "--out", tmp_path / "out")
    assert done.code == 0 and "2 of 2 photos" in done.output and "predict: " in done.errors
    segmenter = Segmenter([marked["box"]], config=baseline, decision=Decision(refine=False))
    for photo in photos[:2]:
        shape, stem = read_photo(photo).shape, photo.stem
        record = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        mask = read_mask(tmp_path / "out" / record["mask"])
        assert np.array_equal(mask, segmenter(photo).mask)
        overlay = cv2.imread(str(tmp_path / "out" / record["overlay"]))
        (cat,) = record["classes"]
        probability = cv2.imread(str(tmp_path / "out" / cat["probability"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == probability.shape == shape[:2] and overlay.shape == shape
        assert (record["height"], record["width"]) == shape[:2] and probability.dtype == np.uint8
        assert np.array_equal(mask == 1, probability > 255 / 2) and set(np.unique(mask)) <= {0, 1}
        assert (cat["name"], cat["value"], cat["pixels"]) == ("cat", 1, (mask == 1).sum())
        assert cat["share"] == pytest.approx(cat["pixels"] / mask.size, abs=1e-6) and 0 < cat["share"] < 1
        y, x = np.nonzero(mask)
        assert cat["box"] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert cat["confidence"] == pytest.approx(probability[mask == 1].mean() / 255, abs=2e-3)
        assert record["supports"] == {"cat": [marked["box"]]} and record["model"] == "prototype baseline"
    assert len(list((tmp_path / "out").iterdir())) == 11 and (tmp_path / "out" / "summary.csv").exists()
    (tmp_path / "out" / photos[0].name).write_bytes(photos[0].read_bytes())  # results among photos are none
    again = predict(*words[:6], "--query", tmp_path / "out", "--out", tmp_path / "out", "--overwrite")
    assert "1 of 1 photos" in again.output


def test_weights_without_a_config_predict_like_a_checkpoint_of_this_project(
    predict, make_checkpoint, model_yaml, marked: dict, photos, tmp_path: Path
) -> None:
    ours, other, words = make_checkpoint("ssp"), tmp_path / "b.pth", ("--support", marked["box"], "--query", photos[0])
    torch.save({"state_dict": checkpoint.read(ours)["weights"]}, other)
    assert predict("--checkpoint", ours, *words, "--out", tmp_path / "a").code == 0
    config = ("--config", model_yaml("ssp"), "--checkpoint", other)
    assert predict(*config, *words, "--out", tmp_path / "b").code == 0
    names = [p.name for p in (tmp_path / "a").glob("*.*g")]
    assert len(names) == 3
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    assert "contains no config" in predict("--checkpoint", other, *words, "--out", tmp_path / "c").error


def test_settings_of_a_training_are_those_of_its_prediction(make_checkpoint, model_yaml) -> None:
    """Also where the config is named, as in a test."""
    given = make_checkpoint("ssp", "model.refine=false")
    for config in (None, model_yaml("ssp")):
        assert load_model(given, config, device="cpu").run.config.model.refine is False


def test_what_decides_a_result_is_compared_and_the_rest_is_resumed(predict, baseline, marked, photos, tmp_path) -> None:
    out, query = tmp_path / "out", tmp_path / "query.png"
    Image.open(photos[1]).save(query)
    marks = ("--config", baseline, "--support", f"{photos[0]}:points=30,30", "--radius", "5")
    words = (*marks, "--out", out, "--query", photos[0])

    def complete(*changed: object) -> str:
        done = predict(*words, query, "--resume", *changed)
        assert done.code == 0, done.errors
        return done.output.partition(" results are complete")[0].rpartition(": ")[2]

    assert predict(*words).code == 0 and complete() == "1 of 2" and complete() == "2 of 2"
    before = (out / f"{photos[0].stem}.json").stat().st_mtime_ns
    for length in (50, 0):  # damaged since
        mask = out / "query_mask.png"
        mask.write_bytes(mask.read_bytes()[:length])
        assert complete() == "1 of 2" and (out / f"{photos[0].stem}.json").stat().st_mtime_ns == before
    in_bf16 = ("--set", "run.precision=bf16")
    others = ("--radius", "40"), ("--set", "run.seed=5"), ("--resize", "81"), ("--support", marked["polygon"]), in_bf16
    for other in others:
        assert complete(*other) == complete() == "0 of 2"
    assert complete("--set", "run.precision=auto") == "2 of 2"  # whose predictions are in float32 on any processor
    assert read_json(out / "query.json", "", "")["precision"] == "float32"
    Image.open(photos[1]).crop((0, 0, 60, 50)).save(query)  # an older file in the query's place
    os.utime(query, (1, 1))
    assert complete() == "1 of 2"
    assert "not allowed with" in predict(*words, "--resume", "--overwrite").error


def test_interrupted_results_are_listed_and_reviewed_ones_kept(
    predict, baseline, marked, photos, tmp_path, monkeypatch
):
    out, write = tmp_path / "out", Results.write
    words = ("--config", baseline, "--query", *photos[:2], "--out", out, "--support")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    with monkeypatch.context() as patch:
        patch.setattr(
            Results, "write", lambda *at: write(*at) if at[1].photo == photos[0] else signal.raise_signal(signal.SIGINT)
        )
        assert predict(*words, marked["box"]).code == 130
    summary = (out / "summary.csv").read_text()
    assert str(photos[0]) in summary and str(photos[1]) not in summary
    (out / "accepted.csv").write_text(f"photo,class,verdict\n{photos[0]},object,rejected\n")
    for support in (marked["polygon"], marked["polygon"]):  # other marks
        done = predict(*words, support, "--resume", "--format", "png,coco")
        assert done.code == 0, done.errors
    assert "2 of 2 results are complete" in done.output
    assert _columns(out, "shown", "review") == [["True", "rejected"], ["True", ""]]
    assert {a["image_id"] for a in json.loads((out / "coco" / "instances.json").read_text())["annotations"]} == {2}
    shown = {f"{photo.stem}_overlay.jpg" for photo in photos[:2]}
    assert {path.name for path in (out / "review").iterdir()} == shown
    assert all(name in (out / "review.html").read_text() for name in shown)
    assert [Results(out, [name]).is_reviewed(photos[0]) for name in ("object", "dog")] == [True, False]
    assert Results(out, ["object"]).is_reviewed(photos[0].parent / ".." / photos[0].parent.name / photos[0].name)
    assert predict(*words, marked["box"], "--overwrite").code == 0
    assert _columns(out, "review") == [[""], [""]]  # the verdict was on the earlier result


def _columns(out: Path, *names: str) -> list[list[str]]:
    """Return some columns of the summary, row by row."""
    return [[row[name] for name in names] for row in csv.DictReader((out / "summary.csv").open())]


def test_without_a_model_the_shipped_weights_are_taken_and_a_line_says_so(
    predict, marked: dict, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--support", marked["box"], "--resize", 97, "--device", "cpu")
    line, mark, *rest = predict(*small, "--query", photos[0], "--out", "found").output.splitlines()
    assert line == "no --checkpoint: uses Pocket, trained on the 20 classes of pascal"
    assert re.fullmatch(
        r"object: 1 mark, \d+ % of the photo; photos with a presence score below 31 % get no mask", mark
    )
    assert rest.count(OUTLOOK) == 1  # an object without a name may be any
    record = json.loads(Path("found", photos[0].stem + ".json").read_text())
    assert (Path(record["checkpoint"]).name, record["settings"]["name"]) == (SHIPPED.name, "pocket")


def test_a_replaced_photo_is_predicted_again(predict, baseline: Path, marked: dict, photos, tmp_path: Path) -> None:
    """Its size and time are those of before; a photo of another time and the same content is not."""
    queries = [Path(shutil.copy(photo, tmp_path / f"{name}.jpg")) for photo, name in zip(photos, "ab")]
    words = ("--config", baseline, "--support", marked["box"], "--out", tmp_path / "out", "--query", *queries)
    predict(*words)
    before, content = queries[0].stat(), queries[0].read_bytes()
    queries[0].write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    os.utime(queries[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(queries[1], ns=(0, 0))
    assert "1 of 2 results are complete" in predict(*words, "--resume").output
    assert "2 of 2 results are complete" in predict(*words, "--resume").output


@pytest.mark.parametrize("name", ["a.json", "summary.csv", "review.html"])
def test_files_of_other_programs_are_not_overwritten(
    predict, baseline: Path, marked: dict, photos, tmp_path: Path, name: str
) -> None:
    query, out = Path(shutil.copy(photos[0], tmp_path / "a.jpg")), tmp_path / "out"
    words = ("--config", baseline, "--support", marked["box"], "--out", out, "--query", query)
    out.mkdir()
    (out / name).write_text('{"shapes": [], "imagePath": "a.jpg"}')
    for again in ("--resume", "--overwrite"):
        assert f"{name}: is no result of this program" in predict(*words, again).error
    assert (out / name).read_text().startswith('{"shapes"') and len([*out.iterdir()]) == 1
    (out / name).unlink()
    assert predict(*words).code == 0 and predict(*words, "--overwrite").code == 0


def test_photos_and_supports_behind_links_are_found(predict, baseline: Path, photos, mini_root: Path, tmp_path) -> None:
    store, supports, queries = tmp_path / "store", tmp_path / "supports", tmp_path / "queries"
    for folder in (store / "images", store / "masks", supports, queries):
        folder.mkdir(parents=True)
    for photo in photos:
        shutil.copy(photo, store / "images")
        shutil.copy(mini_root / f"SegmentationClassAug/{photo.stem}.png", store / "masks")
    (store / "names.txt").write_text("\n".join(CLASS_NAMES))
    for name in ("images", "masks", "names.txt"):
        (supports / name).symlink_to(store / name)
    (store / "images/circle").symlink_to(store / "images")
    for name in ("one", "two"):
        (queries / name).symlink_to(store / "images")
    words = ("--config", baseline, "--supports", f"masks:{supports}", "--out", tmp_path / "out", "--recursive")
    outcome = predict(*words, "--query", queries)
    assert outcome.code == 0 and "3 of 3 photos" in outcome.output, outcome.errors
    (queries / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    outcome = predict(*words, "--query", queries, "--resume")
    assert outcome.code == 2 and "1 could not be read" in outcome.output and "gone.jpg" in outcome.errors
