"""Generalised segmentation: the images of a list that are labelled, and the supports of each run.

Both are pure functions of (list, protocol, seed). The runs that DIaM published are those of Python's ``random``, seeded
once with 2023: for each run and novel class its candidates are shuffled, and the first K of one novel class are taken.
"""

from __future__ import annotations

import random
from itertools import cycle, islice

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
    """Return a run: an episode for each query, all with the same supports, of every novel class.

    A class with fewer than K candidates has them repeated. Queries are in random order, at most ``episodes`` of them.
    """
    published = protocol.supports == "published" and 1 <= seed <= PUBLISHED_RUNS
    orders = _published_orders(images, seed) if published else _orders(images, seed)
    alone = {c: _alone(images, order) for c, order in orders.items()}
    supports = [(c, tuple(islice(cycle(rows), shots))) for c, rows in alone.items()]
    taken = {row for _, rows in supports for row in rows}
    queries = np.array([row for row in images.queries.tolist() if row not in taken], np.int64)
    queries = random_stream(seed, ORDER).permutation(queries)[: protocol.episodes].tolist()
    (first, own), *others = supports
    keys = (EpisodeKey(number, row, first, own, tuple(others)) for number, row in enumerate(queries))
    return ListedEpisodes(images, seed, tuple(keys))


def _orders(images: ImageList, seed: int) -> dict[int, list[int]]:
    """Return the candidates of each class, shuffled."""
    return {c: random_stream(seed, EPISODE, c).permutation(images.candidates[c]).tolist() for c in images.classes}


def _published_orders(images: ImageList, run: int) -> dict[int, list[int]]:
    """Return the candidates of each class as the published code shuffles them for a run, from 1 on."""
    stream, out = random.Random(PUBLISHED_SEED), dict[int, list[int]]()
    for _ in range(run):
        for c in images.classes:
            order = list(range(len(images.candidates[c])))
            stream.shuffle(order)
            out[c] = [int(images.candidates[c][i]) for i in order]
    return out
