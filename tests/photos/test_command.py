"""``predict.py`` writes the files that the library's results say, and predicts from weights of others."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from photos import Prediction, Segmenter
from photos.command import DOUBT, coverage_of
from photos.prediction import Decision
from photos.read_photos import read_photo
from photos.results_folder import Results
from tests.data.drawn import overwrite
from tests.helpers.close import same_pixels
from tests.helpers.read import json_of
from util.data.mini import CLASS_NAMES
from util.engine import OUTLOOK, SHIPPED, load_engine
from util.files.mask_images import read_mask
from util.files.reading import read_json
from util.weights import checkpoint


def test_it_writes_mask_overlay_probability_and_numbers(
    predict, baseline: Path, example_texts: dict, photos: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--config", baseline, "--support", f"cat={example_texts['box']}", "--out", out]
    done = predict(*words, "--no-refine", "--query", photos[0], photos[1])
    assert ("2 of 2 photos" in done.output, "predict: " in done.errors, done.code) == (True, True, 0)
    segmenter = Segmenter([example_texts["box"]], config=baseline, decision=Decision(refine=False))
    for photo in photos[:2]:
        record = json_of(out / f"{photo.stem}.json")
        mask = read_mask(out / record["mask"])
        assert same_pixels(mask, segmenter(photo).mask)
        _check_result(out, record, mask, read_photo(photo).shape)
        assert (record["supports"], record["model"]) == ({"cat": [example_texts["box"]]}, "prototype baseline")
        assert f"{photo.stem}_overlay.jpg" in (out / "review.html").read_text()
    assert (len(list(out.iterdir())), (out / "summary.csv").exists()) == (10, True)
    shutil.copy(photos[2], out)  # beside pictures of results, which are no photos
    assert "1 of 1 photos" in predict(*words, "--query", out, "--out", tmp_path / "other").output
    example = predict(*words, "--resume", "--query", example_texts["box"].partition(":")[0])
    assert "1 of the photos are also examples" in example.errors and "also examples" not in done.errors


def _check_result(folder: Path, record: dict, mask: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Check the pictures and the numbers of the one class of a photo of a shape (H, W, 3)."""
    (cat,) = record["classes"]
    with Image.open(folder / record["overlay"]) as overlay:
        assert (overlay.height, overlay.width, 3) == shape
    assert (record["height"], record["width"], 3) == shape
    probability = np.asarray(Image.open(folder / cat["probability"]))
    inside = mask == 1
    assert np.array_equal(mask, probability > 255 / 2)
    assert (cat["name"], cat["value"], cat["pixels"]) == ("cat", 1, inside.sum())
    assert 0 < cat["share"] < 1
    x, y, width, height = cv2.boundingRect(mask)
    assert cat["box"] == [x, y, x + width, y + height]
    assert [cat["share"], cat["score"]] == pytest.approx([inside.mean(), probability[inside].mean() / 255], abs=2e-3)


def test_weights_without_a_config_predict_like_a_checkpoint_of_this_project(
    predict, make_checkpoint, mini_yaml, example_texts: dict, tmp_path: Path
) -> None:
    with_config, without = make_checkpoint("ssp"), tmp_path / "b.pth"
    torch.save({"state_dict": checkpoint.read(with_config).weights}, without)
    support = example_texts["box"]
    words = ("--support", support, "--query", support.partition(":")[0], "--out")
    assert predict("--checkpoint", with_config, *words, f"{tmp_path}/a").code == 0
    assert predict("--config", mini_yaml("ssp"), "--checkpoint", without, *words, f"{tmp_path}/b").code == 0
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*g")} for name in "ab")
    assert (len(a), a) == (3, b)
    assert "contains no config" in predict("--checkpoint", without, *words, f"{tmp_path}/c").error


def test_settings_of_a_training_are_those_of_its_prediction(make_checkpoint, mini_yaml) -> None:
    """Also where the config is named, as in a test."""
    given = make_checkpoint("ssp", "model.refine=false")
    for config in (None, mini_yaml("ssp")):
        assert load_engine(given, config, device="cpu").run.config.model.refine is False


