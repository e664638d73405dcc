"""Episodes and labelled images as torch data sets: item n depends on the number n alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.episode import Episode, EpisodeOfOriginalSizes, LabelledImages
from util.config.folds import Fold
from util.config.settings import AugmentSettings
from util.data.images.labels import binary, channels_first, relabelled
from util.data.images.views import LETTERBOX, ORIGINAL, View
from util.data.images.warp import fit_letterbox, warp_training
from util.data.lists.image_list import ImageList
from util.data.sampling import AUGMENT, CHOICE, FIXED, EpisodeKey, random_stream, shuffled

QUERY_SLOT = 0  # augmentation streams of an episode: 0 is the query's, 1..K are the supports'
Sized = tuple[Tensor, np.ndarray]  # an image as the network's input (3, S, S), and its map of class ids (S, S)


class ViewKey(NamedTuple):
    """One of the fixed training views of an image: what is random about it depends on these numbers alone."""

    row: int  # of the index
    class_id: int  # crops keep a part of the class
    view: int


class Sampler(Protocol):
    """Source of episodes by number: drawn from a list, or read from a manifest."""

    @property
    def images(self) -> ImageList:
        """The list of the episodes' images."""

    @property
    def seed(self) -> int:
        """The seed of everything random about the episodes."""

    def __call__(self, number: int) -> EpisodeKey:
        """Return the episode of a number."""

    def digest(self, episodes: int) -> str:
        """Return the hexadecimal SHA-256 of the first episodes, by image names."""


class EpisodeDataset(Dataset):
    """Episodes of a list by number; with ``augment`` random training views, without it an evaluation view.

    Args:
        sampler: chooses the images of an episode.
        fold: maps labels to base classes.
        size: side S of the square images.
        vectors: (classes + 1, T) float32 text vectors, or None.
        base_labels: whether ``query_base_label`` is filled.
        view: the evaluation view; default a letterbox of side S.
        views: number of fixed training views of each image and class, of which an episode draws one; None: every
            episode has new ones.
    """

    def __init__(
        self,
        sampler: Sampler,
        fold: Fold,
        size: int,
        augment: AugmentSettings | None = None,
        vectors: np.ndarray | None = None,
        base_labels: bool = False,
        view: View | None = None,
        views: int | None = None,
    ):
        self.sampler, self.fold, self.size, self.augment, self.views = sampler, fold, size, augment, views
        self.vectors, self.base_labels = vectors, base_labels
        self.view = view or View(LETTERBOX, size, size)

    def __getitem__(self, number: int) -> Episode:
        key = self.sampler(number)
        return self.episode(key, *self._view(key.query, key, QUERY_SLOT))

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image of the index and its map of class ids in their original size."""
        return self.sampler.images.index.pair(row)

    def episode(self, key: EpisodeKey, query: Tensor, classes: np.ndarray, ignored: Sequence[int] = ()) -> Episode:
        """Return the episode of a key from its query, (3, S, S), already sized, and the query's map of class ids.

        ``ignored`` is as in ``assemble``.
        """
        supports = [self._view(row, key, slot) for slot, row in enumerate(key.supports, QUERY_SLOT + 1)]
        return self.assemble(key, [(query, classes), *supports], ignored)

    def assemble(self, key: EpisodeKey, views: Sequence[Sized], ignored: Sequence[int] = ()) -> Episode:
        """Return the episode of a key from the sized images and class ids of its query and of its supports.

        Args:
            ignored: other classes, whose pixels have the label 255 in the supports.
        """
        (query, classes), *views = views
        support = [image for image, _ in views]
        value = self.sampler.images.index.value_of(key.class_id)
        support_label = [binary(c, value, ignored) for _, c in views]
        rest: dict[str, Any] = {
            "query": query,
            "query_label": binary(classes, value),
            "class_id": torch.tensor(key.class_id),
            "base_id": torch.tensor(self.fold.base_ids.get(key.class_id, 0)),
            "number": torch.tensor(key.number),
            "query_base_label": relabelled(classes, self.fold.base_table) if self.base_labels else None,
            "text": None if self.vectors is None else torch.from_numpy(self.vectors[key.class_id]),
        }
        if self.view.rule == ORIGINAL:
            return EpisodeOfOriginalSizes(support=support, support_label=support_label, **rest)
        return Episode(support=torch.stack(support), support_label=torch.stack(support_label), **rest)

    def evaluation_view(self, image: np.ndarray, classes: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Return an image as the network's input, (3, S, S) float32, and its map of class ids (S, S) uint8."""
        image, classes = self.view.sized(image, classes)
        return channels_first(image), classes

    def _view(self, row: int, key: EpisodeKey, slot: int) -> tuple[Tensor, np.ndarray]:
        """Return an image of the index as the network's input, and its map of class ids."""
        if self.augment is None:
            return self.evaluation_view(*self.read(row))
        if self.views is not None:
            return self.fixed_view(self.view_key(row, key, slot))
        random = random_stream(self.sampler.seed, AUGMENT, key.number, slot)
        return self._warped(row, key.class_id, random)

    def view_key(self, row: int, key: EpisodeKey, slot: int) -> ViewKey:
        """Return which of its fixed views an image has in an episode; ``slot`` is as in ``QUERY_SLOT``."""
        if self.augment is None:
            return ViewKey(row, key.class_id, 0)
        view = int(random_stream(self.sampler.seed, CHOICE, key.number, slot).integers(self.views or 1))
        return ViewKey(row, key.class_id, view)

    def fixed_view(self, view: ViewKey) -> Sized:
        """Return one of the fixed views of an image."""
        if self.augment is None:
            return self.evaluation_view(*self.read(view.row))
        return self._warped(view.row, view.class_id, random_stream(self.sampler.seed, FIXED, *view))

    def label(self, classes: np.ndarray, view: ViewKey) -> Tensor:
        """Return the label (S, S) uint8 in {0, 1, 255} of a view's class."""
        return binary(classes, self.sampler.images.index.value_of(view.class_id))

    def _warped(self, row: int, class_id: int, random: np.random.Generator) -> Sized:
        assert self.augment is not None
        index = self.sampler.images.index
        image, classes = warp_training(index.stacked(row), self.size, self.augment, random, index.value_of(class_id))
        return torch.from_numpy(image), classes


class LabelledDataset(Dataset):
    """Images of a list with base-class labels, for the base stage.

    Item n is image n of an endless sequence of epochs, each a new permutation of the list; without ``augment``
    (validation) each epoch is the list in its order.
    """

    def __init__(self, images: ImageList, fold: Fold, size: int, seed: int, augment: AugmentSettings | None = None):
        self.images, self.fold, self.size, self.seed, self.augment = images, fold, size, seed, augment

    def __getitem__(self, number: int) -> LabelledImages:
        length = len(self.images.queries)
        epoch, position = divmod(number, length)
        if self.augment is not None:
            position = int(shuffled(length, self.seed, epoch)[position])
        row, index = self.images.queries[position], self.images.index
        if self.augment is None:
            image, classes = fit_letterbox(*index.pair(row), self.size)
            pixels = channels_first(image)
        else:
            random = random_stream(self.seed, AUGMENT, number)
            image, classes = warp_training(index.stacked(row), self.size, self.augment, random)
            pixels = torch.from_numpy(image)
        return LabelledImages(pixels, relabelled(classes, self.fold.base_table))
