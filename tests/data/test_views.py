"""The evaluation views: equal to the measured ones and to the written rules; network's input and scored label."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from model.episode import Output
from model.tensors.ops import normalise
from tests.data.drawn import drawn_label, noise, seeded
from tests.helpers.read import config_of
from util.config.read import read_config
from util.data.views import RULES, View
from util.files.images import read_image
from util.files.mask_images import read_mask
from util.loop.score import Scoreboard
from util.run import data as run_data
from util.run.input_size import input_in_words, view_of
from util.run.run import Run


@pytest.fixture(scope="module")
def photo() -> tuple[np.ndarray, np.ndarray]:
    """Return a photo and its mask."""
    return noise(375, 500), cv2.medianBlur(drawn_label(375, 500), 31)


@pytest.mark.parametrize("size", [97, 473])
@pytest.mark.parametrize("tag", ["landscape", "portrait"])
def test_evaluation_view_equals_the_measured_one(shared: Path, tag: str, size: int) -> None:
    with np.load(shared / "parity/eval_transform.npz") as measured:
        name = measured[f"{tag}_{size}_id"]
        expected_label = measured[f"{tag}_{size}_label"]
        expected_image = measured[f"{tag}_{size}_image"]
    root = shared / "data/VOC2012"
    photo = read_image(root / f"JPEGImages/{name}.jpg")
    classes = read_mask(root / f"SegmentationClassAug/{name}.png")
    assert (photo.shape[0] < photo.shape[1]) == (tag == "landscape")
    boxed, label = View("letterbox", size, size).apply(photo, classes)
    assert (label == expected_label).all()
    image = normalise(torch.from_numpy(boxed.transpose(2, 0, 1))).numpy()
    step = 8 if size == 473 else 1  # the larger one is stored in part
    assert np.abs(image[:, ::step, ::step] - expected_image).max() <= 1e-4


def test_evaluation_view_follows_the_written_rule() -> None:
    for seed in range(8):
        height, width, size = seeded(seed).integers((20, 20, 40), (120, 120, 100)).tolist()
        image = noise(height, width, seed)
        label = drawn_label(height, width, seed=seed)
        boxed = View("letterbox", size, size).apply(image, label)
        tall, wide = (side * size // max(height, width) // 8 * 8 for side in (height, width))
        boxed_image, boxed_label = (x[:tall, :wide] for x in boxed)
        assert np.array_equal(boxed_label, _nearest(label, tall, wide))
        planes = torch.from_numpy(image).movedim(2, 0).double()
        (expected,) = F.interpolate(planes[None], (tall, wide), mode="bilinear")
        np.testing.assert_allclose(boxed_image, expected.movedim(0, 2), atol=1e-2)
    assert View("letterbox", 64, 64).shown((255, 256)) == (56, 64)  # of 63.75 rows


def _nearest(classes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a map of class ids in another size by the rule floor(i * old / new)."""
    rows = np.arange(height) * len(classes) // height
    return classes[rows][:, np.arange(width) * classes.shape[1] // width]


def test_hsnet_squeezes_photo_and_label_to_400(photo) -> None:
    image, classes = photo
    squeezed_image, squeezed_label = View("stretch", 400, 400, smooth=True).apply(image, classes)
    expected = Image.fromarray(image).resize((400, 400), Image.BILINEAR)
    assert np.array_equal(squeezed_image, np.asarray(expected, np.float32))
    assert squeezed_image.dtype == np.float32
    scored = View("stretch", 401, 400, smooth=True).scored(classes, "letterbox")  # of a model that takes 401 alone
    for label in (squeezed_label, scored):
        assert np.array_equal(label, _nearest(classes, 400, 400))
    assert 255 in scored


def test_a_row_of_a_stretched_label_is_the_floor() -> None:
    """Row 9 is row 9 * 22 / 18 = 11, for which OpenCV's nearest neighbour takes row 10."""
    label = View("stretch", 18, 18).label(np.arange(22, dtype=np.uint8)[:, None], 18)
    assert label[:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15, 17, 18, 19, 20]


def test_bam_scores_in_a_square(photo) -> None:
    """So does every protocol of original sizes whose input is a letterbox."""
    _, classes = photo
    height, width = classes.shape
    view = View("letterbox", 473, 473)
    assert view.label_kind("original") == "square"
    scored = view.scored(classes, "square")
    assert scored.shape == (width, width)  # the longer side
    assert np.array_equal(scored[:height], classes)
    assert (scored[height:] == 255).all()


def test_a_further_rule_is_an_entry_of_the_table(monkeypatch: pytest.MonkeyPatch, photo) -> None:
    monkeypatch.setitem(RULES, "narrow", lambda shape, side: (side, side // 2))
    view = View("narrow", 40, 40)
    image, label = view.apply(*photo)
    assert np.array_equal(image[:, :20], cv2.resize(photo[0].astype(np.float32), (20, 40)))
    assert not image[:, 20:].any()
    assert (label[:, 20:] == 255).all()
    expected = cv2.resize(label[:, :20].copy(), (500, 375), interpolation=cv2.INTER_NEAREST)
    assert np.array_equal(view.back(label, (375, 500), view.rule), expected)


@pytest.mark.parametrize(
    ("view", "scored_on"),
    [
        (View("letterbox", 89, 89), "letterbox"),
        (View("letterbox", 89, 89), "square"),
        (View("stretch", 89, 400), "letterbox"),
        (View("stretch", 89, 89), "original"),
    ],
)
def test_a_scored_map_is_counted_on_the_label_a_person_would_expect(photo, view: View, scored_on: str):
    """A prediction that is the input label itself, resized back, must agree with the scored label almost everywhere."""
    image, classes = photo
    label = np.where(classes == 255, 255, classes > 0).astype(np.uint8)
    _, seen = view.apply(image, label)
    foreground = torch.from_numpy(seen == 1).float()
    target = torch.from_numpy(view.scored(label, scored_on))
    ways = [SimpleNamespace(class_id=torch.tensor([2]))]
    board = Scoreboard(3)
    batch = SimpleNamespace(label=[target], base_label=[], class_map=[target], ways=ways)
    board.add([0], batch, Output(torch.stack([1 - foreground, foreground])[None]))
    ((_, _, intersection, union, *_),) = board.records["final"][0].tolist()
    assert intersection / union > 0.75  # image and label are laid out alike


@pytest.mark.parametrize(
    ("dataset", "name", "model", "sizes"),
    [
        ("pascal", "symnet", "symnet", ("letterbox", 473, 473)),
        ("pascal", "hsnet", "symnet", ("stretch", 401, 400)),
        ("coco", "hsnet", "symnet", ("stretch", 641, 400)),  # of decoder scales for 641 pixels
        ("pascal", "dcama", "symnet", ("stretch", 385, 384)),
        ("pascal", "hdmnet", "symnet", ("stretch", 473, 473)),
        ("pascal", "ssp", "symnet", ("letterbox", 473, 473)),
        ("pascal", "ssp", "prototype", ("original", 0, 0)),
    ],
)
def test_every_protocol_finds_a_size_that_the_model_takes(dataset: str, name: str, model: str, sizes: tuple) -> None:
    rule, side, label_side = sizes
    config = config_of("split0", dataset, model, "resnet50")
    view = view_of(config, config.protocols[name])
    assert (view.rule, view.side, view.label_side) == sizes
    words = input_in_words(view, config.protocols[name].input, config.protocols[name].scored_on)
    assert ("does not take" in words) == (side != label_side)
    assert ("takes no images" in words) == (name == "ssp" and rule == "letterbox")


def test_original_sizes_reach_the_model_one_by_one(mini_yaml):
    run = Run(read_config(mini_yaml("prototype"), ["data.shot=2"]))
    protocol = run.config.protocols["ssp"]
    sampler = run_data.protocol_sampler(run, run_data.images_for_test(run, False), protocol, 0)
    trials = run_data.trials(run, sampler, view_of(run.config, protocol), "original")
    assert trials.one_by_one
    for number in range(8):
        trial = trials[number]
        shapes = [read_mask(sampler.images.index.masks[row]).shape for row in sampler(number).rows]
        for image, shape in zip((trial.episode.query, *trial.episode.support), shapes, strict=True):
            assert image.shape[1:] == shape
        assert trial.label[0].shape == shapes[0]
