"""Episodes and labelled images as torch data sets: item n is what number n stands for, whoever asks."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from model.contract import IGNORE, Episode, LabelledImages
from util.data.folds import Fold
from util.data.images import read_image, read_mask
from util.data.lists import ImageList
from util.data.sampling import AUGMENT, EpisodeSampler, random_stream, shuffled
from util.data.warp import fit_canvas, warp_training
from util.settings import AugmentSettings

QUERY_SLOT = 0  # augmentation streams of an episode: the query's, then the supports'


class EpisodeDataset(Dataset):
    """Episodes of a list by number; with ``augment`` random training views, without it the evaluation view.

    Args:
        sampler: draws the images of an episode.
        fold: maps labels to base classes.
        size: side S of the square images.
        vectors: (classes + 1, T) float32 text vectors, or None.
        base_labels: whether ``query_base_label`` is filled.
    """

    def __init__(
        self,
        sampler: EpisodeSampler,
        fold: Fold,
        size: int,
        augment: AugmentSettings | None = None,
        vectors: np.ndarray | None = None,
        base_labels: bool = False,
    ):
        self.sampler, self.fold, self.size, self.augment = sampler, fold, size, augment
        self.vectors, self.base_labels = vectors, base_labels

    def __getitem__(self, number: int) -> Episode:
        key = self.sampler(number)
        query, classes = self._view(key.query, key.class_id, number, QUERY_SLOT)
        views = [self._view(s, key.class_id, number, slot) for slot, s in enumerate(key.supports, QUERY_SLOT + 1)]
        base_label = torch.from_numpy(self.fold.base_table[classes]) if self.base_labels else None
        return Episode(
            query=_channels_first(query),
            query_label=_binary(classes, key.class_id),
            support=torch.stack([_channels_first(image) for image, _ in views]),
            support_label=torch.stack([_binary(c, key.class_id) for _, c in views]),
            class_id=torch.tensor(key.class_id),
            base_id=torch.tensor(int(self.fold.base_table[key.class_id])),
            number=torch.tensor(number),
            query_base_label=base_label,
            text=None if self.vectors is None else torch.from_numpy(self.vectors[key.class_id]),
        )

    def _view(self, row: int, class_id: int, number: int, slot: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the sized image and its map of class ids."""
        index = self.sampler.images.index
        image, classes = read_image(index.images[row]), read_mask(index.masks[row])
        if self.augment is None:
            return fit_canvas(image, classes, self.size)
        random = random_stream(self.sampler.seed, AUGMENT, number, slot)
        return _warp_classes(image, classes, class_id, self.size, self.augment, random)


class LabelledDataset(Dataset):
    """Images of a list with base-class labels, for the base stage: item n is image n of a shuffled (or plain) walk."""

    def __init__(self, images: ImageList, fold: Fold, size: int, seed: int, augment: AugmentSettings | None = None):
        self.images, self.fold, self.size, self.seed, self.augment = images, fold, size, seed, augment

    def __getitem__(self, number: int) -> LabelledImages:
        length = len(self.images.queries)
        lap, position = divmod(number, length)
        if self.augment is not None:
            position = int(shuffled(length, self.seed, lap)[position])
        row, index = self.images.queries[position], self.images.index
        image, label = read_image(index.images[row]), self.fold.base_table[read_mask(index.masks[row])]
        if self.augment is None:
            image, label = fit_canvas(image, label, self.size)
        else:
            random = random_stream(self.seed, AUGMENT, number)
            image, label = warp_training(image, label, self.size, self.augment, random)
        return LabelledImages(_channels_first(image), torch.from_numpy(label))


def collate(items: list) -> Episode | LabelledImages:
    """Stack the tensors of single items into a batch; what no item fills stays None."""
    first = items[0]
    stacked = {
        f.name: None if getattr(first, f.name) is None else default_collate([getattr(i, f.name) for i in items])
        for f in fields(first)
    }
    return type(first)(**stacked)


def _warp_classes(
    image: np.ndarray,
    classes: np.ndarray,
    class_id: int,
    size: int,
    augment: AugmentSettings,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Warp with the episode's class as the target (value 1 in the warp) and give back class ids."""
    swap = np.arange(256, dtype=np.uint8)
    swap[[1, class_id]] = [class_id, 1]  # its own inverse
    image, swapped = warp_training(image, swap[classes], size, augment, random)
    return image, swap[swapped]


def _channels_first(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _binary(classes: np.ndarray, class_id: int) -> Tensor:
    """Return the label map in {0, 1, 255} of one class."""
    table = np.zeros(256, np.uint8)
    table[[class_id, IGNORE]] = [1, IGNORE]
    return torch.from_numpy(table[classes])
