"""The evaluation views, on a real photo that is not square: the network's input, and the scored label."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from model.episode import Output
from util.config.read import read_config
from util.data.images.read import read_image, read_mask
from util.data.images.views import View
from util.evaluate.evaluate import Scoreboard
from util.run import data as run_data
from util.run.context import make_run_context
from util.run.input_size import in_words, view_of


@pytest.fixture(scope="module")
def photo(shared) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo of 500 x 375 or the like and its mask, from the data set of real photos."""
    root = shared / "data" / "VOC2012"
    names = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    for name in names:
        image, classes = (
            read_image(root / f"JPEGImages/{name}.jpg"),
            read_mask(root / f"SegmentationClassAug/{name}.png"),
        )
        if classes.shape[0] < classes.shape[1] and len(np.unique(classes)) >= 3:
            return image, np.array(classes)
    raise AssertionError("no photo with two values beside background")


def test_hsnet_squeezes_photo_and_label_to_400(photo):
    """Recounts every label row by row from the rule floor(i * old / 400)."""
    image, classes = photo
    assert classes.shape[0] != classes.shape[1]
    seen, sized = View("stretch", 400, 400, smooth=True).apply(image, classes)
    assert seen.shape == (400, 400, 3) and seen.dtype == np.float32
    assert np.array_equal(seen, np.asarray(Image.fromarray(image).resize((400, 400), Image.BILINEAR), np.float32))
    height, width = classes.shape
    expected = np.array([[classes[i * height // 400, j * width // 400] for j in range(400)] for i in range(400)])
    assert np.array_equal(sized, expected)
    scored = View("stretch", 401, 400, smooth=True).scored(classes, "letterbox")
    assert np.array_equal(scored, expected)  # also where a model could only take 401
    assert set(np.unique(scored)) <= set(np.unique(classes)) and 255 in scored


def test_bam_scores_the_original_label_at_the_top_left_of_a_square(photo):
    image, classes = photo
    height, width = classes.shape
    view = View("letterbox", 473, 473)
    scored = view.scored(classes, "square")
    assert scored.shape == (width, width)  # the longer side
    assert np.array_equal(scored[:height], classes) and (scored[height:] == 255).all()
    seen, _ = view.apply(image, classes)
    assert seen.shape == (473, 473, 3) and not seen[int(height * 473 / width) :].any()  # padded below


@pytest.mark.parametrize(
    ("view", "scored_on"),
    [
        (View("letterbox", 89, 89), "letterbox"),
        (View("letterbox", 89, 89), "square"),
        (View("stretch", 89, 400), "letterbox"),
        (View("stretch", 89, 89), "original"),
    ],
)
def test_a_scored_map_is_counted_on_the_label_a_person_would_expect(photo, mini_yaml, view: View, scored_on: str):
    """A prediction that is the input label itself, resized back, must agree with the scored label almost everywhere."""
    image, classes = photo
    label = np.where(classes == 255, 255, (classes > 0).astype(np.uint8)).astype(np.uint8)
    _, small = view.apply(image, label)
    foreground = torch.from_numpy((small == 1).astype(np.float32))[None]
    logits = torch.stack([1 - foreground, foreground], dim=1)
    target = view.scored(label, scored_on)

    batch = SimpleNamespace(
        label={scored_on: [torch.from_numpy(target)]},
        base_label={},
        ways=[SimpleNamespace(class_id=torch.tensor([2]))],
    )
    board = Scoreboard(3, scored_on)
    board.add([0], batch, Output(logits))
    _, _, intersection, union, *_ = board.records["final"][0][0].tolist()
    assert intersection / union > 0.75  # image and label are laid out alike


@pytest.mark.parametrize(
    ("name", "model", "rule", "side", "label_side"),
    [
        ("symnet", "symnet", "letterbox", 473, 473),
        ("bam", "symnet", "letterbox", 473, 473),
        ("hsnet", "symnet", "stretch", 401, 400),
        ("dcama", "symnet", "stretch", 385, 384),
        ("hdmnet", "symnet", "stretch", 473, 473),
        ("ssp", "symnet", "letterbox", 473, 473),
        ("ssp", "prototype", "original", 0, 0),
    ],
)
def test_every_protocol_finds_a_size_that_the_model_takes(name: str, model: str, rule: str, side: int, label_side: int):
    stem = {"symnet": "pascal_split0_resnet50", "prototype": "pascal_split0_prototype_resnet50"}[model]
    config = read_config(f"config/pascal/{stem}.yaml")
    view = view_of(config, config.protocols[name])
    assert (view.rule, view.side, view.label_side) == (rule, side, label_side)
    words = in_words(config, config.protocols[name], view)
    assert ("does not take" in words) == (side != label_side)
    assert ("takes no images" in words) == (name == "ssp" and rule == "letterbox")


def test_a_model_whose_settings_fix_the_size_keeps_its_own(monkeypatch):
    config = read_config("config/coco/coco_split0_resnet50.yaml")  # decoder scales of 641 pixels
    assert view_of(config, config.protocols["hsnet"]).side == 641


def test_original_sizes_reach_the_model_one_by_one(mini_yaml):
    encoder = {"backbone": "resnet10_narrow", "weights": None}
    path = mini_yaml("mini_split0_prototype_resnet10.yaml", model={"encoder": encoder})
    context = make_run_context(read_config(path, ["data.shot=2"]))
    protocol = context.config.protocols["ssp"]
    sampler = run_data.protocol_sampler(context, run_data.images_for_test(context, False), protocol, 0)
    trials = run_data.trials(context, sampler, view_of(context.config, protocol), ("original",))
    assert trials.one_by_one
    for number in range(8):
        trial, key = trials[number], sampler(number)
        shapes = [Image.open(sampler.images.index.masks[r]).size[::-1] for r in (key.query, *key.supports)]
        found = [trial.episode.query, *trial.episode.support]
        assert [tuple(x.shape[1:]) for x in found] == shapes
        assert tuple(trial.label["original"][0].shape) == shapes[0]
