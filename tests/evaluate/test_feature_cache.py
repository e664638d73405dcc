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


def bytes_of(cache: FeatureCache) -> int:
    return sum(features.nbytes for features in cache.kept.values())


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
        prepared = prepare_network(network, WORLD.device)
        run_pass(prepared, data, EPISODES, [board], WORLD, title="test", batch=batch, cache=cache)
        _, records = board.gather(WORLD)
        return records["final"]

    return counts


def test_kept_features_change_no_count_and_no_image_is_encoded_twice(run) -> None:
    expected = run(None)
    cache = FeatureCache(1)
    assert np.array_equal(run(cache), expected)
    images = len(cache.kept)
    assert (cache.misses, cache.hits) == (images, 2 * EPISODES - images)
    assert cache.hits > 0
    assert cache.used == bytes_of(cache)  # maps of the model's own too
    assert np.array_equal(run(cache, batch=3), expected)
    assert cache.misses == 0
    run(cache, scope="another view")
    assert cache.misses == images


def test_kept_features_change_no_count_where_few_fit(run, monkeypatch) -> None:
    """A fourth of the images, of which those that are needed again last are dropped, or none."""
    whole = FeatureCache(1)
    expected = run(whole)
    quarter = 0.25 * whole.used / GIB
    few = FeatureCache(quarter)
    natural_order = FeatureCache(quarter)
    blind = FeatureCache(quarter)
    nothing = FeatureCache(0)
    assert np.array_equal(run(few), expected)
    assert few.hits > 0 and few.misses > len(few.kept) > 0
    assert 0 < few.used == bytes_of(few) <= few.limit
    assert np.array_equal(run(nothing), expected)
    assert (nothing.hits, len(nothing.kept)) == (0, 0)
    monkeypatch.setattr("util.evaluate.evaluate.ordered_by_images", lambda _, episodes: range(episodes))
    assert np.array_equal(run(natural_order), expected)
    monkeypatch.setattr(blind, "expect", lambda sampler, steps: None)
    assert np.array_equal(run(blind), expected)
    assert few.misses < natural_order.misses < blind.misses


def test_episodes_that_share_images_follow_each_other() -> None:
    episodes = [(3, 1, 2), (1, 5, 6), (3, 7, 8), (3, 2, 9), (1, 4, 3)]  # class, query, support
    keys = []
    for number, (class_id, query, support) in enumerate(episodes):
        keys.append(EpisodeKey(number, query, class_id, (support,)))
    assert ordered_by_images(keys.__getitem__, len(keys)) == [1, 4, 0, 3, 2]
