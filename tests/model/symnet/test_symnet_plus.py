"""Sym-Net+: published numbers with every step off."""

import torch

from model.registry import related
from model.symnet.symnet_plus import CorrelationSettings
from tests.model.small import drawn_episode, small_model
from util.evaluate.evaluate import scored_outputs


def test_with_every_step_off_it_is_the_published_network() -> None:
    published = small_model("symnet", 2)
    steps_off = {"correlation": CorrelationSettings(), "calibration": "none", "self_support": "none"}
    network = small_model("symnet_plus", 2, foreground_weight=1.0, **steps_off)
    assert list(network.state_dict()) == list(published.state_dict())
    episode = drawn_episode("symnet", 2, 1)
    with torch.no_grad():
        given, wanted = (scored_outputs(n(episode)) for n in (network, published))
    assert given.keys() == wanted.keys() and all(torch.equal(given[name], wanted[name]) for name in wanted)


def test_models_are_related_to_those_they_extend_alone() -> None:
    assert related("symnet", "symnet_plus") and related("symnet_plus", "symnet") and related("ssp", "ssp")
    assert not related("symnet", "hdmnet") and not related("symnet_plus", "prototype")
