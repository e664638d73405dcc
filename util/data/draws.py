"""The draws of published runs, whose fixed seeds decide a sequence of episodes that can be drawn again.

``hsnet`` (HSNet, DCAMA, Matcher, GF-SAM and others on these lists): one stream of NumPy's legacy generator; a drawn
element is the first of a random permutation of all elements. ``pfenet`` (PFENet, BAM, HDMNet, SCCAN): eight streams of
Python's ``random``, seeded as PyTorch seeds the eight workers of a loader; image j of the list belongs to stream j
modulo 8, and all streams are seeded anew whenever the list starts again.

On the list of the published run the episodes are the published ones. ``lists/published.yaml`` identifies these lists.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from random import Random
from typing import Any, Final

import numpy as np
import torch

from util.config.settings import DataSettings, ProtocolSettings
from util.data.lists.image_list import ImageList
from util.data.lists.list_files import is_published
from util.files.project import REPOSITORY
from util.files.yaml_text import read_yaml

OWN: Final = "own"  # values of a protocol's draw
HSNET: Final = "hsnet"
PFENET: Final = "pfenet"
PAIRS = "pairs"  # a query rule
STREAMS = 8  # workers of the published loader
# the images of an episode, as rows of the index, and its class (1-based); supports in the order of the draw
Drawn = tuple[int, int, tuple[int, ...]]  # query, class, supports
# of this process: the episodes that it has drawn, a few megabytes for each seed of a test, and the rest
_sequences: dict[tuple, tuple[list[Drawn], Iterator[Drawn]]] = {}


def draw_published(images: ImageList, rule: Any, seed: int, number: int, *, draw: str) -> Drawn:
    """Return an episode of a published draw; all up to it are drawn once and kept.

    Args:
        images: the test list of a fold.
        rule: the ``EpisodeSampler``, whose query rule (of ``hsnet`` ``pairs`` or ``class_then_query``) and shots count.
        seed: of the published run.
        number: of the episode.
        draw: ``hsnet`` or ``pfenet``.
    """
    key = (draw, rule.query, rule.shots, seed, images.digest, images.index.fingerprint)
    if key not in _sequences:
        episodes = _hsnet(images, rule.query, rule.shots, seed) if draw == HSNET else _pfenet(images, rule.shots, seed)
        _sequences[key] = [], episodes
    drawn, rest = _sequences[key]
    while len(drawn) <= number:
        drawn.append(next(rest))
    return drawn[number]


def _hsnet(images: ImageList, query_rule: str, shots: int, seed: int) -> Iterator[Drawn]:
    """Yield the episodes of HSNet's draw without end."""
    random = np.random.RandomState(seed)
    candidates = {c: _in_number_order(images, rows.tolist()) for c, rows in images.candidates.items()}
    classes = [c for c in images.classes if candidates[c]]
    for number in count():
        if query_rule == PAIRS:
            query, class_id = images.pairs[number % len(images.pairs)]
        else:
            class_id = _first_of_permutation(classes, random)
            query = _first_of_permutation(candidates[class_id], random)
        supports: list[int] = []
        while len(supports) < shots:
            support = _first_of_permutation(candidates[class_id], random)
            if support != query:
                supports.append(support)
        yield query, class_id, tuple(supports)


def _first_of_permutation(values: Sequence[int], random: np.random.RandomState) -> int:
    return values[int(random.permutation(len(values))[0])]


def _in_number_order(images: ImageList, rows: list[int]) -> list[int]:
    """Return images in the order of the list; those named by numbers alone (FSS-1000: 1 to 10) by their numbers."""
    names = {row: images.index.names[row].rpartition("/")[2] for row in rows}
    if all(name.isdecimal() for name in names.values()):
        return sorted(rows, key=lambda row: int(names[row]))
    return rows


def _pfenet(images: ImageList, shots: int, seed: int) -> Iterator[Drawn]:
    """Yield the episodes of PFENet's draw without end."""
    generator = torch.Generator().manual_seed(seed)  # it gives the numbers of the default generator with this seed
    queries = images.queries.tolist()
    classes = [images.classes_in(query) for query in queries]
    candidates = {c: rows.tolist() for c, rows in images.candidates.items()}
    while True:
        base_seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
        streams = [Random(base_seed + worker) for worker in range(STREAMS)]
        for place, query in enumerate(queries):
            random = streams[place % STREAMS]
            class_id = classes[place][random.randrange(len(classes[place]))]
            supports = _distinct_supports(candidates[class_id], query, shots, random)
            yield query, class_id, supports


def _distinct_supports(candidates: list[int], query: int, shots: int, random: Random) -> tuple[int, ...]:
    """Return supports as PFENet's loader draws them from the candidates of a class."""
    supports: list[int] = []
    for _ in range(shots):
        random.randrange(len(candidates))  # the published code does not use the first number of each support
        support = query
        while support == query or support in supports:
            support = candidates[random.randrange(len(candidates))]
        supports.append(support)
    return tuple(supports)


def why_not_published(
    images: ImageList, data: DataSettings, protocol: ProtocolSettings, seeds: Sequence[int] | None = None
) -> str:
    """Explain why a protocol's draw gives other episodes on a list than the published run had.

    '' if it gives the published ones, or if the protocol repeats no published draw. ``seeds``: of a test; None: the
    protocol's.
    """
    if protocol.draw == OWN:
        return ""
    if others := [seed for seed in seeds or () if seed not in protocol.seeds]:
        return f"the published runs have no seed {others[0]}"
    lists_of_folds = _published_lists()[protocol.draw].get(data.name, ())
    if data.fold >= len(lists_of_folds):
        return f"the published list of {data.name} is not known"
    if images.digest == lists_of_folds[data.fold]:
        return ""
    return images.note or f"the list of {len(images.queries)} images is not that of the published runs"


def why_not_whole(images: ImageList, data_set: str) -> str:
    """Explain why a training list is not of all photos of a published one; '' if it is, or if none is known."""
    known = _published_lists()["photos"].get(data_set, [])
    is_whole = len(images.index) in known or (is_published(images.source) and not images.note)
    return "" if is_whole or not known else "not the published list"


def published_length(data: DataSettings, is_whole: bool) -> int:
    """Return how many photos a published training list has, whole or of the fold; 0: these settings have none."""
    lists = _published_lists()
    for entry in lists["training"]:
        if entry["settings"].items() <= vars(data).items():
            return lists["photos"][data.name][0] if is_whole else entry["folds"][data.fold]
    return 0


@cache
def _published_lists() -> dict[str, Any]:
    return read_yaml((REPOSITORY / "lists/published.yaml").read_text(encoding="utf-8"))
