"""From marked photos to files: sizes, numbers, classes, tiles, shots, batches, text; the command equals the library."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests import spawned
from util.data.images import read_mask
from util.data.mini import CLASS_NAMES
from util.engine import checkpoint
from util.predict import Segmenter
from util.predict.photos import read_photo
from util.predict.prediction import Prediction
from util.predict.regions import Marking
from util.predict.supports import parse, read_support
from util.predict.tiles import OVERLAP, blend_weight, windows

SIXTEEN_BIT = 2**16 - 1
DEEP_STEM = "model.encoder.stem=deep"


def test_a_process_writes_mask_overlay_probability_and_numbers(baseline: Path, marked: dict, photos, tmp_path: Path):
    words = ["--config", baseline, "--support", marked["box"], "--name", "cat", "--query", photos[0], photos[1]]
    done = spawned.run("predict.py", *words, "--out", tmp_path / "out")
    assert "2 of 2 photos" in done.stdout and "predict: " in done.stderr
    for photo in photos[:2]:
        shape, stem = read_photo(photo).shape, photo.stem
        record = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
        mask = read_mask(tmp_path / "out" / record["mask"])
        overlay = cv2.imread(str(tmp_path / "out" / record["overlay"]))
        (cat,) = record["classes"]
        probability = cv2.imread(str(tmp_path / "out" / cat["probability"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == probability.shape == shape[:2] and overlay.shape == shape
        assert (record["height"], record["width"]) == shape[:2] and probability.dtype == np.uint16
        assert np.array_equal(mask == 1, probability > SIXTEEN_BIT / 2) and set(np.unique(mask)) <= {0, 1}
        assert (cat["name"], cat["value"], cat["pixels"]) == ("cat", 1, (mask == 1).sum())
        assert cat["share"] == pytest.approx(cat["pixels"] / mask.size, abs=1e-6) and 0 < cat["share"] < 1
        y, x = np.nonzero(mask)
        assert cat["box"] == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert cat["confidence"] == pytest.approx(probability[mask == 1].mean() / SIXTEEN_BIT, abs=1e-4)
        assert record["supports"] == {"cat": [marked["box"]]} and record["model"] == "prototype baseline"
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_the_command_equals_three_lines_of_python(predict, weights: Path, drawn_support: str, photos, tmp_path: Path):
    done = predict("--checkpoint", weights, "--support", drawn_support, "--query", *photos, "--out", tmp_path / "out")
    assert done.code == 0, done.errors
    assert f"{CLASS_NAMES[0]}: the text vector of mini's class" in done.output
    segmenter = Segmenter(weights, [drawn_support])
    for photo in photos:
        assert np.array_equal(segmenter(photo).mask, read_mask(tmp_path / "out" / f"{photo.stem}_mask.png"))


def test_a_turned_photo_gives_an_upright_mask(predict, baseline: Path, marked: dict, photos, tmp_path: Path) -> None:
    upright = read_photo(photos[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    common = ("--config", baseline, "--support", marked["box"], "--out", tmp_path / "out")
    assert predict(*common, "--query", photos[0], tmp_path / "turned.png").code == 0
    straight, turned = (read_mask(tmp_path / "out" / f"{n}_mask.png") for n in (photos[0].stem, "turned"))
    assert np.array_equal(straight, turned)


def test_classes_and_background_compete_for_each_pixel() -> None:
    margins = np.array([[[2.0, -1.0, 1.0, 3.0]], [[1.0, -2.0, 4.0, -1.0]]], np.float32)
    found = Prediction.of(np.zeros((1, 4, 3), np.uint8), ["cat", "dog"], margins)
    assert found.mask.tolist() == [[1, 0, 2, 1]]
    logits = torch.from_numpy(np.concatenate([0 * margins[:1], margins]))
    assert np.allclose(found.probability, logits.softmax(0)[1:].numpy())
    cat, dog = found.summary()
    assert (cat["pixels"], cat["box"], dog["pixels"], dog["share"]) == (2, [0, 0, 4, 1], 1, 0.25)
    nothing = Prediction.of(np.zeros((1, 4, 3), np.uint8), ["cat"], 0 * margins[:1] - 1)
    assert nothing.summary()[0]["box"] is None and nothing.summary()[0]["confidence"] is None
    huge = Prediction.of(np.zeros((1, 4, 3), np.uint8), ["cat", "dog"], 1e4 * margins)
    assert np.isfinite(huge.probability).all()


def test_several_classes_in_one_go(predict, baseline: Path, marked: dict, photos, tmp_path: Path) -> None:
    supports = ("--support", f"cat={marked['box']}", "--support", f"big dog={marked['polygon']}")
    out = tmp_path / "out"
    assert predict("--config", baseline, *supports, "--query", photos[0], "--out", out).code == 0
    record = json.loads((out / f"{photos[0].stem}.json").read_text())
    assert [(c["name"], c["value"]) for c in record["classes"]] == [("cat", 1), ("big dog", 2)]
    assert (out / f"{photos[0].stem}_probability_big_dog.png").exists()
    one = Segmenter(config=baseline, supports=[marked["box"]])(photos[0])
    two = Segmenter(config=baseline, supports=[f"cat={marked['box']}", f"dog={marked['polygon']}"])(photos[0])
    assert np.array_equal(two.mask, one.mask)  # twice the same class: the first wins


# --- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "tile"), [((50, 60), 64), ((200, 130), 64), ((65, 64), 64), ((64, 1000), 33)])
def test_tiles_cover_the_photo_and_overlap(shape: tuple[int, int], tile: int) -> None:
    cover = np.zeros(shape)
    for rows, columns in windows(shape, tile):
        assert rows.stop - rows.start <= tile and columns.stop - columns.start <= tile
        cover[rows, columns] += blend_weight((rows.stop - rows.start, columns.stop - columns.start))
    assert cover.min() > 0
    for axis in (0, 1):
        spans = sorted({(w[axis].start, w[axis].stop) for w in windows(shape, tile)})
        assert all(a[1] - b[0] >= OVERLAP * tile - 1 for a, b in itertools.pairwise(spans))


def test_one_tile_is_the_whole_photo(baseline: Path, marked: dict, photos) -> None:
    whole, tiled = (Segmenter(config=baseline, supports=[marked["box"]], tile=t)(photos[0]) for t in (None, 64))
    assert np.array_equal(whole.probability, tiled.probability)


def test_tiles_of_a_local_answer_give_the_whole_photos(baseline: Path, marked: dict, monkeypatch) -> None:
    """Where the answer at a pixel depends on that pixel's brightness alone, tiles change nothing but the resizing."""
    monkeypatch.setattr(Segmenter, "margins", lambda self, query: query.mean(1, keepdim=True) / 50 - 2)
    y, x = np.mgrid[:150, :180] / 20
    photo = np.repeat((120 + 80 * np.sin(y) * np.cos(x))[..., None], 3, 2).astype(np.uint8)
    whole, tiled = (Segmenter(config=baseline, supports=[marked["box"]], tile=t)(photo) for t in (None, 48))
    assert (whole.mask == tiled.mask).mean() > 0.95 and 0.2 < whole.mask.mean() < 0.8
    assert np.abs(whole.probability - tiled.probability).mean() < 0.02