@pytest.fixture
def resume(predict, baseline: Path, photos: list[Path], tmp_path: Path) -> Callable[..., str]:
    """Return a function that resumes a prediction of two photos and gives how many results were complete.

    The second is ``query.png``; words at the end may change the command.
    """
    words = ("--config", baseline, "--support", f"{photos[0]}:points=30,30", "--out", f"{tmp_path}/out", "--resume")

    def complete(*changed: object) -> str:
        done = predict(*words, "--query", photos[0], f"{tmp_path}/query.png", *changed)
        assert done.code == 0, done.errors
        return done.output.partition(" results are complete")[0].rpartition(": ")[2]

    return complete


def test_what_decides_a_result_is_compared(resume, example_texts: dict, photos: list[Path], tmp_path: Path) -> None:
    Image.open(photos[1]).save(tmp_path / "query.png")
    assert resume() == "0 of 2"
    others = (
        ("--support", f"{photos[0]}:points=9,9"),
        ("--set", "run.seed=5"),
        ("--resize", "81"),
        ("--support", example_texts["index"]),
        ("--set", "run.precision=bf16"),
    )
    for changed in others:
        assert resume(*changed) == resume() == "0 of 2"
    assert resume("--set", "run.precision=auto") == "2 of 2"  # whose predictions are in float32 on any processor
    assert read_json(tmp_path / "out/query.json", "", "")["precision"] == "float32"


def test_results_that_lack_or_are_damaged_are_resumed(resume, photos: list[Path], tmp_path: Path) -> None:
    out, query = tmp_path / "out", tmp_path / "query.png"
    Image.open(photos[1]).save(query)
    assert resume("--query", photos[0]) == "0 of 1"
    assert resume() == "1 of 2"
    assert resume() == "2 of 2"
    before = (out / f"{photos[0].stem}.json").stat().st_mtime_ns
    for name in ("query_mask.png", "query.json"):
        (out / name).write_bytes(b"")  # as a power cut leaves it
        assert resume() == "1 of 2"
        assert (out / f"{photos[0].stem}.json").stat().st_mtime_ns == before


def test_interrupted_results_are_listed(predict, baseline_words, photos, tmp_path, monkeypatch) -> None:
    write = Results.write

    def write_first(results: Results, prediction: Prediction, facts: dict) -> None:
        if prediction.photo != photos[0]:
            signal.raise_signal(signal.SIGINT)
        write(results, prediction, facts)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    monkeypatch.setattr(Results, "write", write_first)
    ended = predict(*baseline_words, "--query", *photos[:2], "--out", f"{tmp_path}/out")
    assert ended.code == 130 and "1 of 2 photos are done; --resume goes on" in ended.errors
    summary = (tmp_path / "out/summary.csv").read_text()
    assert str(photos[0]) in summary
    assert str(photos[1]) not in summary


