"""Encoders: grids, channels, dilation and intermediate features of every backbone."""

import pytest
import torch
from torch import nn

from model.encoders.layouts import load_encoder
from model.encoders.settings import EncoderSettings, build_encoder
from tests.model.varied import bare_encoder, varied_encoder


@pytest.mark.parametrize(
    "backbone, stem, channels, counts",
    [
        ("resnet10_narrow", "plain", (32, 64, 128), (1, 1, 1)),
        ("resnet18", "plain", (128, 256, 512), (2, 2, 2)),
        ("resnet50", "deep", (512, 1024, 2048), (4, 6, 3)),
    ],
)
def test_resnet_has_stride_8_from_stage_2_on(backbone: str, stem: str, channels: tuple, counts: tuple) -> None:
    encoder = bare_encoder(backbone, stem).eval()
    for size, grid in ((33, 5), (41, 6)):
        features = encoder(torch.empty(1, 3, size, size, device="meta"), intermediate=True)
        for stage, width, count in zip((2, 3, 4), channels, counts):
            assert features.stage[stage].shape == (1, width, grid, grid)
            assert [x.shape for x in features.intermediate[stage]] == [(1, width, grid, grid)] * count


@pytest.mark.parametrize("size, grids", [(33, (5, 3, 3)), (41, (6, 3, 3)), (50, (7, 4, 4)), (48, (6, 3, 3))])
def test_vgg_pools_in_ceil_mode(size: int, grids: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        features = build_encoder(EncoderSettings(backbone="vgg16"))(torch.empty(1, 3, size, size), intermediate=True)
    for stage, channels, count, grid in zip((2, 3, 4), (256, 512, 512), (3, 3, 1), grids):
        assert features.stage[stage].shape == (1, channels, grid, grid)
        assert [x.shape for x in features.intermediate[stage]] == [(1, 512, grid, grid)] * count


def test_stems() -> None:
    for stem, kernels, strides in (("deep", [3, 3, 3], [2, 1, 1]), ("plain", [7], [2])):
        convolutions = [m for m in bare_encoder("resnet50", stem).layer0 if isinstance(m, nn.Conv2d)]
        assert [m.kernel_size[0] for m in convolutions] == kernels
        assert [m.stride[0] for m in convolutions] == strides
        assert convolutions[-1].out_channels == (128 if stem == "deep" else 64)


@pytest.mark.parametrize("backbone", ["resnet10_narrow", "vgg16"])
@torch.no_grad()
def test_a_cut_encoder_gives_the_same_up_to_its_last_stage(backbone: str) -> None:
    whole, cut = varied_encoder(backbone), varied_encoder(backbone, last_stage=3, seed=1)
    load_encoder(cut, whole.state_dict(), partial=False)
    image = torch.randn(1, 3, 33, 33)
    given, want = cut(image), whole(image)
    assert set(given.stage) == {2, 3}
    assert all(torch.equal(given.stage[s], want.stage[s]) for s in (2, 3))
