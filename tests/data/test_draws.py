"""Tests of published draws: the episodes of published runs, number for number, and what is said of other lists."""

import gzip
import json
import re
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.data.made_lists import golden_list
from tests.helpers.paths import REPOSITORY, SHARED
from util.config.folds import Fold
from util.config.read import read_config, read_data
from util.config.settings import Config, DataSettings, ProtocolSettings
from util.data.draws import HSNET, OWN, PFENET, draw_published, why_not_published
from util.data.episodes import EpisodeDataset, TrialDataset
from util.data.lists.image_list import ImageList
from util.data.lists.image_list import test_list as novel_list
from util.data.lists.index import Index, OneClassAreas, load_index
from util.data.lists.list_files import read_fold_list
from util.data.lists.manifest import described, digest
from util.data.sampling import EpisodeSampler
from util.data.views import View

EPISODES = SHARED / "published_episodes"
PREFIX = {"pascal": "", "coco": "val2014/"}  # of the names of photos
GOLDEN_HSNET = {  # digests of the 1000 episodes of folds 0 to 3
    ("pascal", 1): ("77247e0d8b799652", "4cf9da98d57f92f9", "ee83280f54a3a1a1", "5519e9c174b20c02"),
    ("pascal", 5): ("cb4c1979ae42422e", "ae05d037c3d2a32f", "d4654daa953d865f", "0601bb2ee652efdf"),
    ("coco", 1): ("f361166a016ec20a", "e639cf5fa567a491", "a2d159987bfba609", "4dc2e0dc7032c6a8"),
    ("coco", 5): ("878fae62eb91e60e", "733ed205f785da5d", "d6d6801a9899cd55", "952c06a9c874eaff"),
}
GOLDEN_FSS1000 = {1: "5743546b0174ae8d", 5: "198f423f5d70a4e0"}  # of 2400 episodes
# Of 300 episodes of the list of formulas, which is walked again and again.
GOLDEN_PFENET = {1: "29a84cf1453613f3", 5: "7db8ec4336b04a5b"}
SEED = 321


def made_index(names: list[str], pairs: list[tuple[str, int]], classes: int) -> Index:
    """Return an index of photos that show classes, without files."""
    rows = {name: row for row, name in enumerate(names)}
    areas = np.zeros((len(names), classes + 1), np.int64)
    for name, class_id in pairs:
        areas[rows[name], class_id] = 5000
    paths = (Path(),) * len(names)
    return Index(tuple(names), areas, paths, paths, "made")


@cache
def hsnet_list(dataset: str, fold: int) -> tuple[ImageList, Config]:
    """Return HSNet's list of a fold as complete data have it, and the config of the fold."""
    config = read_config(REPOSITORY / f"config/{dataset}/hsnet.yaml", [f"data.fold={fold}"])
    split = Fold.of(config.data)
    file = config.protocols["hsnet"].list_file
    _, listed = read_fold_list(file, config.data)
    pairs = [(PREFIX[dataset] + stem, c) for stem, c in listed]
    names = sorted({name for name, _ in pairs})
    return novel_list(made_index(names, pairs, len(config.data.classes)), split, config.data, file), config


def published(images: ImageList, draw: str, query: str, shots: int, seed: int) -> EpisodeSampler:
    return EpisodeSampler(images, query, shots, seed, draw=partial(draw_published, draw=draw))


def rows_of(sampler: EpisodeSampler, episodes: int) -> list[dict]:
    return [described(sampler(number), sampler.images.index.names) for number in range(episodes)]


