"""The base learner equals its plain form, and its stage trains only the declared parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.bam.base_learner import BaseLearner, BaseStage
from model.encoders.settings import EncoderSettings, build_encoder
from model.episode import LabelledImages

CHANNELS, BASE_CLASSES = 16, 3
BINS = (1, 2, 3, 6)


def _learner(dtype: torch.dtype = torch.float32) -> BaseLearner:
    torch.manual_seed(0)
    learner = BaseLearner(CHANNELS, BASE_CLASSES)
    for module in learner.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return learner.to(dtype).eval()


def _plain(learner: BaseLearner, f4: Tensor) -> Tensor:
    """Concatenate the features with every level resized to their grid, then classify."""
    levels = [
        F.interpolate(level(f4), size=f4.shape[-2:], mode="bilinear", align_corners=True) for level in learner.pyramid
    ]
    return learner.classify(torch.cat([f4, *levels], dim=1))


@pytest.mark.parametrize(
    "grid, dtype",
    [((13, 13), torch.float32), ((7, 7), torch.float64), ((60, 45), torch.float32), ((5, 6), torch.float32)],
)
def test_output_and_gradients_equal_the_plain_form(grid: tuple[int, int], dtype: torch.dtype) -> None:
    learner = _learner(dtype)
    f4 = torch.rand(2, CHANNELS, *grid, dtype=dtype)
    toward = torch.randn(2, BASE_CLASSES + 1, *grid, dtype=dtype)
    results = []
    for form in (learner, lambda x: _plain(learner, x)):
        x = f4.clone().requires_grad_()
        output = form(x)
        learner.zero_grad()
        (output * toward).sum().backward()
        results.append([output.detach(), x.grad, *(p.grad.clone() for p in learner.parameters())])
    assert results[0][0].shape == toward.shape
    for ours, plain in zip(*results, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(ours, plain, atol=2e-5 * plain.abs().max().item(), rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_map_before_the_relu_at_chosen_positions_is_the_same(share: float) -> None:
    learner, f4 = _learner(), torch.rand(3, CHANNELS, 7, 6)
    chosen = torch.rand(3, 7, 6) < share
    with torch.no_grad():
        hidden, rows = learner.hidden(f4), learner.hidden_at(f4, chosen)
        logits = learner.logits(hidden)
        torch.testing.assert_close(logits, learner(f4))
    torch.testing.assert_close(rows, hidden.permute(0, 2, 3, 1)[chosen], atol=1e-5, rtol=1e-5)
    assert (hidden < 0).any()  # the ReLU that follows does not work in place


def test_training_mode_equals_the_plain_form_too() -> None:
    learner = _learner().train()
    for module in learner.modules():
        if isinstance(module, nn.Dropout2d):
            module.eval()
    other, f4 = copy.deepcopy(learner), torch.rand(3, CHANNELS, 9, 9)
    torch.testing.assert_close(learner(f4), _plain(other, f4), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(learner.classify[1].running_var, other.classify[1].running_var)


def test_the_pyramid_has_the_published_bins() -> None:
    assert [level(torch.rand(1, CHANNELS, 9, 9)).shape[1:] for level in _learner().pyramid] == [
        (CHANNELS // 4, bins, bins) for bins in BINS
    ]


def test_autocast_stays_close_to_float32() -> None:
    learner, f4 = _learner(), torch.rand(1, CHANNELS, 13, 13)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = learner(f4)
    torch.testing.assert_close(low.float(), learner(f4).detach(), atol=0.05, rtol=0.05)


# --- the stage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts() -> tuple[nn.Module, BaseLearner]:
    torch.manual_seed(1)
    encoder = build_encoder(EncoderSettings(backbone="resnet18", stem="plain"))
    return encoder, BaseLearner(encoder.channels[4], BASE_CLASSES)


@pytest.fixture(scope="module")
def batch() -> LabelledImages:
    torch.manual_seed(2)
    label = torch.randint(0, BASE_CLASSES + 1, (2, 33, 33), dtype=torch.uint8)
    label[:, :4] = 255
    return LabelledImages(torch.randint(0, 256, (2, 3, 33, 33), dtype=torch.uint8), label)


@pytest.mark.parametrize("frozen_stages", [0, 2, 5])
def test_frozen_stages_do_not_learn(parts: tuple, batch: LabelledImages, frozen_stages: int) -> None:
    stage = BaseStage(*copy.deepcopy(parts), frozen_stages, head_lr_factor=10.0).train()
    before = {k: v.clone() for k, v in stage.state_dict().items()}
    output = stage(batch)
    assert output.logits.shape == (2, BASE_CLASSES + 1, 33, 33)
    output.losses["main"].backward()
    learning = [p for group in stage.param_groups() for p in group.params]
    torch.optim.SGD(learning, lr=0.1).step()
    for number, part in enumerate(stage.encoder.stages()):
        frozen = number < frozen_stages
        assert all(module.training != frozen for module in part.modules())
        assert all((p.grad is None) == frozen and p.requires_grad != frozen for p in part.parameters())
        own = {f"encoder.layer{number}.{k}": v for k, v in part.state_dict().items()}
        changed = [k for k, v in own.items() if not torch.equal(v, before[k])]
        assert changed == ([] if frozen else list(own))
    assert all(p.grad is not None for p in stage.base_learner.parameters())
    assert all(module.training for module in stage.base_learner.modules())


@pytest.mark.parametrize("frozen_stages", [0, 2, 5])
def test_param_groups_hold_every_learnable_tensor_once(parts: tuple, frozen_stages: int) -> None:
    encoder, learner = copy.deepcopy(parts)
    encoder.requires_grad_(False)  # as after a meta stage
    stage = BaseStage(encoder, learner.requires_grad_(False), frozen_stages, head_lr_factor=7.0)
    groups = {group.name: group for group in stage.param_groups()}
    grouped = [p for group in groups.values() for p in group.params]
    learnable = [p for p in stage.parameters() if p.requires_grad]
    assert len(grouped) == len({id(p) for p in grouped})
    assert {id(p) for p in grouped} == {id(p) for p in learnable}
    assert {id(p) for p in groups["head"].params} == {id(p) for p in learner.parameters()}
    assert groups["head"].factor == 7.0
    assert ("encoder" in groups) == (frozen_stages < 5)
    assert all(group.factor == 1.0 for name, group in groups.items() if name != "head")


def test_loss_is_the_cross_entropy_of_known_pixels_and_exists_in_training_only(
    parts: tuple, batch: LabelledImages
) -> None:
    stage = BaseStage(*copy.deepcopy(parts), 5, head_lr_factor=10.0).train()
    for module in stage.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    output = stage(batch)
    expected = F.cross_entropy(output.logits[:, :, 4:], batch.label[:, 4:].long())
    assert set(output.losses) == {"main"}
    torch.testing.assert_close(output.losses["main"], expected)
    assert not stage.eval()(batch).losses