def test_without_a_model_the_shipped_weights_are_taken_and_a_line_says_so(
    predict, example_texts: dict, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--support", example_texts["box"], "--resize", 97, "--device", "cpu")
    line, class_line, *rest = predict(*small, "--query", photos[0], "--out", "found").output.splitlines()
    assert line == "weights: those shipped, Pocket trained on the 20 classes of pascal"
    rule = "photos with a presence score below 30 % get no mask"
    assert re.fullmatch(rf"object: 1 example, the object covers \d+ % of it; {rule}", class_line)
    assert rest.count(OUTLOOK) == 1  # an object without a name may be any
    hidden = predict(*small, "--query", photos[0], "--out", "hidden", "--min-presence", 1).output
    assert "object was not found in 1 of 1 photos (presence score below 100 %)\n" in hidden
    record = json_of(Path("found", photos[0].stem + ".json"))
    assert (Path(record["checkpoint"]).name, record["settings"]["name"]) == (SHIPPED.name, "pocket")


@pytest.mark.parametrize(
    ("shares", "line"),
    [
        ((0.0712,), "1 example, the object covers 7.1 % of it"),
        ((0.0004,), f"1 example, the object covers 0.04 % of it, {DOUBT}"),
        ((0.91,), f"1 example, the object covers 91 % of it, {DOUBT}"),
        ((0.18, 0.14, 0.15), "3 examples, in which the object covers 14 to 18 % of the photo"),
        ((0.2, 0.0004), f"2 examples, in which the object covers 0.04 to 20 % of the photo, {DOUBT}"),
        ((0.2, 0.2), "2 examples, in which the object covers 20 % of the photo"),
    ],
)
def test_a_line_says_what_the_examples_show(shares: tuple[float, ...], line: str) -> None:
    assert coverage_of(shares) == line


def test_a_replaced_photo_is_predicted_again(predict, baseline_words, photos: list[Path], tmp_path: Path) -> None:
    """Its size and time are those of before; a photo of another time and the same content is not."""
    a, b = (Path(shutil.copy(photo, tmp_path / f"{name}.jpg")) for photo, name in zip(photos, "ab"))
    words = (*baseline_words, "--out", f"{tmp_path}/out", "--query", a, b)
    predict(*words)
    content = bytearray(a.read_bytes())
    content[-9] ^= 1
    overwrite(a, content)
    os.utime(b, ns=(0, 0))
    assert "1 of 2 results are complete" in predict(*words, "--resume").output
    assert "2 of 2 results are complete" in predict(*words, "--resume").output


@pytest.mark.parametrize("name", ["a.json", "summary.csv", "review.html"])
def test_files_of_other_programs_are_not_overwritten(
    predict, baseline_words, photos: list[Path], tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = (*baseline_words, "--out", out, "--query", shutil.copy(photos[0], tmp_path / "a.jpg"))
    (out / name).write_text('{"shapes": [], "imagePath": "a.jpg"}')
    assert f"{name}: was not written by this program" in predict(*words, "--resume").error
    assert (out / name).read_text().startswith('{"shapes"')
    assert len([*out.iterdir()]) == 1
    (out / name).unlink()
    assert (predict(*words).code, predict(*words, "--resume").code) == (0, 0)


def test_a_folder_of_results_of_another_class_is_refused(
    predict, baseline_words, example_texts: dict, photos: list[Path], tmp_path: Path
) -> None:
    words = (*baseline_words, "--out", f"{tmp_path}/out", "--query", photos[0], "--resume")
    assert predict(*words).code == 0
    other = predict(*words[:3], f"cup={example_texts['box']}", *words[4:]).error
    assert "is a result of the class 'object', which has no example; name another --out" in other
    assert predict(*words, "--support", f"cup={example_texts['box']}").code == 0  # a further one


def test_photos_and_supports_behind_links_are_found(predict, baseline: Path, photos, mini_root: Path, tmp_path) -> None:
    supports, queries = tmp_path / "supports", tmp_path / "queries"
    supports.mkdir()
    queries.mkdir()
    (supports / "names.txt").write_text("\n".join(CLASS_NAMES))
    (supports / "images").symlink_to(mini_root / "JPEGImages")
    (supports / "masks").symlink_to(mini_root / "SegmentationClassAug")
    store = tmp_path / "store"
    store.mkdir()
    for photo in photos:
        shutil.copy(photo, store)
    (store / "circle").symlink_to(store)
    for name in ("one", "two"):
        (queries / name).symlink_to(store)
    words = ("--config", baseline, "--supports", f"masks:{supports}", "--max-shots", 1, "--out", f"{tmp_path}/out")
    outcome = predict(*words, "--recursive", "--query", queries)
    assert outcome.code == 0 and "3 of 3 photos" in outcome.output, outcome.errors
    (queries / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    outcome = predict(*words, "--recursive", "--query", queries, "--resume")
    assert outcome.code == 2 and "1 could not be segmented" in outcome.output and "gone.jpg" in outcome.errors
