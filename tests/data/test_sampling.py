"""Tests of episode sampling: a pure function of the number, fair, and untouched by workers and batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.drawn_lists import golden_list, random_list
from util.config.folds import Fold
from util.config.settings import AugmentSettings
from util.data.episodes import EpisodeDataset
from util.data.lists.image_list import ImageList, train_list
from util.data.lists.index import Index, load_index
from util.data.sampling import EpisodeSampler
from util.data.words.text import name_vectors
from util.run.loading import batches

SEEDS = range(5)
PIXELS = 400  # of mini's 64 x 64: some objects are smaller, so not every image of a class is a candidate
FAR = 10**9  # numbers need not be small
GOLDEN_WALK = [(0, 2, (17,)), (1, 3, (16,)), (2, 2, (17,)), (3, 1, (17,))]  # (query, class, supports)
GOLDEN_DIGESTS = ("d5ea1e74499fc823", "f366a7a7c4373652")


@pytest.fixture(scope="module")
def train(mini_data) -> ImageList:
    """Return the training list of mini's fold 0."""
    data = mini_data(min_pixels=PIXELS)
    return train_list(load_index(data, "train", progress=False), Fold.of(data), data)


# --- a pure function -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["sequential", "shuffle"])
def test_episode_depends_on_the_number_alone(query: str) -> None:
    for seed in SEEDS:
        images = random_list(seed)
        sampler = EpisodeSampler(images, query, 2, seed)
        numbers = [*range(150), FAR, FAR + 1]
        first = {n: sampler(n) for n in numbers}
        order = np.random.default_rng(seed).permutation(numbers).tolist()
        assert {n: sampler(n) for n in order} == first
        assert {n: EpisodeSampler(random_list(seed), query, 2, seed)(n) for n in reversed(numbers)} == first
        assert all(key.number == n for n, key in first.items())


# --- the episode itself ----------------------------------------------------------------------------------------------


def _check_episodes(images: ImageList, query: str, shots: int, seed: int, numbers: range) -> None:
    for number in numbers:
        key = EpisodeSampler(images, query, shots, seed)(number)
        assert key.query in images.queries
        assert key.class_id in images.classes
        assert images.index.areas[key.query, key.class_id] >= 1
        assert len(key.supports) == len(set(key.supports)) == shots
        assert key.query not in key.supports
        assert set(key.supports) <= set(images.candidates[key.class_id].tolist())


@pytest.mark.parametrize("query", ["sequential", "shuffle"])
@pytest.mark.parametrize("shots", [1, 3])
def test_supports_are_distinct_candidates_and_never_the_query(train, novel, query: str, shots: int) -> None:
    _check_episodes(train, query, shots, 321, range(200))
    _check_episodes(novel, query, shots, 0, range(100))
    for seed in SEEDS:
        _check_episodes(random_list(seed), query, shots, seed, range(100))


# --- order -----------------------------------------------------------------------------------------------------------


def test_shuffle_visits_every_image_once_per_lap_and_laps_differ(train: ImageList) -> None:
    length = len(train.queries)
    for seed in SEEDS:
        sampler = EpisodeSampler(train, "shuffle", 1, seed)
        laps = [tuple(sampler(n).query for n in range(lap * length, (lap + 1) * length)) for lap in range(6)]
        assert all(sorted(lap) == train.queries.tolist() for lap in laps)
        assert len(set(laps)) == len(laps)
        assert train.queries.tolist() not in [list(lap) for lap in laps]


# --- fairness --------------------------------------------------------------------------------------------------------


def _chi_square(counts: Counter, kinds: int) -> float:
    expected = counts.total() / kinds
    return sum((counts[k] - expected) ** 2 / expected for k in counts)


def test_supports_are_drawn_uniformly() -> None:
    areas = np.array([[0, 50]] * 10)
    index = Index(tuple("abcdefghij"), areas, (Path(),) * 10, (Path(),) * 10, "none")
    images = ImageList(index, (1,), np.arange(10), {1: np.arange(10)})
    for shots in (1, 4):
        sampler = EpisodeSampler(images, "sequential", shots, 0)
        counts = Counter(s for n in range(0, 9000, 10) for s in sampler(n).supports)
        assert set(counts) == set(range(1, 10))
        assert _chi_square(counts, 9) < 35  # eight degrees of freedom: exceeded once in 30 000


# --- digest ----------------------------------------------------------------------------------------------------------


def test_episodes_of_a_fixed_list_never_change() -> None:
    """A change of sampling makes old results incomparable; all results so far are on these episodes."""
    images = golden_list()
    walk = EpisodeSampler(images, "sequential", 1, 0)
    assert [(k.query, k.class_id, k.supports) for k in map(walk, range(4))] == GOLDEN_WALK
    assert walk.digest(200)[:16] == GOLDEN_DIGESTS[0]
    assert EpisodeSampler(images, "shuffle", 2, 321).digest(200)[:16] == GOLDEN_DIGESTS[1]


# --- workers and batches ---------------------------------------------------------------------------------------------


def _load(dataset: EpisodeDataset, numbers: list[list[int]], workers: int) -> dict[str, torch.Tensor | None]:
    """Return every field of the episodes, all batches joined."""
    loaded = list(batches(dataset, numbers, workers, torch.device("cpu")))
    joined = {}
    for name in (f.name for f in fields(loaded[0])):
        values = [getattr(batch, name) for batch in loaded]
        joined[name] = None if values[0] is None else torch.cat(values)
    return joined


@pytest.mark.process
@pytest.mark.parametrize("augment", [AugmentSettings(scale=[0.7, 1.2]), None], ids=["training", "evaluation"])
def test_workers_and_batch_size_change_no_tensor(mini_data, train: ImageList, augment) -> None:
    data = mini_data()
    sampler = EpisodeSampler(train, "shuffle", 2, 321)
    dataset = EpisodeDataset(sampler, Fold.of(data), 65, augment, name_vectors(data.classes), base_labels=True)
    single, fours = [[n] for n in range(40, 52)], [list(range(n, n + 4)) for n in range(40, 52, 4)]
    expected = _load(dataset, single, workers=0)
    assert expected["number"].tolist() == list(range(40, 52))
    for numbers, workers in [(fours, 0), (single, 2), (fours, 2)]:
        found = _load(dataset, numbers, workers)
        assert {name for name, v in expected.items() if v is None} == {"left_out", "cached_support", "cached_query"}
        assert all(v is None or torch.equal(found[name], v) for name, v in expected.items())


# --- several ways ----------------------------------------------------------------------------------------------------
