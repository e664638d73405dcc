"""Encoders: grids, channels and taps of every backbone, dilation, and the weight layouts that fill them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet as tv_resnet
from torchvision.models import vgg as tv_vgg

from model.contract import Mismatch
from model.encoder import Encoder, EncoderSettings, build_encoder, encode_together
from model.encoder_weights import load_encoder

TAPS = {
    "resnet10": {2: 1, 3: 1, 4: 1},
    "resnet18": {2: 2, 3: 2, 4: 2},
    "resnet34": {2: 4, 3: 6, 4: 3},
    "resnet50": {2: 4, 3: 6, 4: 3},
    "resnet101": {2: 4, 3: 23, 4: 3},
    "vgg16": {2: 3, 3: 3, 4: 1},
}
CHANNELS = {
    "resnet10": {2: 128, 3: 256, 4: 512},
    "resnet18": {2: 128, 3: 256, 4: 512},
    "resnet34": {2: 128, 3: 256, 4: 512},
    "resnet50": {2: 512, 3: 1024, 4: 2048},
    "resnet101": {2: 512, 3: 1024, 4: 2048},
    "vgg16": {2: 256, 3: 512, 4: 512},
}
STEMS = ("deep", "plain")
COUNTER = "num_batches_tracked"


def _encoder(backbone: str, stem: str = "plain", last_stage: int = 4, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    encoder = build_encoder(EncoderSettings(backbone=backbone, stem=stem), last_stage)
    return _vary_norms(encoder).eval()


def _vary_norms(network: nn.Module) -> nn.Module:
    """Give every batch norm statistics of its own, so that a mix-up of layers shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network


