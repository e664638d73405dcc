"""Draws of episodes over many numbers: uniform supports and ways, even classes, laps in order.

The seeds are fixed, so a test passes always or never. Bounds of counts are those of the chi-squared distribution that
fair draws exceed once in 100,000.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest

from tests.data.made_lists import golden_list, list_of, random_list
from util.data.lists.image_list import ImageList
from util.data.sampling import EpisodeKey, EpisodeSampler

BOUNDS = {1: 19.5, 4: 28.5, 8: 37.3, 9: 39.3, 19: 57.4}  # degrees of freedom -> bound of chi-squared


def _assert_uniform(drawn: Iterable[object], values: Iterable[object]) -> None:
    """Refuse draws that do not take the values, and no others, equally often."""
    counts = Counter(drawn)
    assert set(counts) == set(values)
    expected = counts.total() / len(counts)
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < BOUNDS[len(counts) - 1], counts


def _draw(images: ImageList, rule: str, episodes: int, shots: int = 1, **options) -> list[EpisodeKey]:
    sampler = EpisodeSampler(images, rule, shots, 0, **options)
    return [sampler(number) for number in range(episodes)]


@pytest.fixture(scope="module")
def single_class() -> ImageList:
    """Return a list of ten images of one class."""
    return list_of(np.array([[0, 50]] * 10), (1,))


@pytest.mark.parametrize("with_replacement", [False, True])
@pytest.mark.parametrize("shots", [1, 4])
def test_supports_are_uniform_over_the_images_of_a_class(
    single_class: ImageList, shots: int, with_replacement: bool
) -> None:
    sampler = EpisodeSampler(single_class, "sequential", shots, 0, with_replacement)
    keys = [sampler(number) for number in range(0, 9000, 10)]
    assert {key.query for key in keys} == {0}
    _assert_uniform((row for key in keys for row in key.supports), range(1, 10))


def test_each_place_among_the_supports_is_uniform(single_class: ImageList) -> None:
    sampler = EpisodeSampler(single_class, "sequential", 5, 0)
    keys = [sampler(number) for number in range(0, 9000, 10)]
    for place in range(5):
        _assert_uniform((key.supports[place] for key in keys), range(1, 10))


def test_further_ways_are_uniform_over_the_other_classes() -> None:
    images = list_of(np.array([[0] + [50] * 6] * 8), (1, 2, 3, 4, 5, 6))
    keys = _draw(images, "class_in_turn", 1500, ways=2)
    others = {class_id: [] for class_id in images.classes}
    for key in keys:
        (other, _), *_ = key.others
        others[key.class_id].append(other)
    for class_id, drawn in others.items():
        _assert_uniform(drawn, set(images.classes) - {class_id})


def test_supports_of_further_ways_are_uniform_and_never_the_query() -> None:
    images = list_of(np.array([[0, 50, 50]] * 10), (1, 2))
    sampler = EpisodeSampler(images, "sequential", 3, 0, ways=2)
    keys = [sampler(number) for number in range(0, 9000, 10)]
    _assert_uniform((row for key in keys for _, supports in key.others for row in supports), range(1, 10))


def test_the_class_of_a_query_is_uniform_over_those_that_it_shows() -> None:
    images = list_of(np.array([[0, 50, 50, 50, 50, 50], [0, 50, 50, 50, 50, 50]]), (1, 2, 3, 4, 5))
    _assert_uniform((key.class_id for key in _draw(images, "sequential", 1000)), images.classes)


@pytest.fixture(scope="module")
def uneven() -> ImageList:
    """Return a list of 18 images of class 1 and two of class 2."""
    return list_of(np.array([[0, 50, 0]] * 18 + [[0, 0, 50]] * 2), (1, 2))


def test_class_then_query_draws_classes_evenly_however_many_images_show_them(uneven: ImageList) -> None:
    keys = _draw(uneven, "class_then_query", 1000)
    _assert_uniform((key.class_id for key in keys), uneven.classes)
    _assert_uniform((key.query for key in keys if key.class_id == 2), (18, 19))


def test_classes_in_turn_are_even_in_every_lap() -> None:
    images = random_list(0)
    classes = [key.class_id for key in _draw(images, "class_in_turn", 300)]
    assert classes == [*images.classes] * 100


def test_random_queries_are_uniform_over_the_images(uneven: ImageList) -> None:
    _assert_uniform((key.query for key in _draw(uneven, "random", 1000)), range(20))


def test_sequential_queries_follow_the_list_lap_after_lap() -> None:
    images = golden_list()
    queries = [key.query for key in _draw(images, "sequential", 3 * len(images.queries))]
    assert queries == images.queries.tolist() * 3


def test_a_lap_of_shuffle_has_every_image_once_and_no_lap_is_like_another() -> None:
    images = golden_list()
    length = len(images.queries)
    queries = [key.query for key in _draw(images, "shuffle", 50 * length)]
    laps = [tuple(queries[start : start + length]) for start in range(0, 50 * length, length)]
    assert {tuple(sorted(lap)) for lap in laps} == {tuple(images.queries.tolist())}
    assert len(set(laps)) == 50


def test_the_first_image_of_a_lap_is_uniform(single_class: ImageList) -> None:
    sampler = EpisodeSampler(single_class, "shuffle", 1, 0)
    _assert_uniform((sampler(number).query for number in range(0, 10_000, 10)), range(10))


def test_pairs_follow_the_list_image_by_image_and_class_by_class() -> None:
    images = golden_list()
    expected = [(row, c) for row in images.queries.tolist() for c in images.classes if row in images.candidates[c]]
    pairs = [(key.query, key.class_id) for key in _draw(images, "pairs", 2 * len(expected))]
    assert pairs == expected * 2


def test_pairs_without_the_first_images_of_a_class_keep_their_order() -> None:
    images = golden_list()
    supports = {c: images.candidates[c][:2].tolist() for c in images.classes}
    expected = [(row, c) for row, c in images.pairs if row not in supports[c]]
    keys = _draw(images, "pairs", len(expected), shots=2, first=True)
    assert [(key.query, key.class_id) for key in keys] == expected
    assert all(list(key.supports) == supports[key.class_id] for key in keys)


def test_a_lap_of_shuffled_pairs_has_every_pair_once_and_no_lap_is_like_another() -> None:
    images = golden_list()
    length = len(images.pairs)
    pairs = [(key.query, key.class_id) for key in _draw(images, "shuffled_pairs", 5 * length)]
    laps = [tuple(pairs[start : start + length]) for start in range(0, 5 * length, length)]
    assert {tuple(sorted(lap)) for lap in laps} == {tuple(sorted(images.pairs))}
    assert len({*laps, images.pairs}) == 6
