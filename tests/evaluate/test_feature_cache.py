"""The tester gives the same counts with images' features kept, whatever fits, and holds no more than it may."""

import numpy as np
import pytest
import torch

from tests.evaluate.quick import PROTOTYPE
from util.config.read import read_config
from util.data.sampling import EpisodeKey
from util.evaluate.cache import GIB, FeatureCache, ordered_by_images
from util.evaluate.evaluate import Scoreboard, run_pass
from util.runtime.context import make_run_context
from util.runtime.data import images_for_test, validation_episodes
from util.runtime.network import build_model, prepare_network
from util.runtime.processes import ProcessGroup

pytestmark = pytest.mark.train

WITH_BASE_LEARNER = "mini_split0_bam_resnet10.yaml"
EPISODES = 14  # more images in all than the list has
WORLD = ProcessGroup(0, 1, torch.device("cpu"))


@pytest.fixture(
    params=[(PROTOTYPE, "symnet"), (PROTOTYPE, "ssp"), (WITH_BASE_LEARNER, "symnet")],
    ids=["letterbox", "original sizes", "base learner"],
)
def run(request, mini_yaml):
    """Return a function that tests an untrained network by a protocol and gives every episode's counts."""
    file, protocol_name = request.param
    context = make_run_context(read_config(mini_yaml(file, test={"protocol": protocol_name})))
    network = build_model(context.config, context.text_width)
    data = validation_episodes(context, images_for_test(context, progress=False))

    def counts(cache: FeatureCache | None, batch: int = 1, scope: str = "view") -> np.ndarray:
        if cache is not None:
            cache.use_for(network, scope)
        board = Scoreboard(8)
        run_pass(prepare_network(network, WORLD.device), data, EPISODES, [board], WORLD, "test", batch, cache=cache)
        return board.gather(WORLD)[1]["final"]

    return counts


def test_kept_features_change_no_count_whatever_fits(run, monkeypatch) -> None:
    expected, cache = run(None), FeatureCache(1)
    assert np.array_equal(run(cache), expected)
    images, size = len(cache.kept), cache.used
    assert cache.misses == images and cache.hits == 2 * EPISODES - images > 0
    assert size == sum(features.nbytes for features in cache.kept.values())  # maps of the model's own too
    assert np.array_equal(run(cache, batch=3), expected) and cache.misses == 0
    run(cache, scope="another view")
    assert cache.misses == images
    quarter, natural, blind, nothing = (FeatureCache(share * size / GIB) for share in (0.25, 0.25, 0.25, 0))
    assert np.array_equal(run(quarter), expected) and quarter.misses > len(quarter.kept) > 0 and quarter.hits > 0
    assert 0 < quarter.used <= quarter.limit and quarter.used == sum(kept.nbytes for kept in quarter.kept.values())
    assert np.array_equal(run(nothing), expected) and nothing.hits == 0 and not nothing.kept
    monkeypatch.setattr("util.evaluate.evaluate.ordered_by_images", lambda _, episodes: range(episodes))
    assert np.array_equal(run(natural), expected) and quarter.misses < natural.misses
    monkeypatch.setattr(blind, "expect", lambda sampler, steps: None)
    assert np.array_equal(run(blind), expected) and natural.misses < blind.misses


def test_episodes_that_share_images_follow_each_other() -> None:
    episodes = [(3, 1, 2), (1, 5, 6), (3, 7, 8), (3, 2, 9), (1, 4, 3)]  # class, query, support
    keys = [EpisodeKey(n, query, class_id, (support,)) for n, (class_id, query, support) in enumerate(episodes)]
    assert ordered_by_images(keys.__getitem__, len(keys)) == [1, 4, 0, 3, 2]
