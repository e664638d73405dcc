"""Every method on every kind of encoder: a support's path is that of a query, and on networks of timm it learns."""

import re

import numpy as np
import pytest
import torch

from model.encoders.settings import EncoderSettings, Learn
from model.registry import methods
from model.tensors.mask import Mask
from model.wants import ONE_GRID, PYRAMID
from tests.helpers.narrow import NARROW
from tests.model.seeded import seeded_model
from tests.model.small import WITH_ENCODER, drawn_episode

CONVOLUTIONS, TRANSFORMER = "timm/test_efficientnet", "timm/test_vit"
ENCODERS = (NARROW, "vgg16", "swin_b", CONVOLUTIONS, "timm/test_resnet", TRANSFORMER)
UNLIKE = ("hdmnet", "hsnet", "pfenet", "ssp", "symnet")  # methods that want different maps; others want those of one
THOROUGH = ("hsnet", "symnet")  # are tried on all encoders
REFUSED = {ONE_GRID: ["swin_b"], PYRAMID: [TRANSFORMER]}  # whose grids are others


def refused_by(method: str) -> list[str]:
    """Return the encoders that a method refuses."""
    # VGG: no map inside stage 1
    return REFUSED.get(methods()[method].wants.grids, ["vgg16"] if method == "dcama" else [])


PAIRS = [(name, NARROW, "deep") for name in WITH_ENCODER]
for method in UNLIKE:
    kinds = ENCODERS if method in THOROUGH else (TRANSFORMER,)
    PAIRS += [(method, encoder, "plain") for encoder in kinds if encoder not in refused_by(method)]
LEARNING = [(name, CONVOLUTIONS) for name in WITH_ENCODER]
LEARNING += [(name, TRANSFORMER) for name in UNLIKE if TRANSFORMER not in refused_by(name)]
CLOSE = 1e-4  # relative to the largest value of a map


@pytest.mark.parametrize("name, backbone, stem", PAIRS)
@torch.no_grad()
def test_a_support_that_is_all_object_has_the_features_of_a_query(name: str, backbone: str, stem: str) -> None:
    network = seeded_model(name, 1, backbone, stem)
    image = torch.from_numpy(np.random.RandomState(0).randint(0, 256, (1, 3, *[network.task.size] * 2)))
    all_object = Mask(torch.ones(1, *image.shape[-2:], dtype=torch.uint8))
    support, query = network._read(image, all_object), network._read(image)
    if network.wants.blocks:
        for (_, one), (stage, other) in zip(support.blocks(), query.blocks(), strict=True):
            _assert_close(one, other, f"block of {stage}")
    for stage in network.wants.stages:
        _assert_close(support[stage], query[stage], f"stage {stage}")


def _assert_close(given: torch.Tensor, want: torch.Tensor, name: str) -> None:
    assert want.std() > 0
    torch.testing.assert_close(given, want, rtol=0, atol=CLOSE * float(want.abs().max()), msg=name)


@pytest.mark.train
@pytest.mark.parametrize(("name", "backbone"), LEARNING)
def test_a_method_predicts_and_learns_on_an_encoder_of_timm(name: str, backbone: str) -> None:
    network = seeded_model(name, 2, backbone)
    if name == "abcdfss":
        network.settings.steps = 3  # of each image: 25 take seconds
    episode = drawn_episode(name, 2, 2, size=network.task.size)
    output = network(episode)
    assert output.logits.shape == (2, 2, *episode.query.shape[-2:])
    assert output.logits.isfinite().all()
    if network.learns:
        learnable = [p for group in network.param_groups() for p in group.params if group.factor]
        losses = network.train()(episode).losses
        sum(losses.values()).backward()
        assert all(loss.isfinite() for loss in losses.values())
        assert has_gradient(learnable)


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_an_encoder_is_refused_only_where_it_lacks_what_the_method_needs(name: str) -> None:
    method = methods()[name]
    backbones = ("resnet10", "vgg16", "swin_b", CONVOLUTIONS, TRANSFORMER)
    problems = {b: method.encoder_problem(method.Settings(encoder=EncoderSettings(b))) for b in backbones}
    assert [backbone for backbone, problem in problems.items() if problem] == refused_by(name)
    needed = method.wants.grids.words or "the maps inside stages 1, 2, 3 and 4"
    for key, message in filter(None, problems.values()):
        assert key == "backbone"
        assert re.search(f"{method.title}: it needs {needed}; .* offers .*it takes resnet10", message)


@pytest.mark.parametrize("name", ["symnet", "dcama"])
def test_parts_of_the_encoder_learn_with_their_own_rate(name: str) -> None:
    network = seeded_model(name, 2, TRANSFORMER, learn=Learn(["4"], 0.25))
    sum(network.train()(drawn_episode(name, 2, 2, size=network.task.size)).losses.values()).backward()
    (group,) = [g for g in network.param_groups() if g.name == "encoder"]
    assert group.factor == 0.25
    assert {id(p) for p in group.params} == {id(p) for p in network.encoder.stages()[4].parameters()}
    assert has_gradient(group.params)


def has_gradient(parameters: list[torch.nn.Parameter]) -> bool:
    """Say whether any of the parameters has a gradient other than 0."""
    return any(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)
