"""Sym-Net+: published numbers with every step off, and older configs of Sym-Net that switched a step on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from model.registry import current_section, models, related
from model.symnet.symnet_plus import CorrelationSettings
from tests.model.small import drawn_episode, small_model
from tests.paths import REPOSITORY
from util.config.read import from_dict, read_config, to_dict
from util.engine import checkpoint
from util.engine.evaluation import scored_outputs

OFF = {
    "correlation": {"kind": "pooled", "support_grid": None},
    "calibration": "none",
    "self_support": "none",
    "foreground_weight": 1.0,
}
BOTH = REPOSITORY / "config/mini/mini_split0_resnet10.yaml"


def test_with_every_step_off_it_is_the_published_network() -> None:
    published = small_model("symnet", 2)
    steps_off = {**OFF, "correlation": CorrelationSettings()}
    network = small_model("symnet_plus", 2, **steps_off)
    assert list(network.state_dict()) == list(published.state_dict())
    episode = drawn_episode("symnet", 2, 1)
    with torch.no_grad():
        given, wanted = (scored_outputs(n(episode)) for n in (network, published))
    assert given.keys() == wanted.keys() and all(torch.equal(given[name], wanted[name]) for name in wanted)


def _older(**changes: object) -> dict:
    """Return a merged config in the form of when Sym-Net's settings held those of the steps beyond the paper."""
    content = to_dict(read_config(BOTH))
    content["model"] = {**content["model"], **OFF, **changes}
    return content


def test_an_older_config_with_every_step_off_is_of_symnet() -> None:
    assert to_dict(from_dict(_older(), "older.pth")) == to_dict(read_config(BOTH))


@pytest.mark.parametrize(
    "changes",
    [
        {"calibration": "likelihood"},
        {"self_support": "match"},
        {"correlation": {"kind": "conv4d"}},
        {"foreground_weight": 3.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_older_config_with_a_step_on_is_of_symnet_plus(changes: dict, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = to_dict(from_dict(_older(**changes), f"{changes}.pth"))["model"]
    assert model["name"] == "symnet_plus"
    (name, value), *_ = changes.items()
    assert model[name] == ({**OFF[name], **value} if isinstance(value, dict) else value)
    assert [r.message.count("symnet_plus") > 0 for r in caplog.records] == [True]


def test_todays_sections_stay_as_they_are() -> None:
    for name, cls in models().items():
        section = {"name": name, **vars(cls.Settings())}
        assert current_section(section) == section
    assert current_section({"name": "unheard of", "calibration": "likelihood"})["name"] == "unheard of"


def test_a_checkpoint_of_older_symnet_with_a_step_on_is_of_this_model(tmp_path: Path) -> None:
    content = _older(calibration="likelihood")
    path = tmp_path / "best.pth"
    checkpoint.save(path, {"stage": "meta", "config": content, "weights": {"x": torch.zeros(1)}})
    own = to_dict(from_dict(content, "older.pth"))
    read = checkpoint.read(path)
    assert read["config"]["model"] == own["model"]
    checkpoint.check_identity(read, own, "meta", "best.pth")
    checkpoint.check_identity(read, to_dict(read_config(BOTH)), "meta", "best.pth")  # the tensors decide


def test_models_are_related_to_those_they_extend_alone() -> None:
    assert related("symnet", "symnet_plus") and related("symnet_plus", "symnet") and related("ssp", "ssp")
    assert not related("symnet", "hdmnet") and not related("symnet_plus", "prototype")