# --- supports --------------------------------------------------------------------------------------------------------


def test_supports_are_encoded_once_and_queries_in_batches(weights: Path, drawn_support: str, photos) -> None:
    segmenter = Segmenter(weights)
    passes: list[int] = []
    segmenter.model.network.encoder.register_forward_pre_hook(lambda _, images: passes.append(len(images[0])))
    segmenter.add("cat", [read_support(parse(drawn_support), None, Marking())] * 3)
    assert passes == [1, 1, 1]  # Sym-Net of one shot sees them one at a time
    passes.clear()
    assert len(list(segmenter.many(photos, batch=4))) == len(photos)
    assert passes == [4, 4, 4, 2, 2, 2]  # nothing but queries, beside each of the three


@pytest.mark.parametrize("batch", [1, 2, 6])
def test_batches_change_nothing(baseline: Path, marked: dict, photos, batch: int) -> None:
    segmenter = Segmenter(config=baseline, supports=[marked["box"]])
    for photo, found in zip(photos, segmenter.many(photos, batch), strict=True):
        assert np.allclose(found.probability, segmenter(photo).probability, atol=1e-4)


def test_a_model_of_one_shot_averages_the_logits_of_its_supports(weights: Path, mini_root: Path, photos) -> None:
    masks = mini_root / "SegmentationClassAug"
    pair = [f"cat={p}:{masks / p.stem}.png" for p in photos[:2]]
    query = torch.rand(2, 3, 33, 33) * 255
    alone = [Segmenter(weights, [text]).margins(query) for text in pair]
    both = Segmenter(weights, pair).margins(query)
    assert torch.allclose(both, (alone[0] + alone[1]) / 2, atol=1e-4)