def _bare(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to look at its layers."""
    with torch.device("meta"):
        return build_encoder(EncoderSettings(backbone=backbone, stem=stem))


@pytest.fixture(scope="module")
def torchvision_resnet18() -> nn.Module:
    torch.manual_seed(1)
    return _vary_norms(tv_resnet.resnet18(weights=None)).eval()


@pytest.fixture(scope="module")
def torchvision_vgg16() -> nn.Sequential:
    torch.manual_seed(2)
    return _vary_norms(tv_vgg.make_layers(tv_vgg.cfgs["D"], batch_norm=True)).eval()


def _same(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone, stem", [("resnet18", "deep"), ("resnet34", "plain"), ("resnet50", "deep")])
@torch.no_grad()
def test_resnet_has_stride_8_from_stage_2_on(backbone: str, stem: str) -> None:
    encoder = _encoder(backbone, stem)
    for size, grid in ((33, 5), (41, 6)):
        features = encoder(torch.randn(1, 3, size, size), taps=True)
        for stage, channels in CHANNELS[backbone].items():
            assert features.stage[stage].shape == (1, channels, grid, grid)
            assert [tap.shape for tap in features.taps[stage]] == [(1, channels, grid, grid)] * TAPS[backbone][stage]


@pytest.mark.parametrize("size, grids", [(33, (5, 3, 3)), (41, (6, 3, 3)), (50, (7, 4, 4)), (48, (6, 3, 3))])
@torch.no_grad()
def test_vgg_pools_in_ceil_mode(size: int, grids: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        features = build_encoder(EncoderSettings(backbone="vgg16"))(torch.empty(1, 3, size, size), taps=True)
    for (stage, channels), grid in zip(CHANNELS["vgg16"].items(), grids):
        assert features.stage[stage].shape == (1, channels, grid, grid)
    wanted = {2: (512, grids[0]), 3: (512, grids[1]), 4: (512, grids[2])}
    for stage, (channels, grid) in wanted.items():
        assert [tap.shape for tap in features.taps[stage]] == [(1, channels, grid, grid)] * TAPS["vgg16"][stage]


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("backbone", TAPS)
def test_declared_channels_and_tap_counts(backbone: str, stem: str) -> None:
    encoder = _bare(backbone, stem)
    assert encoder.channels == CHANNELS[backbone]
    assert encoder.tap_counts == TAPS[backbone]
    assert len(encoder.stages()) == 5


@pytest.mark.parametrize("backbone, width", [("resnet18", 64), ("resnet50", 64)])
def test_stems(backbone: str, width: int) -> None:
    deep = [m for m in _bare(backbone, "deep").layer0 if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size, m.stride, m.bias) for m in deep]
    three = (3, 3)
    assert shapes[0] == (3, width, three, (2, 2), None)
    assert shapes[1:] == [(width, width, three, (1, 1), None), (width, 2 * width, three, (1, 1), None)]
    plain = [m for m in _bare(backbone, "plain").layer0 if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in plain] == [(3, width, (7, 7), (2, 2))]


@pytest.mark.parametrize("backbone", [name for name in TAPS if name != "vgg16"])
def test_stages_3_and_4_trade_stride_for_dilation_in_every_block(backbone: str) -> None:
    encoder = _bare(backbone, "deep")
    for stage, dilation in ((1, 1), (2, 1), (3, 2), (4, 4)):
        convs = [(n, m) for n, m in getattr(encoder, f"layer{stage}").named_modules() if isinstance(m, nn.Conv2d)]
        strided = [name for name, conv in convs if conv.stride != (1, 1)]
        three_by_three = "0.conv2" if backbone in ("resnet50", "resnet101") else "0.conv1"
        assert strided == ([three_by_three, "0.downsample.0"] if stage == 2 else [])
        for name, conv in convs:
            inside = conv.kernel_size == (3, 3)
            assert conv.dilation == ((dilation, dilation) if inside else (1, 1)), name
            assert conv.padding == ((dilation, dilation) if inside else (0, 0)), name


# --- taps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone, stem", [("resnet18", "plain"), ("resnet50", "deep")])
@torch.no_grad()
def test_taps_are_the_blocks_before_their_last_relu(backbone: str, stem: str) -> None:
    encoder = _encoder(backbone, stem)
    image = torch.randn(2, 3, 33, 33)
    features = encoder(image, taps=True)
    x = encoder.layer1(encoder.layer0(image))
    for stage in (2, 3, 4):
        assert torch.equal(features.taps[stage][-1].relu(), features.stage[stage])
        for block, tap in zip(getattr(encoder, f"layer{stage}"), features.taps[stage], strict=True):
            x = block(x)  # torchvision's own forward
            torch.testing.assert_close(tap.relu(), x)
            assert tap.min() < 0


@torch.no_grad()
def test_vgg_taps_are_raw_convolutions_of_its_last_six_and_its_output(torchvision_vgg16: nn.Sequential) -> None:
    encoder = _encoder("vgg16")
    load_encoder(encoder, {f"features.{k}": v for k, v in torchvision_vgg16.state_dict().items()}, partial=False)
    x = image = torch.randn(1, 3, 64, 64)
    raw = []
    for layer in torchvision_vgg16[:-1]:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            raw.append(x.clone())
    features = encoder(image, taps=True)
    for ours, theirs in zip(features.taps[2] + features.taps[3], raw[-6:], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.equal(features.taps[4][0], features.stage[4])
    torch.testing.assert_close(features.stage[4], x)


@torch.no_grad()
def test_taps_are_kept_only_when_asked_for() -> None:
    encoder, image = _encoder("resnet18"), torch.randn(1, 3, 33, 33)
    plain, tapped = encoder(image), encoder(image, taps=True)
    assert not any(plain.taps.values())
    assert all(torch.equal(plain.stage[s], tapped.stage[s]) for s in (2, 3, 4))


@pytest.mark.parametrize("backbone", ["resnet18", "vgg16"])
@torch.no_grad()
def test_a_cut_encoder_gives_the_same_up_to_its_last_stage(backbone: str) -> None:
    whole, cut = _encoder(backbone), _encoder(backbone, last_stage=3, seed=1)
    load_encoder(cut, whole.state_dict(), partial=False)
    image = torch.randn(1, 3, 33, 33)
    given, want = cut(image), whole(image)
    assert set(given.stage) == {2, 3}
    assert all(torch.equal(given.stage[s], want.stage[s]) for s in (2, 3))


@torch.no_grad()
def test_encoding_together_equals_encoding_apart() -> None:
    encoder = _encoder("resnet18", "deep")
    query, support = torch.randn(2, 3, 33, 33), torch.randn(2, 3, 3, 33, 33)
    ours = encode_together(encoder, query, support, taps=True)
    apart = encoder(query, taps=True), encoder(support.flatten(0, 1), taps=True)
    for given, want in zip(ours, apart, strict=True):
        for stage in (2, 3, 4):
            torch.testing.assert_close(given.stage[stage], want.stage[stage])
            for tap, wanted in zip(given.taps[stage], want.taps[stage], strict=True):
                torch.testing.assert_close(tap, wanted)


# --- weights ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_torchvision_weights_load_and_compute_the_same(torchvision_resnet18: nn.Module) -> None:
    net, encoder = torchvision_resnet18, _encoder("resnet18")
    assert load_encoder(encoder, net.state_dict(), partial=False) == []
    x = image = torch.randn(2, 3, 33, 33)
    for part in (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2):
        x = part(x)
    torch.testing.assert_close(encoder(image).stage[2], x)
    for stage in (3, 4):
        assert _same(getattr(encoder, f"layer{stage}").state_dict(), getattr(net, f"layer{stage}").state_dict())


def test_float16_files_load_into_float32(torchvision_resnet18: nn.Module) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in torchvision_resnet18.state_dict().items()}
    encoder = _encoder("resnet18")
    assert load_encoder(encoder, state, partial=False) == []
    assert all(p.dtype == torch.float32 for p in encoder.parameters())
    assert torch.equal(encoder.layer4[1].conv2.weight, state["layer4.1.conv2.weight"].float())


DEEP_NAMES = {
    "flat": {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"},
    "nested": {"0": "conv1.0", "1": "conv1.1", "3": "conv1.3", "4": "conv1.4", "6": "conv1.6", "7": "bn1"},
    "ours": {},
}


@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
@pytest.mark.parametrize("naming", DEEP_NAMES)
def test_deep_stem_files_load_under_every_naming(naming: str, prefix: str) -> None:
    source, encoder = _encoder("resnet18", "deep"), _encoder("resnet18", "deep", seed=1)
    state = {}
    for name, tensor in source.state_dict().items():
        stem = re.fullmatch(r"layer0\.(\d)\.(\w+)", name)
        if stem and naming != "ours":
            name = f"{DEEP_NAMES[naming][stem[1]]}.{stem[2]}"
        state[prefix + name] = tensor
    state |= {"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}
    assert not _same(encoder.state_dict(), source.state_dict())
    assert load_encoder(encoder, state, partial=False) == []
    assert _same(encoder.state_dict(), source.state_dict())


@torch.no_grad()
def test_torchvision_vgg_naming_loads(torchvision_vgg16: nn.Sequential) -> None:
    encoder = _encoder("vgg16")
    state = {f"features.{k}": v for k, v in torchvision_vgg16.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    assert load_encoder(encoder, state, partial=False) == []
    ours = [p for name, p in encoder.state_dict().items() if not name.endswith(COUNTER)]
    theirs = [p for name, p in torchvision_vgg16.state_dict().items() if not name.endswith(COUNTER)]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_file_without_counters_is_complete(torchvision_resnet18: nn.Module) -> None:
    state = {k: v for k, v in torchvision_resnet18.state_dict().items() if not k.endswith(COUNTER)}
    assert load_encoder(_encoder("resnet18"), state, partial=False) == []


def test_partial_files_are_refused_unless_allowed(torchvision_resnet18: nn.Module) -> None:
    state = {k: v for k, v in torchvision_resnet18.state_dict().items() if not k.startswith("layer4")}
    encoder = _encoder("resnet18")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    missing = [k for k in before if k.startswith("layer4") and not k.endswith(COUNTER)]
    with pytest.raises(Mismatch, match=rf"{len(missing)} tensors are missing, from {re.escape(missing[0])}"):
        load_encoder(encoder, state, partial=False)
    assert _same(encoder.state_dict(), before)
    assert load_encoder(encoder, state, partial=True) == missing
    assert torch.equal(encoder.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])
    assert torch.equal(encoder.layer4[0].conv1.weight, before["layer4.0.conv1.weight"])


WRONG = {  # (own backbone, own stem), (file's backbone, file's stem), what the message says of each
    "plain file, deep stem": (("resnet18", "deep"), ("resnet18", "plain"), "deep 3x3", "plain 7x7"),
    "deep file, plain stem": (("resnet18", "plain"), ("resnet18", "deep"), "plain 7x7", "deep 3x3"),
    "deeper file": (("resnet18", "plain"), ("resnet34", "plain"), "2 basic blocks", "6 basic blocks"),
    "shallower file": (("resnet34", "plain"), ("resnet18", "plain"), "6 basic blocks", "2 basic blocks"),
    "tiny file": (("resnet18", "plain"), ("resnet10", "plain"), "2 basic blocks", "1 basic block"),
    "much shallower file": (("resnet101", "deep"), ("resnet50", "deep"), "23 bottlenecks", "6 bottlenecks"),
    "bottleneck file": (("resnet34", "plain"), ("resnet50", "plain"), "6 basic blocks", "6 bottlenecks"),
    "basic file": (("resnet50", "plain"), ("resnet34", "plain"), "6 bottlenecks", "6 basic blocks"),
    "vgg file": (("resnet18", "plain"), ("vgg16", "plain"), "ResNet", "VGG-16"),
    "resnet file": (("vgg16", "plain"), ("resnet18", "plain"), "VGG-16", "ResNet"),
}


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("case", WRONG)
def test_weights_of_another_encoder_are_refused_by_a_message_that_names_both(case: str, partial: bool) -> None:
    (backbone, stem), given, want_words, given_words = WRONG[case]
    state = {k: torch.zeros(()).expand(v.shape) for k, v in _bare(*given).state_dict().items()}
    with pytest.raises(Mismatch) as caught:
        load_encoder(_bare(backbone, stem), state, partial)
    assert want_words in str(caught.value)
    assert given_words in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_name(torchvision_resnet18: nn.Module, value: float) -> None:
    state = {k: v.clone() for k, v in torchvision_resnet18.state_dict().items()}
    state["layer3.1.bn2.running_var"][5] = value
    with pytest.raises(Mismatch, match=r"layer3\.1\.bn2\.running_var.*finite"):
        load_encoder(_encoder("resnet18"), state, partial=False)


def test_a_file_of_something_else_is_refused() -> None:
    with pytest.raises(Mismatch, match="no encoder known here"):
        load_encoder(_encoder("resnet18"), {"head.weight": torch.zeros(3)}, partial=True)


@torch.no_grad()
def test_a_file_that_ends_at_layer3_leaves_only_layer4_random(shared: Path) -> None:
    state = torch.load(shared / "initmodel" / "resnet50-imagenet-conv1-to-layer3.pth", weights_only=True)
    encoder = _encoder("resnet50")
    layer4 = [f"layer4.{k}" for k in encoder.layer4.state_dict() if not k.endswith(COUNTER)]
    assert load_encoder(encoder, state, partial=True) == layer4
    assert torch.equal(encoder.layer3[5].conv2.weight, state["layer3.5.conv2.weight"].float())
    assert torch.equal(encoder.layer0[0].weight, state["conv1.weight"].float())
    image = F.interpolate(torch.randn(1, 3, 5, 5), size=33, mode="bilinear")
    assert encoder(image).stage[3].isfinite().all()
