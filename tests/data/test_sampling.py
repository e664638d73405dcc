"""Tests of episode sampling: a pure function of the number, legal by every rule, and untouched by workers."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.episode import Episode, Modality
from model.trial import collate
from tests.data.drawn import IGNORE
from tests.data.made_lists import golden_list, list_of, random_list
from util.config.folds import Fold
from util.config.settings import AugmentSettings
from util.data.episodes import EpisodeDataset, TrialDataset
from util.data.lists.image_list import ImageList, check_shots
from util.data.lists.manifest import digest
from util.data.mini import CLASS_NAMES
from util.data.modalities import Source
from util.data.sampling import EpisodeKey, EpisodeSampler, check_contract
from util.data.views import View
from util.data.words.text import name_vectors
from util.files.errors import UserError
from util.files.images import read_image
from util.loop.loading import batches

GOLDEN = {  # digests of 200 episodes of two shots, drawn without and with replacement
    "sequential": ("76e7aa934d58f77b", "d72c3d73f61ea8d2"),
    "shuffle": ("f366a7a7c4373652", "c3e847a5d272ac07"),
    "random": ("96adddbfa9b4c821", "5f6340fdc67114a2"),
    "pairs": ("9a941d964dcf42be", "81be77173960009b"),
    "shuffled_pairs": ("2780516ca6c247f2", "dff966c5aed94ad5"),
    "class_then_query": ("a0b79c920183e0ac", "51392418789412ec"),
    "class_in_turn": ("093706fe51139b4a", "bf5e2cc0966ea5ca"),
}
SEEDS = range(3)
FAR = 10**9  # numbers need not be small
GOLDEN_WALK = [(0, 2, (17,)), (1, 3, (16,)), (2, 2, (17,)), (3, 1, (17,))]  # (query, class, supports)


@pytest.mark.parametrize("rule", GOLDEN)
@pytest.mark.parametrize("with_replacement", [False, True])
def test_an_episode_depends_on_its_number_alone_and_is_legal(rule: str, with_replacement: bool) -> None:
    for seed in SEEDS:
        images = random_list(seed)
        sampler = EpisodeSampler(images, rule, 3, seed, with_replacement)
        again = EpisodeSampler(random_list(seed), rule, 3, seed, with_replacement)
        numbers = np.random.default_rng(seed).permutation([*range(150), FAR, FAR + 1])
        keys = {number: again(number) for number in numbers.tolist()}
        assert {number: sampler(number) for number in [*range(150), FAR, FAR + 1]} == keys
        for number, key in keys.items():
            assert key.number == number
            _assert_legal(key, images)
        assert any(len(set(key.supports)) < 3 for key in keys.values()) == with_replacement


def _assert_legal(key: EpisodeKey, images: ImageList) -> None:
    """Refuse an episode of three shots whose query or supports do not show its class, or that supports itself."""
    assert key.query in images.queries
    assert key.query not in key.supports
    assert key.class_id in images.classes
    assert images.index.areas[key.query, key.class_id] > 0
    assert {*images.candidates[key.class_id]}.issuperset(key.supports)
    assert len(key.supports) == 3


def test_episodes_of_a_fixed_list_never_change() -> None:
    """A change of sampling makes old results incomparable; all results so far are on these episodes."""
    images = golden_list()
    walk = EpisodeSampler(images, "sequential", 1, 0)
    assert [(k.query, k.class_id, k.supports) for k in map(walk, range(4))] == GOLDEN_WALK
    for rule, (without, with_replacement) in GOLDEN.items():
        assert digest(EpisodeSampler(images, rule, 2, 321), 200)[:16] == without, rule
        assert digest(EpisodeSampler(images, rule, 2, 321, with_replacement=True), 200)[:16] == with_replacement, rule
    assert digest(EpisodeSampler(images, "sequential", 1, 0, ways=2), 200)[:16] == "edf3800469ea67cc"


def test_supports_drawn_with_replacement_need_one_candidate_beside_the_query(mini_data) -> None:
    images = list_of(np.array([[0, 50], [0, 50]]), (1,))
    data = mini_data(shot=5)
    check_shots(images, data, with_replacement=True)
    assert EpisodeSampler(images, "sequential", 5, 0, True)(0).supports == (1,) * 5
    with pytest.raises(UserError, match="5-shot needs 6"):
        check_shots(images, data)


def _keys_of_ways(ways: int, shots: int = 2, episodes: int = 60) -> Iterator[tuple[ImageList, EpisodeKey]]:
    for seed in SEEDS:
        images = random_list(seed)
        sampler = EpisodeSampler(images, "sequential", shots, seed, ways=ways)
        for number in range(episodes):
            yield images, sampler(number)


def test_further_ways_keep_query_and_supports_and_add_classes_with_legal_ones() -> None:
    for (_, one), (images, three) in zip(_keys_of_ways(1), _keys_of_ways(3), strict=True):
        assert replace(three, others=()) == one
        assert [way.classes for way in three.ways] == [[1], [2], [4]]
        for way in three.ways:
            assert three.query not in way.supports
            assert len(set(way.supports)) == 2
            assert set(way.supports) <= set(images.candidates[way.class_id].tolist())


def test_a_class_of_as_many_photos_as_shots_is_no_further_way() -> None:
    """Its query may be one of them."""
    images = random_list(0)
    fewest, *others = sorted(images.classes, key=lambda class_id: len(images.candidates[class_id]))
    shots = len(images.candidates[fewest])
    sampler = EpisodeSampler(images, "sequential", shots, 0, ways=2)
    assert fewest not in sampler.complete_classes
    assert {*replace(sampler, shots=shots - 1).complete_classes} == {fewest, *others}


@pytest.mark.parametrize("shots", [1, 2])
def test_a_query_has_its_references_in_turn(shots: int) -> None:
    """In each of two rounds, whose orders differ, none comes twice."""
    images = random_list(0)
    sampler = EpisodeSampler(images, "class_in_turn", shots, 0, references=80)
    for number, plain in enumerate(map(replace(sampler, references=1), range(10))):
        keys = [sampler(80 * number + turn) for turn in reversed(range(80))][::-1]
        assert {(key.query, key.class_id) for key in keys} == {(plain.query, plain.class_id)}
        candidates = {*images.candidates[plain.class_id]} - {plain.query}
        drawn = [row for key in keys for row in key.supports]
        assert {*drawn} <= candidates
        length = len(candidates) // shots * shots
        first, second = drawn[:length], drawn[length : 2 * length]
        assert len({*first}) == len({*second}) == length and first != second


STRETCHED = View("stretch", 33, 33)


@pytest.fixture(scope="module")
def two_ways(novel: ImageList, mini_data) -> TrialDataset:
    """Return trials of the classes 1 and 2 in one shot; images are stretched to 33 pixels."""
    sampler = EpisodeSampler(novel, "sequential", 1, 0, ways=2)
    return TrialDataset(EpisodeDataset(sampler, Fold.of(mini_data()), STRETCHED), "original")


def test_ways_are_numbered_in_labels(two_ways: TrialDataset) -> None:
    for number in range(20):
        _, classes = two_ways.episodes.index.pair(two_ways.sampler(number).query)
        expected = np.where(np.isin(classes, [1, 2, IGNORE]), classes, 0)
        assert np.array_equal(two_ways[number].label[0].numpy(), expected)


def test_other_ways_pixels_are_ignored_in_supports(two_ways: TrialDataset) -> None:
    shows_other = set()
    for number in range(20):
        trial = two_ways[number]
        for way, episode in zip(two_ways.sampler(number).ways, trial.ways, strict=True):
            assert int(episode.class_id) == way.class_id
            assert torch.equal(episode.query, trial.episode.query)
            photo, classes = two_ways.episodes.index.pair(way.supports[0])
            _, classes = STRETCHED.apply(photo, classes)
            other = 3 - way.class_id
            expected = np.where(classes == way.class_id, 1, 0)
            expected[np.isin(classes, [other, IGNORE])] = IGNORE
            assert np.array_equal(episode.support_label[0].numpy(), expected)
            shows_other.add(bool((classes == other).any()))
    assert shows_other == {True, False}


@pytest.mark.process
@pytest.mark.parametrize("augment", [AugmentSettings(scale=[0.7, 1.2]), None], ids=["training", "evaluation"])
def test_workers_and_batch_size_change_no_tensor(mini_lists, augment) -> None:
    fold, images, _ = mini_lists(min_pixels=400)  # of mini's 64 x 64: some objects are smaller
    sampler = EpisodeSampler(images, "shuffle", 2, 321)
    sources = [Source("red", Modality(), lambda photo, _: read_image(photo)[..., 0])]
    vectors = name_vectors(list(CLASS_NAMES))
    dataset = EpisodeDataset(
        sampler, fold, View("letterbox", 65, 65), augment, vectors, base_labels=True, sources=sources
    )
    fours = [range(40, 44), range(44, 48), range(48, 52)]
    expected = collate([dataset[number] for number in range(40, 52)])
    assert expected.number.tolist() == [*range(40, 52)]
    for workers in (0, 2):
        loaded = Episode.join([*batches(dataset, fours, workers, torch.device("cpu"))])
        assert len(loaded.tensors()) == len(expected.tensors()) == 9 + 3  # of query and two supports
        assert all(map(torch.equal, loaded.tensors(), expected.tensors()))


@pytest.mark.parametrize(
    ("said", "answer"),
    {  # of a sampler of others: what it returns for query, class and supports -> what is said of it
        "": lambda q, c, s, _: (q, c, s),
        "episode 0 differs when it is drawn again": lambda q, c, s, n: (q, c, s if next(n) else s[::-1]),
        "not photos of the list that show class 3": lambda q, c, s, _: (q, 3, s),
        "episode 0 has query 99 and .*, not photos of the list": lambda q, c, s, _: (99, c, s),
        "has its query .* among its own supports": lambda q, c, s, _: (q, c, (q, s[1])),
        "has 1 supports, not 2 ": lambda q, c, s, _: (q, c, s[:1]),
        "has a support twice": lambda q, c, s, _: (q, c, (s[0], s[0])),
        "sampler mine: episode 0 failed: TypeError: .*test_sampling.py, line": lambda q, c, s, _: q + "",
    }.items(),
)
def test_a_sampler_of_others_is_held_to_the_contract_of_an_episode(said: str, answer: Callable) -> None:
    images = random_list(0)
    own = EpisodeSampler(images, "random", 2, 0)
    numbers = itertools.count()

    def draw(_: ImageList, rule: EpisodeSampler, seed: int, number: int) -> tuple[int, int, tuple[int, ...]]:
        assert (rule.shots, seed) == (2, 0)
        key = own(number)
        return answer(key.query, key.class_id, key.supports, numbers)

    sampler = EpisodeSampler(images, "mine", 2, 0, draw=draw)
    if not said:
        check_contract(sampler)
        assert [sampler(number) for number in (0, FAR)] == [own(number) for number in (0, FAR)]
        return
    with pytest.raises(UserError, match=said):
        check_contract(sampler)