def expected(name: str) -> list[dict]:
    """Return the episodes of a published run; skip where they are absent."""
    if not EPISODES.is_dir():
        pytest.skip(f"no episodes of published runs at {EPISODES} (set SYMNET_SHARED)")
    with gzip.open(EPISODES / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_hsnets_lists_give_the_episodes_of_published_runs(dataset: str, shots: int) -> None:
    for fold, golden in enumerate(GOLDEN_HSNET[dataset, shots]):
        images, config = hsnet_list(dataset, fold)
        for name in ("hsnet", "dcama", "matcher"):
            protocol = config.protocols[name]
            assert (protocol.draw, protocol.seeds, protocol.episodes) == (HSNET, [0], 1000)
            assert why_not_published(images, config.data, protocol) == ""
        assert digest(published(images, HSNET, config.protocols["hsnet"].query, shots, 0), 1000)[:16] == golden


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("dataset", ["pascal", "coco"])
def test_hsnets_draw_is_that_of_published_logs(dataset: str, shots: int, fold: int) -> None:
    images, config = hsnet_list(dataset, fold)
    sampler = published(images, HSNET, config.protocols["hsnet"].query, shots, 0)
    assert rows_of(sampler, 1000) == expected(f"{dataset}_fold{fold}_{shots}shot")


def _fss1000_list(data: DataSettings) -> ImageList:
    """Return FSS-1000's test list as complete data have it: ten masks of each class, in the order 1, 10, 2, ..."""
    classes = sorted((REPOSITORY / "lists/fss1000/test.txt").read_text().split())
    names = [f"{name}/{number}" for name, number in product(classes, (1, 10, *range(2, 10)))]
    class_ids = np.repeat([data.classes.index(name) + 1 for name in classes], 10)
    areas = OneClassAreas(np.full((len(names), 2), 100), class_ids, len(data.classes))
    paths = (*map(Path, names),)
    return novel_list(Index((*names,), areas, paths, paths, "made"), Fold.of(data), data)


def test_fss1000_draws_among_the_numbers_of_a_class() -> None:
    """Queries are in the order of their names, 1, 10, 2, ..., supports are numbers from 1 to 10."""
    data = read_data(REPOSITORY / "config/fss1000/fss1000.yaml")
    images = _fss1000_list(data)
    protocol = ProtocolSettings(draw=HSNET, query="pairs", supports="with_replacement")
    assert why_not_published(images, data, protocol) == ""
    for shots, golden in GOLDEN_FSS1000.items():
        assert digest(published(images, HSNET, "pairs", shots, 0), 2400)[:16] == golden


@pytest.fixture(scope="module")
def real_photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageList, Config]:
    """Return the test list of PASCAL's fold 0, which is complete there, and its config."""
    config = read_config(REPOSITORY / "config/pascal/bam.yaml")
    data = replace(config.data, root=f"{shared}/data/VOC2012", cache=str(tmp_path_factory.mktemp("cache")))
    return novel_list(load_index(data, "test", progress=False), Fold.of(data), data), replace(config, data=data)


@pytest.mark.parity
@pytest.mark.parametrize(("seed", "episodes"), [(510, 1000), (SEED, 5000)])
@pytest.mark.parametrize("shots", [1, 5])
def test_pfenets_draw_on_real_photos_is_that_of_the_published_loader(real_photos, shots, seed, episodes) -> None:
    images, config = real_photos
    assert why_not_published(images, config.data, config.protocols["bam"]) == ""
    sampler = published(images, PFENET, "sequential", shots, seed)
    assert rows_of(sampler, episodes) == expected(f"pfenet_family_pascal_fold0_{shots}shot_seed{seed}")


@pytest.mark.parametrize("shots", [1, 5])
def test_a_draw_never_changes(shots: int) -> None:
    """With five shots every image is a candidate of every class."""
    images = golden_list()
    if shots == 5:
        images = replace(images, candidates={c: np.arange(20) for c in images.classes})
    assert digest(published(images, PFENET, "sequential", shots, SEED), 300)[:16] == GOLDEN_PFENET[shots]


@pytest.mark.parametrize(
    ("fold", "seeds", "reason"),
    [
        (2, [321, 5], "the published runs have no seed 5"),
        (0, [321], "the list of 364 images is not that of the published runs"),
    ],
)
def test_other_lists_and_seeds_than_the_published_are_told(fold: int, seeds: list[int], reason: str) -> None:
    data = replace(read_data(REPOSITORY / "config/pascal/pascal.yaml"), fold=fold)
    protocol = ProtocolSettings(draw=PFENET, seeds=[321])
    names = [f"{number:04}" for number in range(364)]  # as many as the published list has
    shown = [(name, Fold.of(data).novel[0]) for name in names]
    images = novel_list(made_index(names, shown, 20), Fold.of(data), data)
    assert why_not_published(images, data, protocol, seeds=seeds) == reason
    unknown = why_not_published(golden_list(), replace(data, name="pets"), protocol)
    assert unknown == "the published list of pets is not known"
    assert why_not_published(golden_list(), data, replace(protocol, draw=OWN)) == ""


REFUSED = [
    {"draw": HSNET},  # its query rule is sequential
    {"draw": HSNET, "query": "pairs"},  # distinct supports
    {"draw": PFENET, "query": "random"},
    {"draw": PFENET, "ways": 2},
]


@pytest.mark.parametrize("settings", REFUSED, ids=str)
def test_a_draw_with_other_rules_is_refused(settings: dict) -> None:
    key, words = next(ProtocolSettings(**settings).problems())
    assert key == "draw"
    assert re.search(f"= {settings['draw']} needs query: .*set draw to own", words)


def test_an_episode_may_have_its_last_support_first(novel: ImageList, mini_data) -> None:
    sampler = published(novel, PFENET, "sequential", 2, SEED)
    episodes = EpisodeDataset(sampler, Fold.of(mini_data()), View("stretch", 33, 33))
    forward = TrialDataset(episodes, ("original",))[40]
    backward = TrialDataset(episodes, ("original",), last_support_first=True)[40]
    ((query, first, last),) = forward.rows
    assert backward.rows == [(query, last, first)]
    assert torch.equal(backward.episode.support, forward.episode.support.flip(0))
