"""Tests of the torch data sets: shapes, types and values of episodes and labelled images, and how they are batched."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.episode import Modality
from tests.data.drawn import IGNORE
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import AugmentSettings
from util.data.augmentation import warp_training
from util.data.episodes import EpisodeDataset, LabelledDataset
from util.data.lists.image_list import ImageList
from util.data.mini import CLASS_NAMES
from util.data.modalities import Source
from util.data.sampling import AUGMENT, EpisodeSampler, random_stream
from util.data.views import View
from util.data.words.text import name_vectors
from util.files.errors import UserError
from util.files.images import read_image
from util.files.mask_images import read_mask
from util.run.data import meta_stage_data
from util.run.run import Run

SIZE = 65  # mini's photos have a longer side of 64: a crop of 65 holds all of each
MEAN_RGB = (124, 116, 104)
STILL = AugmentSettings(scale=[1, 1], changes=[], keep_target=0.85)
FOLD = 3  # tests classes 7 and 8: class 1 and class 5 are base classes with ids 1 and 5


@pytest.fixture(scope="module")
def lists(mini_lists) -> tuple[Fold, ImageList, ImageList]:
    """Return the fold that the tests look at, its training list, whose images may show novel classes, and test list."""
    return mini_lists(fold=FOLD)


def _episodes(images: ImageList, fold: Fold, augment: AugmentSettings | None, shots: int = 3, **options):
    query = "sequential" if augment is None else "shuffle"
    return EpisodeDataset(
        EpisodeSampler(images, query, shots, 0), fold, View("letterbox", SIZE, SIZE), augment, **options
    )


def _views(images: ImageList, row: int) -> tuple[np.ndarray, np.ndarray]:
    return read_image(images.index.images[row]), read_mask(images.index.masks[row])


def _binary(classes: np.ndarray, class_id: int) -> np.ndarray:
    return np.where(classes == IGNORE, IGNORE, classes == class_id).astype(np.uint8)


def _centred(values: np.ndarray, fill: int | tuple[int, int, int]) -> np.ndarray:
    """Return a crop larger than the image: the image in its middle, padding around."""
    out = np.empty((SIZE, SIZE, *values.shape[2:]), np.uint8)
    out[:] = fill
    top, left = ((SIZE - side) // 2 for side in values.shape[:2])
    out[top : top + values.shape[0], left : left + values.shape[1]] = values
    return out


@pytest.mark.parametrize("part", [1, 2], ids=["train", "novel"])
def test_evaluation_episode_equals_the_files(lists, part: int) -> None:
    fold = lists[0]
    images = lists[part]
    vectors = name_vectors(list(CLASS_NAMES))
    dataset = _episodes(images, fold, None, vectors=vectors, base_labels=True)
    for number in range(len(images.queries) // 2):
        key = dataset.sampler(number)
        episode = dataset[number]
        shown = [(episode.query, episode.query_label), *zip(episode.support, episode.support_label, strict=True)]
        for row, (image, label) in zip(key.rows, shown, strict=True):
            photo, classes = _letterboxed(images, row)
            assert torch.equal(image, torch.from_numpy(photo.transpose(2, 0, 1)))
            assert (label.numpy() == _binary(classes, key.class_id)).all()
        _, classes = _letterboxed(images, key.query)
        assert (episode.query_base_label.numpy() == fold.base_table[classes]).all()
        assert (episode.class_id, episode.base_id) == (key.class_id, fold.base_table[key.class_id])
        assert (episode.text.numpy() == vectors[key.class_id]).all()


def _letterboxed(images: ImageList, row: int) -> tuple[np.ndarray, np.ndarray]:
    return View("letterbox", SIZE, SIZE).apply(*_views(images, row))


def test_training_view_without_any_change_keeps_every_class_id(lists) -> None:
    fold, train, _ = lists
    dataset = _episodes(train, fold, STILL, shots=1, base_labels=True)
    shown_values = set()
    for number in range(60):
        key = dataset.sampler(number)
        episode = dataset[number]
        photo, classes = _views(train, key.query)
        shown_values.update(np.unique(classes).tolist())
        assert (episode.query.numpy() == _centred(photo, MEAN_RGB).transpose(2, 0, 1)).all()
        assert (episode.query_label.numpy() == _centred(_binary(classes, key.class_id), IGNORE)).all()
        assert (episode.query_base_label.numpy() == _centred(fold.base_table[classes], IGNORE)).all()
        _, classes = _views(train, key.supports[0])
        assert (episode.support_label[0].numpy() == _centred(_binary(classes, key.class_id), IGNORE)).all()
    assert len(shown_values) >= 3


def test_a_crop_keeps_the_class_of_its_episode(lists) -> None:
    """Photos are larger than the side, so that crops are drawn again."""
    fold, train, _ = lists
    dataset = EpisodeDataset(
        EpisodeSampler(train, "shuffle", 1, 0), fold, View("letterbox", SIZE // 2, SIZE // 2), STILL
    )
    for number in range(20):
        key = dataset.sampler(number)
        views = []
        for target in (key.class_id, 1):
            random = random_stream(0, AUGMENT, number, 0)
            image, _, _ = warp_training(train.index.stacked(key.query), SIZE // 2, STILL, random, target)
            views.append(image)
        assert (dataset[number].query.numpy() == views[0]).all()
        if key.class_id > 1 and (views[0] != views[1]).any():
            return
    pytest.fail("no crop was drawn again")


def test_query_and_supports_are_augmented_independently(lists) -> None:
    fold, train, _ = lists
    dataset = _episodes(train, fold, AugmentSettings(scale=[1, 1], changes=["flip"]), shots=2)
    flips = []
    for number in range(60):
        key = dataset.sampler(number)
        flips.append(tuple(dataset._view(row, key, slot).view.warp.flipped for slot, row in enumerate(key.rows)))
    share = np.mean(flips, axis=0)
    assert (share > 0.25).all() and (share < 0.75).all()
    assert len(set(flips)) == 8  # every combination occurs


def test_a_labelled_image_is_augmented_by_seed_and_number_alone(lists) -> None:
    fold, train, _ = lists
    of_one = replace(train, queries=train.queries[:1])
    datasets = [LabelledDataset(of_one, fold, SIZE // 2, seed, STILL) for seed in (1, 2, 1)]
    assert len({dataset[number].image.numpy().tobytes() for dataset in datasets for number in (0, 1)}) == 4


REFUSED_SOURCES = {
    r"beside the colours of photos such as .*jpg; name a .* data.modalities: \{red: SOURCE\}": None,
    r"red: that of .*jpg is no array of finite numbers of shape .* but \(1,\)": lambda *_: None,
    r"of shape \(1, \d+, \d+\) .*, but \(1, 2, 3\)": lambda *_: np.ones((2, 3)),
    "failed: SystemExit: 3": lambda *_: sys.exit(3),
}


@pytest.mark.parametrize("fit", ["crop", "stretch", None])
def test_what_accompanies_a_photo_is_cut_as_the_photo_and_its_label(lists, fit: str | None) -> None:
    """A modality of interpolated values is the photo's red, one of sampled values its mask; in evaluation, too."""
    fold, train, _ = lists
    masks = dict(zip(train.index.images, train.index.masks, strict=True))
    red = Source("red", Modality(padding=MEAN_RGB[0] if fit else 0), lambda photo, _: read_image(photo)[..., 0])
    mask = Source("mask", Modality(nearest=True, padding=IGNORE), lambda photo, c: _binary(read_mask(masks[photo]), c))
    augment = AugmentSettings(scale=[0.5, 1.5], changes=["rotate", "flip"], fit=fit) if fit else None
    dataset = _episodes(train, fold, augment, sources=[red, mask])
    for episode in (dataset[number] for number in range(20)):
        supports = zip(episode.support, episode.support_label, episode.support_modalities, strict=True)
        for image, label, beside in [(episode.query, episode.query_label, episode.modalities), *supports]:
            assert torch.equal(beside["mask"][0].byte(), label)
            torch.testing.assert_close(beside["red"][0], image[0].float(), rtol=0, atol=2)  # of bytes, rounded twice
    for said, read in REFUSED_SOURCES.items():
        with pytest.raises(UserError, match=said):
            Source("red", Modality(), read).planes(train.index, 0, 1)


@pytest.mark.parametrize(("classes", "is_spared"), [("base", True), ("null", False)], ids=["base", "novel"])
def test_a_class_is_spared_in_a_validation_on_base_classes_alone(mini_yaml, classes: str, is_spared: bool) -> None:
    """Which take turns; other episodes have the protocol's draw and order of supports."""
    run = Run(read_config(mini_yaml("bam"), [f"meta_stage.validate_on={classes}", "data.shot=2", "test.protocol=bam"]))
    trials = meta_stage_data(run, progress=False).validation
    for number in range(8):
        episode = trials[number].episode
        key = trials.sampler(number)
        assert trials[number].rows == [(key.query, *key.supports[:: 1 if is_spared else -1])]
        assert episode.base_id == (number % len(run.fold.base) + 1 if is_spared else 0)
        assert episode.spared_class == (episode.base_id if is_spared else None)
