"""The tester gives the same counts with the shots of supports kept, whatever fits, and holds no more than it may."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.evaluate.quick import PROTOTYPE
from util.data.sampling import EpisodeKey
from util.evaluate.store import TrialStore, _supports_of
from util.files.sizes import GIB
from util.loop.network import prepare_network
from util.loop.processes import ProcessGroup
from util.loop.score import Scoreboard, score
from util.run.build import build_model
from util.run.data import images_for_test, validation_episodes
from util.run.run import Run

WITH_BLOCKS = "hsnet"
ORIGINAL_SIZES = "ssp"
EPISODES = 14  # more supports in all than the list has
WORLD = ProcessGroup(0, 1, torch.device("cpu"))


@pytest.fixture(
    params=[(PROTOTYPE, "symnet"), (ORIGINAL_SIZES, "ssp"), ("bam", "symnet"), (WITH_BLOCKS, "symnet")],
    ids=["letterbox", "original sizes", "base learner", "blocks"],
)
def run(request, mini_config):
    """Return a function that tests an untrained network by a protocol and gives every episode's counts."""
    file, protocol_name = request.param
    run = Run(mini_config(file, test={"protocol": protocol_name}, data={"shot": 2}))
    network = build_model(run.config, run.text_width)
    data = validation_episodes(run, images_for_test(run, progress=False))

    def counts(store: TrialStore | None, batch: int = 1, scope: str = "view") -> np.ndarray:
        if store is not None:
            store.use_for(network, scope)
        board = Scoreboard(8)
        prepared = prepare_network(network, WORLD.device)
        score(prepared, data, EPISODES, [board], WORLD, title="test", batch=batch, store=store)
        _, records = board.gather(WORLD)
        return records["final"]

    return counts


def bytes_of(store: TrialStore) -> int:
    return sum(kept.nbytes for kept in (*store.kept.values(), *store.maps.values()))


@pytest.mark.train
def test_kept_shots_change_no_count(run) -> None:
    expected = run(None)
    store = TrialStore(1)
    assert np.array_equal(run(store), expected)
    assert store.used == bytes_of(store)
    kept = {**store.kept}
    assert np.array_equal(run(store, batch=3), expected)
    assert all(store.kept[key] is shot for key, shot in kept.items())
    run(store, scope="another view")
    assert not any(store.kept[key] is shot for key, shot in kept.items())
    few, nothing = TrialStore(0.25 * sum(shot.nbytes for shot in store.kept.values()) / GIB), TrialStore(0)
    assert np.array_equal(run(few), expected)
    assert 0 < len(few.kept) < len(store.kept)
    assert 0 < few.used == bytes_of(few) <= few.limit
    assert np.array_equal(run(nothing), expected)
    assert len(nothing.kept) == 0


@pytest.fixture
def encoded(mini_config, monkeypatch):
    """Return a function that tests an untrained network: how many images passed its encoder, and the episodes."""

    def run(file: str, protocol: str, gib: float) -> tuple[int, list[EpisodeKey]]:
        run = Run(mini_config(file, test={"protocol": protocol}, data={"shot": 2}))
        network = build_model(run.config, run.text_width)
        data = validation_episodes(run, images_for_test(run, progress=False))
        passes = []
        encode = network.encode_supports  # as a method writes it that reads no modalities:
        monkeypatch.setattr(network, "encode_supports", lambda image, label, maps=None: encode(image, label, maps))
        normalise = network.encoder.normalise
        monkeypatch.setattr(network.encoder, "normalise", lambda image: passes.append(len(image)) or normalise(image))
        store = TrialStore(gib)
        store.use_for(network)
        score(prepare_network(network, WORLD.device), data, EPISODES, [Scoreboard(8)], WORLD, title="test", store=store)
        return sum(passes), [data.sampler(number) for number in range(EPISODES)]

    return run


@pytest.mark.train
def test_how_often_an_image_passes_the_encoder(encoded) -> None:
    passes, episodes = encoded(ORIGINAL_SIZES, "ssp", gib=1)
    assert passes == len({row for key in episodes for row in (key.query, *key.supports)}) < 3 * EPISODES
    passes, episodes = encoded(WITH_BLOCKS, "symnet", gib=0)
    queries = {(key.class_id, key.query) for key in episodes}
    assert len(queries) < EPISODES
    assert passes == 2 * EPISODES + len(queries)


def test_a_kept_support_is_of_all_classes_whose_pixels_its_label_ignores() -> None:
    keys = []
    for classes in ((1, 2), (1, 3), (1, 2)):
        ways = [SimpleNamespace(class_id=[c], supports_of=lambda item: [None]) for c in classes]
        first, _ = _supports_of(SimpleNamespace(ways=ways, rows=[(0, 1, 2)]), with_rows=False)
        keys.append(first.key)
    assert keys[0] == keys[2] != keys[1]
