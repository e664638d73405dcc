"""Encoders: grids, channels, dilation and intermediate features of every backbone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.encoders.layouts import load_encoder
from model.encoders.settings import EncoderSettings, build_encoder
from tests.model.varied import bare_encoder, varied_encoder

COUNTS = {  # stage -> intermediate features
    "resnet10": {2: 1, 3: 1, 4: 1},
    "resnet10_narrow": {2: 1, 3: 1, 4: 1},
    "resnet18": {2: 2, 3: 2, 4: 2},
    "resnet34": {2: 4, 3: 6, 4: 3},
    "resnet50": {2: 4, 3: 6, 4: 3},
    "resnet101": {2: 4, 3: 23, 4: 3},
    "vgg16": {2: 3, 3: 3, 4: 1},
}
CHANNELS = {
    "resnet10": {2: 128, 3: 256, 4: 512},
    "resnet10_narrow": {2: 32, 3: 64, 4: 128},
    "resnet18": {2: 128, 3: 256, 4: 512},
    "resnet34": {2: 128, 3: 256, 4: 512},
    "resnet50": {2: 512, 3: 1024, 4: 2048},
    "resnet101": {2: 512, 3: 1024, 4: 2048},
    "vgg16": {2: 256, 3: 512, 4: 512},
}
STEMS = ("deep", "plain")


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backbone, stem", [("resnet10", "deep"), ("resnet10_narrow", "plain"), ("resnet18", "plain"), ("resnet50", "deep")]
)
@torch.no_grad()
def test_resnet_has_stride_8_from_stage_2_on(backbone: str, stem: str) -> None:
    encoder = varied_encoder(backbone, stem)
    for size, grid in ((33, 5), (41, 6)):
        features = encoder(torch.randn(1, 3, size, size), intermediate=True)
        for stage, channels in CHANNELS[backbone].items():
            assert features.stage[stage].shape == (1, channels, grid, grid)
            shapes = [x.shape for x in features.intermediate[stage]]
            assert shapes == [(1, channels, grid, grid)] * COUNTS[backbone][stage]


@pytest.mark.parametrize("size, grids", [(33, (5, 3, 3)), (41, (6, 3, 3)), (50, (7, 4, 4)), (48, (6, 3, 3))])
@torch.no_grad()
def test_vgg_pools_in_ceil_mode(size: int, grids: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        features = build_encoder(EncoderSettings(backbone="vgg16"))(torch.empty(1, 3, size, size), intermediate=True)
    for (stage, channels), grid in zip(CHANNELS["vgg16"].items(), grids):
        assert features.stage[stage].shape == (1, channels, grid, grid)
    wanted = {2: (512, grids[0]), 3: (512, grids[1]), 4: (512, grids[2])}
    for stage, (channels, grid) in wanted.items():
        shapes = [x.shape for x in features.intermediate[stage]]
        assert shapes == [(1, channels, grid, grid)] * COUNTS["vgg16"][stage]


@pytest.mark.parametrize("backbone, width", [("resnet18", 64), ("resnet50", 64)])
def test_stems(backbone: str, width: int) -> None:
    deep = [m for m in bare_encoder(backbone, "deep").layer0 if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size, m.stride, m.bias) for m in deep]
    three = (3, 3)
    assert shapes[0] == (3, width, three, (2, 2), None)
    assert shapes[1:] == [(width, width, three, (1, 1), None), (width, 2 * width, three, (1, 1), None)]
    plain = [m for m in bare_encoder(backbone, "plain").layer0 if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in plain] == [(3, width, (7, 7), (2, 2))]


# --- intermediate features --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["resnet10_narrow", "vgg16"])
@torch.no_grad()
def test_a_cut_encoder_gives_the_same_up_to_its_last_stage(backbone: str) -> None:
    whole, cut = varied_encoder(backbone), varied_encoder(backbone, last_stage=3, seed=1)
    load_encoder(cut, whole.state_dict(), partial=False)
    image = torch.randn(1, 3, 33, 33)
    given, want = cut(image), whole(image)
    assert set(given.stage) == {2, 3}
    assert all(torch.equal(given.stage[s], want.stage[s]) for s in (2, 3))
