"""Weights of encoders: every layout of the field loads, in whole or in part, and others are refused."""

import copy
import re

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet, vgg

from model.dcama.dcama import DCAMA
from model.encoders.layouts import fit, load_encoder
from model.encoders.residual import LAYERS
from model.encoders.settings import EncoderSettings, build_encoder
from model.mismatch import ModelMismatch
from tests.model.varied import bare_encoder, varied_encoder, vary_norms

COUNTER = "num_batches_tracked"


def same_state(state: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_layers_and_their_random_values_are_those_of_torchvision(name: str) -> None:
    torch.manual_seed(3)
    theirs = {key: value for key, value in getattr(resnet, name)().state_dict().items() if not key.startswith("fc.")}
    torch.manual_seed(3)
    assert same_state(LAYERS[name]().state_dict(), theirs)


@torch.no_grad()
def test_torchvision_weights_load_and_compute_the_same() -> None:
    net, encoder = vary_norms(resnet.resnet18(weights=None)).eval(), varied_encoder("resnet18")
    assert load_encoder(encoder, net.state_dict(), partial=False) == []
    net, encoder = copy.deepcopy(net).double(), encoder.double()
    x = image = torch.randn(2, 3, 33, 33, dtype=torch.float64)
    for part in (net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2):
        x = part(x)
    torch.testing.assert_close(encoder(image).stage[2], x)
    for stage in (3, 4):
        assert same_state(getattr(encoder, f"layer{stage}").state_dict(), getattr(net, f"layer{stage}").state_dict())


DEEP_NAMES = {
    "flat": {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"},
    "nested": {"0": "conv1.0", "1": "conv1.1", "3": "conv1.3", "4": "conv1.4", "6": "conv1.6", "7": "bn1"},
    "ours": {},
}


@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
@pytest.mark.parametrize("naming", DEEP_NAMES)
def test_deep_stem_files_load_under_every_naming(naming: str, prefix: str) -> None:
    source, encoder = varied_encoder("resnet10_narrow", "deep"), varied_encoder("resnet10_narrow", "deep", 0.5)
    state = {}
    for name, tensor in source.state_dict().items():
        stem = re.fullmatch(r"layer0\.(\d)\.(\w+)", name)
        if stem and naming != "ours":
            name = f"{DEEP_NAMES[naming][stem[1]]}.{stem[2]}"
        state[prefix + name] = tensor
    state |= {"fc.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)}
    assert not same_state(encoder.state_dict(), source.state_dict())
    assert load_encoder(encoder, state, partial=False) == []
    assert same_state(encoder.state_dict(), source.state_dict())


@torch.no_grad()
def test_torchvision_vgg_naming_loads() -> None:
    encoder, theirs = varied_encoder("vgg16"), vary_norms(vgg.make_layers(vgg.cfgs["D"], batch_norm=True)).state_dict()
    state = {f"features.{k}": v for k, v in theirs.items()} | {"classifier.0.weight": torch.zeros(2, 2)}
    assert load_encoder(encoder, state, partial=False) == []
    ours = [p for name, p in encoder.state_dict().items() if not name.endswith(COUNTER)]
    stored = [p for name, p in theirs.items() if not name.endswith(COUNTER)]
    assert all(torch.equal(a, b) for a, b in zip(ours, stored, strict=True))


@pytest.mark.parametrize("lacking", ["layer4.0.conv1.weight", "layer2.1.bn2.b"])
def test_files_that_lack_tensors_inside_a_stage_are_refused(lacking: str) -> None:
    state = {k: v for k, v in resnet.resnet18(weights=None).state_dict().items() if not k.startswith(lacking)}
    with pytest.raises(ModelMismatch, match=rf"not weights of this encoder, ResNet-18 .*{lacking}"):
        load_encoder(varied_encoder("resnet18"), state, partial=True)


@pytest.mark.parametrize("lacking", ["layer4", "layer1"])
def test_files_that_lack_a_stage_are_refused_unless_allowed(lacking: str) -> None:
    state = {k: v for k, v in resnet.resnet18(weights=None).state_dict().items() if not k.startswith(lacking)}
    encoder = varied_encoder("resnet18")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    missing = [k for k in before if k.startswith(lacking) and not k.endswith(COUNTER)]
    with pytest.raises(ModelMismatch, match=rf"{len(missing)} tensors are missing, from {re.escape(missing[0])}"):
        load_encoder(encoder, state, partial=False)
    assert same_state(encoder.state_dict(), before)
    assert load_encoder(encoder, state, partial=True) == missing
    assert torch.equal(encoder.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])
    assert torch.equal(encoder.state_dict()[missing[0]], before[missing[0]])


WRONG = {  # own backbone and stem, those of the file: another stem, a deeper one, a shallower one, blocks, a family
    ("resnet18", "deep", "resnet18", "plain"): ("ResNet-18 with a deep", "ResNet-18 with a plain"),
    ("resnet18", "plain", "resnet34", "plain"): ("ResNet-18", "ResNet-34"),
    ("resnet34", "plain", "resnet18", "plain"): ("ResNet-34", "ResNet-18"),
    ("resnet34", "plain", "resnet50", "plain"): ("ResNet-34", "ResNet-50"),
    ("resnet101", "plain", "resnet50", "plain"): ("ResNet-101", "ResNet-50"),
    ("vgg16", "plain", "resnet18", "plain"): ("VGG-16", "ResNet-18"),
}


@pytest.mark.filterwarnings("ignore:for .*copying from a non-meta parameter")
@pytest.mark.parametrize("case", WRONG)
def test_weights_of_another_encoder_are_refused_by_a_message_that_names_both(case: tuple[str, ...]) -> None:
    state = {k: torch.zeros(()).expand(v.shape) for k, v in bare_encoder(*case[2:]).state_dict().items()}
    with pytest.raises(ModelMismatch) as caught:
        load_encoder(bare_encoder(*case[:2]), state, partial=True)
    assert all(words in str(caught.value) for words in WRONG[case])


def test_both_spellings_of_swins_tensors_are_read() -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderSettings(backbone="swin_b"), variant=DCAMA.wants.variant)
    own, theirs, timm = encoder.state_dict(), {}, {}
    for ours, tensor in own.items():
        name = ours.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        name = name.replace("layer0.0.", "patch_embed.proj.").replace("layer0.2.", "patch_embed.norm.")
        for i in range(4):
            name = name.replace(f"layer{i + 1}.", f"layers.{i}.blocks.")
            name = name.replace(f"merge{i + 1}.", f"layers.{i}.downsample.")
        theirs[name] = tensor
        moved = re.sub(r"(\d)(?=\.downsample)", lambda m: str(int(m[0]) + 1), name)  # timm counts them otherwise
        timm[moved] = tensor
    unused = {"head.weight": None, "norm.weight": None, "layers.0.blocks.1.attn_mask": None}
    for given in (theirs | unused, {"head.fc.bias": None} | timm):
        found = fit(encoder, given)
        assert found.given.keys() == own.keys() and not found.foreign
        assert all(found.given[name] is tensor for name, tensor in own.items())
