"""The tester gives the same counts with images' features kept, whatever fits, and holds no more than it may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from util.config.read import read_config
from util.engine.evaluation import PassOptions, Scoreboard, run_pass
from util.engine.feature_cache import GIB, FeatureCache, feature_cache
from util.engine.memory import free_bytes
from util.engine.network import new_model, prepare_network
from util.engine.processes import World
from util.engine.run_context import make_run_context
from util.engine.run_data import images_for_test, training_size_episodes

pytestmark = pytest.mark.train

ENCODER = {"encoder": {"backbone": "resnet10_narrow", "stem": "plain", "weights": None}}
BASELINE = "mini_split0_prototype_resnet10.yaml"
EPISODES = 20  # more images in all than the list has
WORLD = World(0, 1, torch.device("cpu"))


@pytest.fixture(params=["symnet", "ssp"], ids=["letterbox", "original sizes"])
def run(request, mini_yaml):
    """Return a function that tests the untrained baseline by a protocol and gives every episode's counts."""
    context = make_run_context(read_config(mini_yaml(BASELINE, model=ENCODER)))
    network = new_model(context)
    protocol = context.config.protocols[request.param]
    data = training_size_episodes(context, images_for_test(context, progress=False), protocol, seed=0)

    def counts(cache: FeatureCache | None, batch: int = 1, scope: str = "view") -> np.ndarray:
        if cache is not None:
            cache.use_for(network, scope)
        board = Scoreboard(8, WORLD.device)
        options = PassOptions(batch, progress=False)
        run_pass(prepare_network(network, WORLD.device), data, EPISODES, [board], WORLD, options, cache=cache)
        return board.episode_records(WORLD)["final"]

    return counts


def test_kept_features_change_no_count_and_are_used_in_every_lap(run) -> None:
    expected, cache = run(None), FeatureCache(1)
    assert np.array_equal(run(cache), expected)
    images = len(cache.kept)
    assert cache.misses == images and cache.hits == 2 * EPISODES - images > 0
    assert np.array_equal(run(cache), expected) and cache.misses == 0
    assert np.array_equal(run(cache, batch=3), expected) and cache.misses == 0
    run(cache, scope="another view")
    assert cache.misses == images


def test_no_more_is_kept_than_may_be(run) -> None:
    everything = FeatureCache(1)
    expected = run(everything)
    half = FeatureCache(everything.used / 2 / GIB)
    assert np.array_equal(run(half), expected)
    assert 0 < half.used <= half.limit and half.used == sum(features.nbytes for features in half.kept.values())
    assert half.misses > len(half.kept) > 0 and half.hits > 0
    nothing = FeatureCache(0)
    assert np.array_equal(run(nothing), expected) and nothing.hits == 0 and not nothing.kept


def test_auto_takes_half_of_the_free_memory_shared_by_processes_and_0_keeps_none(tmp_path: Path) -> None:
    one, two = (feature_cache("auto", WORLD.device, processes) for processes in (1, 2))
    assert one is not None and two is not None and feature_cache(0, WORLD.device, 1) is None
    assert 0 < one.limit < free_bytes(WORLD.device) and two.limit == pytest.approx(one.limit / 2, rel=0.2)
    (tmp_path / "meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:  3000 kB\n")
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, free in (("max", 3000 * 1024), ("5000", 4000), ("900", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert free_bytes(WORLD.device, tmp_path / "meminfo", tmp_path) == free
    assert free_bytes(WORLD.device, tmp_path / "none", tmp_path / "none") == 0
