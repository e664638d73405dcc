"""Tests of the query and support rules of the protocols: pure functions of the number, fair, and as documented."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from util.config.folds import Fold
from util.data.episodes import EpisodeDataset
from util.data.images.views import View
from util.data.lists.image_list import ImageList, check_shots
from util.data.lists.index import Index
from util.data.sampling import EpisodeSampler
from util.data.trials import TrialDataset
from util.errors import UserError
from util.run.loading import batches

RULES = ["sequential", "pairs", "class_then_query", "random"]
EPISODES = 240


def drawn_list(seed: int) -> ImageList:
    """Return a list over random areas, no file behind it: 30 images, three classes."""
    random = np.random.default_rng(seed)
    areas = random.integers(1, 100, (30, 4)) * (random.random((30, 4)) < 0.5)
    areas[:, 1] += 20
    names = tuple(f"photo{n}" for n in range(30))
    present = areas[:, 1:] >= 20
    candidates = {c: np.flatnonzero(present[:, c - 1]) for c in (1, 2, 3)}
    return ImageList(Index(names, areas, (Path(),) * 30, (Path(),) * 30, "none"), (1, 2, 3), np.arange(30), candidates)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("with_replacement", [False, True])
def test_every_episode_is_legal_and_depends_on_its_number_alone(rule: str, with_replacement: bool):
    for seed in range(3):
        images = drawn_list(seed)
        sampler = EpisodeSampler(images, rule, 3, seed, with_replacement)
        keys = [sampler(n) for n in range(200)]
        assert [sampler(n) for n in reversed(range(200))] == keys[::-1]
        for key in keys:
            assert images.index.areas[key.query, key.class_id] > 0
            assert key.query not in key.supports
            assert set(key.supports) <= set(images.candidates[key.class_id].tolist())
            assert with_replacement or len(set(key.supports)) == 3
        assert with_replacement == any(len(set(key.supports)) < 3 for key in keys)


def test_pairs_are_taken_in_the_order_of_the_list():
    images = drawn_list(1)
    expected = [(r, c) for r in range(30) for c in (1, 2, 3) if images.index.areas[r, c] >= 20]
    sampler = EpisodeSampler(images, "pairs", 1, 0)
    found = [(sampler(n).query, sampler(n).class_id) for n in range(len(expected) + 5)]
    assert list(images.pairs) == expected and found == expected + expected[:5]


def test_class_then_query_draws_classes_evenly_and_random_draws_images_evenly():
    areas = np.array([[0, 50, 0]] * 18 + [[0, 0, 50]] * 2)
    index = Index(tuple(f"p{n}" for n in range(20)), areas, (Path(),) * 20, (Path(),) * 20, "none")
    images = ImageList(index, (1, 2), np.arange(20), {1: np.arange(18), 2: np.arange(18, 20)})
    by_class = Counter(EpisodeSampler(images, "class_then_query", 1, 0)(n).class_id for n in range(4000))
    assert abs(by_class[1] - 2000) < 160  # five standard deviations
    by_image = Counter(EpisodeSampler(images, "random", 1, 0)(n).query for n in range(8000))
    assert all(abs(by_image[r] - 400) < 100 for r in range(20))


def test_supports_drawn_with_replacement_need_one_candidate_beside_the_query(mini_data):
    areas = np.array([[0, 50], [0, 50]])
    index = Index(("a", "b"), areas, (Path(),) * 2, (Path(),) * 2, "none")
    images = ImageList(index, (1,), np.arange(2), {1: np.arange(2)})
    data = mini_data(shot=5)
    check_shots(images, data, with_replacement=True)
    assert EpisodeSampler(images, "sequential", 5, 0, True)(0).supports == (1,) * 5
    with pytest.raises(UserError, match="5 shots need 6"):
        check_shots(images, data)


def test_pixels_of_other_ways_are_ignored_in_supports_and_numbered_in_labels(novel: ImageList, mini_data):
    sampler = EpisodeSampler(novel, "sequential", 1, 0, ways=2)
    episodes = EpisodeDataset(sampler, Fold.of(mini_data()), 33, view=View("stretch", 33, 33))
    data, seen = TrialDataset(episodes, ("original",)), set()
    for number in range(20):
        key, trial = sampler(number), data[number]
        truth = novel.index.pair(key.query)[1]
        want = np.where(truth == 255, 255, np.where(truth == 1, 1, np.where(truth == 2, 2, 0)))
        assert np.array_equal(trial.label["original"][0].numpy(), want)
        for way, of_way in zip(key.ways, trial.ways, strict=True):
            assert int(of_way.class_id) == way.class_id and torch.equal(of_way.query, trial.episode.query)
            classes = View("stretch", 33, 33).sized(*novel.index.pair(way.supports[0]))[1]
            label = of_way.support_label[0].numpy()
            assert ((label == 1) == (classes == way.class_id)).all()
            assert ((label == 255) == np.isin(classes, [3 - way.class_id, 255])).all()
            seen.add(bool((classes == 3 - way.class_id).any()))
    assert seen == {True, False}


@pytest.mark.process
@pytest.mark.parametrize("rule", RULES)
def test_episodes_are_the_same_for_any_number_of_workers(novel: ImageList, mini_data, rule: str):
    """Load episodes with and without worker processes, in batches of two sizes, and compare images and classes."""
    fold = Fold.of(mini_data())
    found = []
    for workers, batch in ((0, 40), (2, 16)):
        sampler = EpisodeSampler(novel, rule, 1, 0)
        data = TrialDataset(EpisodeDataset(sampler, fold, 33, view=View("stretch", 9, 9)), ("letterbox",))
        numbers = [list(range(n, min(n + batch, EPISODES))) for n in range(0, EPISODES, batch)]
        rows = []
        for trial in batches(data, numbers, workers, torch.device("cpu")):
            e = trial.episode
            sums = [x.flatten(1).double().sum(1).tolist() for x in (e.query, e.support, e.support_label)]
            rows += list(zip(e.number.tolist(), e.class_id.tolist(), *sums, strict=True))
        found.append(rows)
    assert len(found[0]) == EPISODES and found[0] == found[1]
