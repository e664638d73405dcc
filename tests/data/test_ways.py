"""Tests of episodes of several classes, and of queries that lack their class."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.data.drawn_lists import golden_list, random_list
from util.data.sampling import EpisodeSampler
from util.errors import UserError
from util.run.data import check_sampler

SEEDS = range(5)
GOLDEN_TWO_WAYS = "edf3800469ea67cc"


def test_more_ways_keep_the_episode_and_add_classes_with_supports() -> None:
    for seed in SEEDS:
        images = random_list(seed)
        one, three = (EpisodeSampler(images, "sequential", 2, seed, ways=ways) for ways in (1, 3))
        for number in range(60):
            key, first = three(number), one(number)
            assert (key.query, key.class_id, key.supports) == (first.query, first.class_id, first.supports)
            assert key.classes == [1, 2, 4] and [way.classes for way in key.ways] == [[1], [2], [4]]
            for way in key.ways:
                assert key.query not in way.supports and len(set(way.supports)) == 2
                assert set(way.supports) <= set(images.candidates[way.class_id].tolist())


def test_other_ways_are_drawn_uniformly_and_belong_to_the_digest() -> None:
    images = golden_list()
    two = EpisodeSampler(images, "sequential", 1, 0, ways=2)
    others = Counter((k.class_id, k.others[0][0]) for k in map(two, range(1200)))
    assert len(others) == 6 and all(others[a, b] > 0.35 * (others[a, b] + others[a, 6 - a - b]) for a, b in others)
    assert two.digest(200) != EpisodeSampler(images, "sequential", 1, 0).digest(200)
    assert two.digest(200)[:16] == GOLDEN_TWO_WAYS


def test_absent_classes_replace_queries_alone() -> None:
    everywhere = random_list(0)  # class 1 is
    with pytest.raises(UserError, match=r"protocols.p on the list: absent = 0.5, but every image shows class 1"):
        check_sampler(everywhere, EpisodeSampler(everywhere, "sequential", 1, 0, absent=0.5), "p", "the list")
    queries = np.flatnonzero((everywhere.index.areas[:, [2, 4]] > 0).any(1))
    images = replace(everywhere, classes=(2, 4), queries=queries)
    plain, half = (EpisodeSampler(images, "sequential", 1, 0, absent=share) for share in (0.0, 0.5))
    lacking = 0
    for number in range(400):
        key, shown = half(number), plain(number)
        assert (key.class_id, key.supports) == (shown.class_id, shown.supports) and half(number) == key
        lacks = images.index.areas[key.query, key.class_id] == 0
        assert lacks or key == shown
        lacking += int(lacks)
    assert 160 < lacking < 240