@pytest.mark.parametrize("model", ["ssp", "dcama"])
def test_a_model_of_any_number_of_shots_sees_them_together(make_checkpoint, model: str, mini_root: Path, photos):
    masks = mini_root / "SegmentationClassAug"
    segmenter = Segmenter(make_checkpoint(model), [f"cat={p}:{masks / p.stem}.png" for p in photos[:3]])
    (sought,) = segmenter.classes
    assert [batch.image.shape[1] for batch in sought.batches] == [3]
    assert segmenter(photos[3]).mask.shape == read_photo(photos[3]).shape[:2]


def test_arrays_are_supports_and_queries_too(weights: Path, drawn_support: str, photos, mini_root: Path) -> None:
    photo, mask = drawn_support.partition("=")[2].rsplit(":", 1)
    pair = read_photo(Path(photo)), read_mask(Path(mask)) > 0
    from_files, from_arrays = Segmenter(weights, [drawn_support]), Segmenter(weights, [pair], CLASS_NAMES[0])
    image = read_photo(photos[1])
    assert np.array_equal(from_files(photos[1]).probability, from_arrays(image).probability)


# --- text ------------------------------------------------------------------------------------------------------------


def test_a_name_gives_its_vector_and_says_which(predict, weights: Path, drawn_support: str, photos, tmp_path: Path):
    support = drawn_support.partition("=")[2]
    words = tmp_path / "words.txt"
    rows = {"background": np.eye(300)[0], "cat": np.eye(300)[1], "dog": 2 * np.eye(300)[2]}
    words.write_text("".join(f"{w} {' '.join(map(str, row))}\n" for w, row in rows.items()))
    table = Segmenter(weights).model.context.vectors
    cases = {
        CLASS_NAMES[2]: (table[3], "the text vector of mini's class"),
        CLASS_NAMES[2].upper(): (table[3], "the text vector of mini's class"),
        "dog": (np.eye(300)[2], f"dog: the text vector of {words}"),
        "horse": (table[1:].mean(0), f"none of mini's classes, and {words} has no word for it: the mean of their"),
        None: (table[1:].mean(0), "has no name and is none of mini's classes: the mean of their"),
    }
    for name, (want, note) in cases.items():
        segmenter = Segmenter(weights, [support], name, vectors=words)
        assert np.allclose(segmenter.classes[0].meaning.vector, want, atol=1e-6), name
        assert note in segmenter.notes[0]
    assert Segmenter(weights, [support], "horse").notes[0].endswith("--name one of them, or --vectors FILE")


def test_a_model_that_reads_no_text_ignores_names(baseline: Path, marked: dict, photos) -> None:
    one, two = (Segmenter(config=baseline, supports=[marked["box"]], name=n) for n in ("cat", None))
    assert not one.notes and np.array_equal(one(photos[0]).probability, two(photos[0]).probability)


def test_another_side_and_another_output(weights: Path, drawn_support: str, photos) -> None:
    shapes = {Segmenter(weights, [drawn_support], side=side)(photos[0]).mask.shape for side in (None, 41, 65)}
    assert shapes == {read_photo(photos[0]).shape[:2]}
    final, meta = (Segmenter(weights, [drawn_support], output=o)(photos[0]).probability for o in ("final", "meta"))
    assert not np.array_equal(final, meta)


def test_an_authors_checkpoint_predicts_what_the_same_weights_of_ours_do(
    predict, make_checkpoint, marked: dict, photos, tmp_path: Path
) -> None:
    ours, deep = make_checkpoint("ssp", DEEP_STEM), ("--set", DEEP_STEM)
    state = {_published(name): tensor for name, tensor in checkpoint.read(ours)["weights"].items()}
    torch.save({"state_dict": state}, tmp_path / "authors.pth")
    words = ("--support", marked["box"], "--query", photos[0], "--out")
    assert predict("--checkpoint", ours, *words, tmp_path / "a").code == 0
    told = ("--config", tmp_path / "tiny.yaml", *deep, "--checkpoint", tmp_path / "authors.pth")
    assert predict(*told, *words, tmp_path / "b").code == 0
    names = [p.name for p in (tmp_path / "a").glob("*.png")]
    assert len(names) == 3 and all(
        (tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names
    )
    assert "carries no config" in predict("--checkpoint", tmp_path / "authors.pth", *words, tmp_path / "c").error


def _published(name: str) -> str:
    """Return what SSP's authors call a tensor of its encoder with the deep stem."""
    name = name.removeprefix("encoder.")
    return (
        name.replace("layer0.7.", "layer0.1.") if name.startswith("layer0.7.") else name.replace("layer0.", "layer0.0.")
    )
