"""Generalised segmentation: the images of a list that are labelled, and the supports of each run.

Both are pure functions of (list, protocol, seed). The runs that DIaM published are those of Python's ``random``, seeded
once with 2023: for each run and novel class its candidates are shuffled, and the first K of one novel class are taken.
"""

import random
from itertools import cycle, islice, product

import numpy as np

from util.config.folds import Fold
from util.config.settings import DataSettings, ProtocolSettings
from util.data.lists.image_list import ImageList
from util.data.lists.index import Index
from util.data.sampling import EPISODE, ORDER, EpisodeKey, ListedEpisodes, random_stream
from util.errors import UserError

PUBLISHED_SEED, PUBLISHED_RUNS = 2023, 5


def whole_test_list(index: Index, fold: Fold, data: DataSettings, protocol: ProtocolSettings) -> ImageList:
    """Return all images with a pixel of any class; the candidates of a novel class have ``support_pixels`` of it.

    Raises:
        UserError: no candidate of a novel class shows it alone among the novel ones.
    """
    areas, least = index.areas, protocol.support_pixels or data.min_pixels
    candidates = {c: np.flatnonzero(areas[:, c] >= least) for c in fold.novel}
    images = ImageList(index, fold.novel, np.flatnonzero((areas[:, 1:] > 0).any(1)), candidates)
    if bare := [data.classes[c - 1] for c, rows in candidates.items() if not _alone(images, rows.tolist())]:
        raise UserError(
            f"{index.listed}: no support for {', '.join(bare)}: no image shows at least {least} pixels of it and no "
            "other novel class; lower support_pixels of the protocol, or add images"
        )
    return images


def _alone(images: ImageList, rows: list[int]) -> list[int]:
    """Return the images that show one class of the list; one pixel of a second is enough to refuse them."""
    return [row for row in rows if len(images.classes_in(row)) == 1]


def run_of(images: ImageList, protocol: ProtocolSettings, shots: int, seed: int) -> ListedEpisodes:
    """Return a run: an episode for each query, in random order, all with the same supports, of every novel class.

    A class with fewer than K candidates has them repeated.
    """
    published = protocol.supports == "published" and 1 <= seed <= PUBLISHED_RUNS
    orders = _published_orders(images, seed) if published else {}
    supports = []
    for c in images.classes:
        order = orders.get(c) or random_stream(seed, EPISODE, c).permutation(images.candidates[c]).tolist()
        supports.append((c, tuple(islice(cycle(_alone(images, order)), shots))))
    queries = np.setdiff1d(images.queries, [row for _, rows in supports for row in rows])
    drawn = random_stream(seed, ORDER).permutation(queries)[: protocol.number(0)].tolist()
    (first, own), *others = supports
    keys = (EpisodeKey(number, row, first, own, tuple(others)) for number, row in enumerate(drawn))
    return ListedEpisodes(images, seed, tuple(keys))


def _published_orders(images: ImageList, run: int) -> dict[int, list[int]]:
    """Return the candidates of each class as the published code shuffles them for a run, from 1 on."""
    stream, out = random.Random(PUBLISHED_SEED), dict[int, list[int]]()
    for _, c in product(range(run), images.classes):
        order = list(range(len(images.candidates[c])))
        stream.shuffle(order)
        out[c] = images.candidates[c][order].tolist()
    return out
