"""A plain implementation of training episodes: decode every image, then one pass over the float image per change."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.common.ops import IMAGENET_MEAN, IMAGENET_STD, PIXEL_MAX
from model.episode import IGNORE
from util.config.settings import AugmentSettings
from util.data.episodes import EpisodeDataset
from util.data.images import read_mask
from util.data.sampling import AUGMENT, random_stream
from util.data.warp import BLUR_KERNEL, MEAN_RGB

Pair = tuple[np.ndarray, np.ndarray]  # photo (H, W, 3) float32, class ids (H, W)


class NaiveEpisodes(Dataset):
    """The episodes of a data set of ours, by separate augmentations in place of one warp, normalised as floats."""

    def __init__(self, ours: EpisodeDataset):
        self.ours = ours

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        key = self.ours.sampler(number)
        views = []
        for slot, row in enumerate((key.query, *key.supports)):
            random = random_stream(self.ours.sampler.seed, AUGMENT, number, slot)
            views.append(self._view(row, key.class_id, random))
        (query, query_classes), *supports = views
        return {
            "query": _tensor(query),
            "query_label": _binary(query_classes, key.class_id),
            "query_base_label": self._base_label(query_classes),
            "support": torch.stack([_tensor(image) for image, _ in supports]),
            "support_label": torch.stack([_binary(classes, key.class_id) for _, classes in supports]),
        }

    def _view(self, row: int, class_id: int, random: np.random.Generator) -> Pair:
        index, augment = self.ours.sampler.images.index, self.ours.augment
        assert augment is not None
        image = cv2.imread(str(index.images[row]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        assert image is not None
        pair: Pair = (cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.float32), read_mask(index.masks[row]))
        pair = _scaled(pair, random.uniform(augment.scale[0], augment.scale[1]))
        if random.random() < augment.rotate_probability:
            pair = _rotated(pair, random.uniform(-augment.rotate, augment.rotate))
        if random.random() < augment.blur_probability:
            pair = cv2.GaussianBlur(pair[0], BLUR_KERNEL, 0), pair[1]
        if random.random() < augment.flip_probability:
            pair = cv2.flip(pair[0], 1), cv2.flip(pair[1], 1)
        return _cropped(_padded(pair, self.ours.size), self.ours.size, class_id, augment, random)

    def _base_label(self, classes: np.ndarray) -> Tensor:
        out = np.zeros_like(classes)
        for channel, base_class in enumerate(self.ours.fold.base, 1):
            out[classes == base_class] = channel
        out[classes == IGNORE] = IGNORE
        return torch.from_numpy(out)


def _scaled(pair: Pair, factor: float) -> Pair:
    image, classes = pair
    return (
        cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR),
        cv2.resize(classes, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST),
    )


def _rotated(pair: Pair, angle: float) -> Pair:
    image, classes = pair
    height, width = classes.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    return (
        cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderValue=MEAN_RGB),
        cv2.warpAffine(classes, turn, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE),
    )


def _padded(pair: Pair, size: int) -> Pair:
    image, classes = pair
    missing = [max(size - side, 0) for side in classes.shape]
    top, left = (n // 2 for n in missing)
    bottom, right = missing[0] - top, missing[1] - left
    return (
        cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=MEAN_RGB),
        cv2.copyMakeBorder(classes, top, bottom, left, right, cv2.BORDER_CONSTANT, value=IGNORE),
    )


def _cropped(pair: Pair, size: int, class_id: int, augment: AugmentSettings, random: np.random.Generator) -> Pair:
    """Return a random crop, drawn again up to ``keep_tries`` times while it keeps too little of the class."""
    image, classes = pair
    wanted = augment.keep_target * (classes == class_id).sum()
    for _ in range(augment.keep_tries):
        top, left = (int(random.integers(0, side - size + 1)) for side in classes.shape)
        crop = classes[top : top + size, left : left + size]
        if (crop == class_id).sum() >= wanted:
            break
    return image[top : top + size, left : left + size], crop


def _tensor(image: np.ndarray) -> Tensor:
    """Return the normalised image, (3, S, S) float32."""
    out = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    for channel, mean, deviation in zip(out, IMAGENET_MEAN, IMAGENET_STD):
        channel.sub_(PIXEL_MAX * mean).div_(PIXEL_MAX * deviation)
    return out


def _binary(classes: np.ndarray, class_id: int) -> Tensor:
    out = np.zeros_like(classes)
    out[classes == class_id] = 1
    out[classes == IGNORE] = IGNORE
    return torch.from_numpy(out)
