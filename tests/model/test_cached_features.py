"""Cached features of an image replace the image without changing the prediction."""

import dataclasses

import pytest
import torch

from model.common.foundation import Foundation
from model.registry import models
from tests.model.small import drawn_episode, small_model
from util.evaluate.evaluate import scored_outputs

SHOTS, BATCH = 2, 2
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.mark.parametrize("name", sorted(models()))
@torch.no_grad()
def test_what_is_remembered_of_each_image_alone_gives_the_same_prediction(name: str) -> None:
    network, episode = small_model(name, SHOTS), drawn_episode(name, SHOTS, BATCH)
    want = network(episode)
    queries = [network.cache_query(image[None]) for image in episode.query]
    if None in queries:
        return  # this model keeps nothing, and so has nothing that could differ
    shots = [pair for item in range(BATCH) for pair in episode.shots(item)]
    supports = [network.cache_support(image[None, None], label[None, None]) for image, label in shots]
    assert all(memory.nbytes > 0 for memory in (*queries, *supports))

    image, label = (x[None, None] for x in shots[0])
    other = network.cache_support(image, torch.zeros_like(label))  # the same image, nothing marked
    same = all(torch.equal(x, supports[0].stage[stage]) for stage, x in other.stage.items())
    assert same != network.masks_supports

    known, encoded = dataclasses.replace(episode, cached_support=supports, cached_query=queries), []
    seeing = network.networks[1] if isinstance(network, Foundation) else network.encoder
    seeing.register_forward_pre_hook(lambda *_: encoded.append(1))
    for _ in range(2):  # cached features can be used more than once
        got = network(known)
        for key, logits in scored_outputs(want).items():
            assert torch.allclose(scored_outputs(got)[key], logits, **CLOSE), key
    assert encoded == []
