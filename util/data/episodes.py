"""Episodes, trials of a test and labelled images as torch data sets: item n depends on the number n alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.episode import IGNORE, Episode, EpisodeOfOriginalSizes, LabelledImages
from model.trial import Trial
from util.config.folds import Fold
from util.config.settings import AugmentSettings
from util.data.augmentation import Cut, warp_training
from util.data.lists.image_list import ImageList
from util.data.modalities import Source
from util.data.sampling import AUGMENT, CHOICE, FIXED, EpisodeKey, Sampler, random_stream, shuffled
from util.data.views import LETTERBOX, ORIGINAL, View, channels_first


@dataclass(frozen=True)
class Sized:
    """An image of an episode as the network's input."""

    image: Tensor  # (3, S, S)
    classes: np.ndarray  # its map of class ids, (S, S)
    row: int  # of the index
    view: View | Cut  # by which it was sized


@dataclass(eq=False)
class EpisodeDataset(Dataset):
    """Episodes of a list by number; with ``augment`` random training views, without it an evaluation view."""

    sampler: Sampler
    fold: Fold  # maps labels to base classes
    view: View  # of evaluation; training views have its side
    augment: AugmentSettings | None = None
    vectors: np.ndarray | None = None  # (classes + 1, T) float32 text vectors
    base_labels: bool = False  # whether ``query_base_label`` is filled
    views: int | None = None  # fixed training views of each image and class, one for an episode; None: always new ones
    sources: Sequence[Source] = ()  # of the modalities that the method reads

    def __post_init__(self) -> None:
        self.index = self.sampler.images.index

    def __getitem__(self, number: int) -> Episode:
        key = self.sampler(number)
        views = [self._view(row, key, slot) for slot, row in enumerate((key.query, *key.supports))]
        return self.assemble(key, views)

    def assemble(self, key: EpisodeKey, views: Sequence[Sized], ignored: Sequence[int] = ()) -> Episode:
        """Return the episode of a key from the sized images and class ids of its query and of its supports.

        Pixels of the classes ``ignored`` have the label 255 in the supports.
        """
        query, *supports = views
        base = self.fold.base
        values = [self.index.value_of(key.class_id)]
        support_labels = [numbered(support.classes, values, ignored) for support in supports]
        episode_type: type[Episode] = Episode
        join: Any = torch.stack
        if self.view.rule == ORIGINAL:
            episode_type = EpisodeOfOriginalSizes
            join = list
        return episode_type(
            query=query.image,
            query_label=numbered(query.classes, values),
            support=join([support.image for support in supports]),
            support_label=join(support_labels),
            class_id=torch.tensor(key.class_id),
            base_id=torch.tensor(base.index(key.class_id) + 1 if key.class_id in base else 0),
            number=torch.tensor(key.number),
            query_base_label=relabelled(query.classes, self.fold.base_table) if self.base_labels else None,
            text=None if self.vectors is None else torch.from_numpy(self.vectors[key.class_id]),
            modalities=self._modalities(query, key.class_id),
            support_modalities=[self._modalities(support, key.class_id) for support in supports],
        )

    def evaluation_view(self, row: int, image: np.ndarray, classes: np.ndarray) -> Sized:
        """Return an image (H, W, 3) and its map of class ids (H, W), uint8, in the evaluation view."""
        image, classes = self.view.apply(image, classes)
        return Sized(channels_first(image), classes, row, self.view)

    def _modalities(self, sized: Sized, class_id: int) -> dict[str, Tensor]:
        """Return what the method reads of an image beside its colours, sized alike, (C, S, S) float32 each."""
        found = {}
        for source in self.sources:
            planes = source.planes(self.index, sized.row, class_id)
            views = [sized.view.beside(plane, source.modality) for plane in planes]
            found[source.name] = torch.from_numpy(np.stack(views))
        return found

    def _view(self, row: int, key: EpisodeKey, slot: int) -> Sized:
        """Return an image of an episode: slot 0 is the query's, 1..K are the supports'."""
        if self.augment is None:
            return self.evaluation_view(row, *self.index.pair(row))
        random = random_stream(self.sampler.seed, AUGMENT, key.number, slot)
        if self.views is not None:  # the view's number is all that is random about it
            number = int(random_stream(self.sampler.seed, CHOICE, key.number, slot).integers(self.views))
            random = random_stream(self.sampler.seed, FIXED, row, key.class_id, number)
        value = self.index.value_of(key.class_id)
        image, classes, cut = warp_training(self.index.stacked(row), self.view.side, self.augment, random, value)
        return Sized(image, classes, row, cut)


