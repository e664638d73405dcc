"""The order in which a test takes its episodes where features are kept: each follows those that share its images."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby

from util.data.sampling import EpisodeKey

RECENT = 32  # images; caches of 8 to 100 images need few encodings with it


def ordered_by_images(sampler: Callable[[int], EpisodeKey], episodes: int) -> list[int]:
    """Return the numbers below ``episodes`` in an order that needs few images at a time.

    Episodes of the same classes follow each other, and each one is among those that need the fewest images beside the
    most recent ones, the first of them by number.
    """
    keys = sorted(map(sampler, range(episodes)), key=lambda key: (key.classes, key.number))
    return [number for _, group in groupby(keys, lambda key: key.classes) for number in _chained(list(group))]


def _chained(keys: Sequence[EpisodeKey]) -> list[int]:
    """Return the numbers of episodes of the same classes, each after those that share its images."""
    images = [set(key.rows) for key in keys]
    users: dict[int, list[int]] = defaultdict(list)  # image -> positions of its episodes
    for position, rows in enumerate(images):
        for row in rows:
            users[row].append(position)
    new = [len(rows) for rows in images]  # images of each episode that are not recent
    left, recent, order = dict.fromkeys(range(len(keys))), OrderedDict[int, None](), []
    while left:
        nearest = min(left, key=new.__getitem__)
        del left[nearest]
        order.append(keys[nearest].number)
        for row in sorted(images[nearest]):
            if row not in recent:
                _count(new, users[row], -1)
            recent[row] = None
            recent.move_to_end(row)
        while len(recent) > RECENT:
            _count(new, users[recent.popitem(last=False)[0]], 1)
    return order


def _count(new: list[int], positions: Sequence[int], change: int) -> None:
    for position in positions:
        new[position] += change
