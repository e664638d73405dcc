"""Tests of episode sampling: a pure function of the number, fair, legal by every rule, and untouched by workers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from util.config.folds import Fold
from util.config.settings import AugmentSettings
from util.data.episodes import EpisodeDataset, TrialDataset, collate
from util.data.images.views import View
from util.data.lists.image_list import ImageList, check_shots
from util.data.lists.index import Index
from util.data.lists.manifest import digest
from util.data.mini import CLASS_NAMES
from util.data.sampling import EpisodeSampler
from util.data.words.text import name_vectors
from util.errors import UserError
from util.runtime.data import check_sampler
from util.runtime.loading import batches

GOLDEN = {  # digests of 200 episodes of two shots, drawn without and with replacement
    "sequential": ("76e7aa934d58f77b", "d72c3d73f61ea8d2"),
    "shuffle": ("f366a7a7c4373652", "c3e847a5d272ac07"),
    "random": ("96adddbfa9b4c821", "5f6340fdc67114a2"),
    "pairs": ("9a941d964dcf42be", "81be77173960009b"),
    "shuffled_pairs": ("2780516ca6c247f2", "dff966c5aed94ad5"),
    "class_then_query": ("a0b79c920183e0ac", "51392418789412ec"),
    "class_in_turn": ("093706fe51139b4a", "bf5e2cc0966ea5ca"),
}
SEEDS = range(5)
FAR = 10**9  # numbers need not be small
GOLDEN_WALK = [(0, 2, (17,)), (1, 3, (16,)), (2, 2, (17,)), (3, 1, (17,))]  # (query, class, supports)
GOLDEN_TWO_WAYS = "edf3800469ea67cc"


def list_of(areas: np.ndarray, classes: tuple[int, ...], pixels: int = 10) -> ImageList:
    """Return a list over given areas (images, classes + 1), no file behind it."""
    names, paths = tuple(f"photo{n}" for n in range(len(areas))), (Path(),) * len(areas)
    present = areas[:, list(classes)] >= pixels
    candidates = {c: np.flatnonzero(present[:, i]) for i, c in enumerate(classes)}
    index = Index(names, areas, paths, paths, "none")
    return ImageList(index, classes, np.flatnonzero(present.any(1)), candidates)


def random_list(seed: int) -> ImageList:
    """Return a list of 40 images of five classes, three of which count; every image has class 1."""
    random = np.random.default_rng(seed)
    areas = random.integers(0, 100, (40, 6)) * (random.random((40, 6)) < 0.4)
    areas[:, 1] += 10
    return list_of(areas, (1, 2, 4))


def golden_list() -> ImageList:
    """Return a list whose areas come from a formula, so that it is the same everywhere and for ever."""
    areas = np.array([[0, *(7 * n * c % 11 * 10 for c in (1, 2, 3))] for n in range(1, 21)], np.int64)
    return list_of(areas, (1, 2, 3), 30)


@pytest.mark.parametrize("rule", GOLDEN)
@pytest.mark.parametrize("with_replacement", [False, True])
def test_every_episode_is_legal_and_depends_on_its_number_alone(rule: str, with_replacement: bool) -> None:
    for seed in SEEDS:
        images = random_list(seed)
        sampler = EpisodeSampler(images, rule, 3, seed, with_replacement)
        numbers = [*range(150), FAR, FAR + 1]
        keys = {n: sampler(n) for n in numbers}
        other = EpisodeSampler(random_list(seed), rule, 3, seed, with_replacement)
        assert {n: other(n) for n in np.random.default_rng(seed).permutation(numbers).tolist()} == keys
        for number, key in keys.items():
            assert key.number == number and key.query in images.queries and key.query not in key.supports
            assert key.class_id in images.classes and images.index.areas[key.query, key.class_id] > 0
            assert set(key.supports) <= set(images.candidates[key.class_id].tolist()) and len(key.supports) == 3
            assert with_replacement or len(set(key.supports)) == 3
        assert with_replacement == any(len(set(key.supports)) < 3 for key in keys.values())


def test_episodes_of_a_fixed_list_never_change() -> None:
    """A change of sampling makes old results incomparable; all results so far are on these episodes."""
    images = golden_list()
    walk = EpisodeSampler(images, "sequential", 1, 0)
    assert [(k.query, k.class_id, k.supports) for k in map(walk, range(4))] == GOLDEN_WALK
    for rule, expected in GOLDEN.items():
        samplers = (EpisodeSampler(images, rule, 2, 321, with_replacement) for with_replacement in (False, True))
        assert tuple(digest(sampler, 200)[:16] for sampler in samplers) == expected, rule
    assert digest(EpisodeSampler(images, "sequential", 1, 0, ways=2), 200)[:16] == GOLDEN_TWO_WAYS


def test_supports_drawn_with_replacement_need_one_candidate_beside_the_query(mini_data) -> None:
    images, data = list_of(np.array([[0, 50], [0, 50]]), (1,)), mini_data(shot=5)
    check_shots(images, data, with_replacement=True)
    assert EpisodeSampler(images, "sequential", 5, 0, True)(0).supports == (1,) * 5
    with pytest.raises(UserError, match="5-shot needs 6"):
        check_shots(images, data)


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


def test_pixels_of_other_ways_are_ignored_in_supports_and_numbered_in_labels(novel: ImageList, mini_data) -> None:
    sampler, view = EpisodeSampler(novel, "sequential", 1, 0, ways=2), View("stretch", 33, 33)
    data, seen = TrialDataset(EpisodeDataset(sampler, Fold.of(mini_data()), 33, view=view), ("original",)), set()
    for number in range(20):
        key, trial = sampler(number), data[number]
        truth = novel.index.pair(key.query)[1]
        want = np.where(truth == 255, 255, np.where(truth == 1, 1, np.where(truth == 2, 2, 0)))
        assert np.array_equal(trial.label["original"][0].numpy(), want)
        for way, of_way in zip(key.ways, trial.ways, strict=True):
            assert int(of_way.class_id) == way.class_id and torch.equal(of_way.query, trial.episode.query)
            classes = view.apply(*novel.index.pair(way.supports[0]))[1]
            label = of_way.support_label[0].numpy()
            assert ((label == 1) == (classes == way.class_id)).all()
            assert ((label == 255) == np.isin(classes, [3 - way.class_id, 255])).all()
            seen.add(bool((classes == 3 - way.class_id).any()))
    assert seen == {True, False}


@pytest.mark.process
@pytest.mark.parametrize("augment", [AugmentSettings(scale=[0.7, 1.2]), None], ids=["training", "evaluation"])
def test_workers_and_batch_size_change_no_tensor(mini_lists, augment) -> None:
    fold, images, _ = mini_lists(min_pixels=400)  # of mini's 64 x 64: some objects are smaller
    sampler = EpisodeSampler(images, "shuffle", 2, 321)
    dataset = EpisodeDataset(sampler, fold, 65, augment, name_vectors(list(CLASS_NAMES)), base_labels=True)
    given, of_four = range(40, 52), [list(range(n, n + 4)) for n in range(40, 52, 4)]
    expected = collate([dataset[n] for n in given])
    assert expected.number.tolist() == [*given]
    for workers in (0, 2):
        loaded = list(batches(dataset, of_four, workers, torch.device("cpu")))
        for name, value in vars(expected).items():
            found = [getattr(batch, name) for batch in loaded]
            assert found == [None] * 3 if value is None else torch.equal(torch.cat(found), value)