@dataclass(eq=False)
class LabelledDataset(Dataset):
    """Images of a list with base-class labels, for the base stage.

    Item n is image n of an endless sequence of epochs, each a new permutation of the list; without ``augment``
    (validation) each epoch is the list in its order.
    """

    images: ImageList
    fold: Fold
    size: int
    seed: int
    augment: AugmentSettings | None = None

    def __getitem__(self, number: int) -> LabelledImages:
        queries = self.images.queries
        index = self.images.index
        epoch, position = divmod(number, len(queries))
        if self.augment is None:
            letterboxed, classes = View(LETTERBOX, self.size, self.size).apply(*index.pair(queries[position]))
            image = channels_first(letterboxed)
        else:
            row = queries[int(shuffled(len(queries), self.seed, epoch)[position])]
            random = random_stream(self.seed, AUGMENT, number)
            image, classes, _ = warp_training(index.stacked(row), self.size, self.augment, random)
        return LabelledImages(image, relabelled(classes, self.fold.base_table))


@dataclass(eq=False)
class TrialDataset(Dataset):
    """The episodes of a test by number; ``scored_on`` names the label to make.

    With ``play_novel`` they are of base classes that play novel ones: a base learner does not suppress
    that of an episode.
    With ``last_support_first`` the images of the supports are in reverse order of their draw, as the published loader
    of the draw ``pfenet`` joins them: the result of HDMNet, which weights shots by their position, depends on it.
    """

    episodes: EpisodeDataset
    scored_on: str
    play_novel: bool = False
    last_support_first: bool = False

    @property
    def sampler(self) -> Sampler:
        """The sampler of the episodes."""
        return self.episodes.sampler

    @property
    def one_by_one(self) -> bool:
        """Whether images keep their original sizes, so that a batch can hold only one episode."""
        return self.episodes.view.rule == ORIGINAL

    def __getitem__(self, number: int) -> Trial:
        episodes = self.episodes
        key = episodes.sampler(number)
        if self.last_support_first:
            key = replace(key, supports=key.supports[::-1])
        image, classes = episodes.index.pair(key.query)
        values = [episodes.index.value_of(class_id) for class_id in key.classes]
        scored = episodes.view.scored(classes, self.scored_on)
        query = episodes.evaluation_view(key.query, image, classes)
        ways = [self._episode_of_way(way, query, key.classes) for way in key.ways]
        return Trial(
            ways,
            rows=[key.rows],
            label=[numbered(scored, values)],
            base_label=[relabelled(scored, episodes.fold.base_table)] if episodes.base_labels else [],
            class_map=[torch.from_numpy(scored)],
            shown=[episodes.view.shown(image.shape)],
        )

    def _episode_of_way(self, way: EpisodeKey, query: Sized, classes: list[int]) -> Episode:
        """Return the episode of one class; in its supports pixels of the trial's other classes are unknown."""
        episodes = self.episodes
        supports = [episodes.evaluation_view(row, *episodes.index.pair(row)) for row in way.supports]
        others = [class_id for class_id in classes if class_id != way.class_id]
        episode = episodes.assemble(way, [query, *supports], ignored=others)
        if self.play_novel:
            episode.spared_class = episode.base_id
        return episode


def numbered(classes: np.ndarray, values: Sequence[int], ignored: Sequence[int] = ()) -> Tensor:
    """Return the label (H, W) uint8 in {0, .., N, 255} of N classes, by their values in a map of class ids.

    Pixels of the values ``ignored`` are 255.
    """
    table = np.zeros(256, np.uint8)
    table[[*values]] = range(1, len(values) + 1)
    table[[*ignored, IGNORE]] = IGNORE
    return relabelled(classes, table)


def relabelled(classes: np.ndarray, table: np.ndarray) -> Tensor:
    """Return ``table[classes]`` for a table (256,) uint8; OpenCV is several times faster than NumPy here."""
    return torch.from_numpy(cv2.LUT(classes, table))
