"""An encoder of one's own is one class of any module: methods train on it, and take it for what it offers."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from model.encoders.layouts import load_encoder
from model.encoders.registry import ENCODERS, build, register_encoder
from model.encoders.settings import EncoderSettings
from model.mismatch import ModelMismatch
from model.registry import methods
from model.tensors.mask import Mask
from tests.model.seeded import seeded_model
from tests.model.small import WITH_ENCODER

CODE = '''
from torch import nn
from model.encoders.encoder import Encoder
from model.encoders.registry import register_encoder


@register_encoder("plain_stack", "Plain stack", grids=(4, 8, 16, 16))
class PlainStack(Encoder):
    """Convolutions with ReLUs; stage 4 keeps the grid of stage 3."""

    def __init__(self, backbone, stem, last_stage, variant):
        super().__init__(last_stage, variant, {1: 8, 2: 16, 3: 24, 4: 32})
        widths, strides = (3, 8, 8, 16, 24, 32), (2, 2, 2, 2, 1)
        for i in range(last_stage + 1):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, strides[i], 1, bias=False)
            setattr(self, f"layer{i}", nn.Sequential(conv, nn.BatchNorm2d(widths[i + 1]), nn.ReLU()))
'''
REFUSED = {"hsnet"}  # whose levels need grids that halve


def module_of(path: Path, code: str) -> ModuleType:
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plain_stack(tmp_path: Path) -> Iterator[ModuleType]:
    """Give a module outside the project that registers an encoder."""
    yield module_of(tmp_path / "mylab_encoders.py", CODE)
    del ENCODERS["plain_stack"], sys.modules["mylab_encoders"]


def test_methods_accept_an_own_encoder_by_what_it_offers(plain_stack: ModuleType) -> None:
    settings = EncoderSettings("plain_stack")
    problems = {
        name: methods()[name].encoder_problem(methods()[name].Settings(encoder=settings)) for name in WITH_ENCODER
    }
    assert {name for name, problem in problems.items() if problem} == REFUSED
    _, message = problems["hsnet"]
    assert "HSNet: it needs stages 2, 3 and 4 at strides that double; " in message
    assert "Plain stack offers stages 2, 3 and 4 at strides 8, 16 and 16; it takes resnet10" in message
    assert build("plain_stack", variant=methods()["pocket"].wants.variant).intermediate_counts == {4: 1}
    settings.output_stride = 8
    assert methods()["bam"].encoder_problem(methods()["bam"].Settings(encoder=settings)) == (
        "output_stride",
        "= 8 does not go with Plain stack; its grid is fixed: leave it null",
    )


@torch.no_grad()
def test_an_own_encoder_masks_supports_and_loads_its_weights(plain_stack: ModuleType) -> None:
    encoder = build("plain_stack").eval()
    image = torch.rand(1, 3, 33, 33)
    whole = Mask(torch.ones(1, 33, 33, dtype=torch.uint8))
    torch.testing.assert_close(encoder.forward_masked(image, whole, 3).stage[4], encoder(image).stage[4])
    network = seeded_model("bam", 1, "plain_stack")
    assert load_encoder(network.encoder, encoder.state_dict(), partial=False) == []
    with pytest.raises(ModelMismatch, match=r"not weights of this encoder, Plain stack .*: it holds ResNet-10"):
        load_encoder(network.encoder, build("resnet10").state_dict(), partial=False)


def test_a_name_that_two_modules_register_is_refused_with_both(plain_stack: ModuleType, tmp_path: Path) -> None:
    module_of(tmp_path / "mylab_encoders.py", CODE)  # the same file once more
    with pytest.raises(ValueError, match=r"'plain_stack' is registered twice, by mylab_encoders .* and other_lab "):
        module_of(tmp_path / "other_lab.py", CODE)
    with pytest.raises(ValueError, match=r"backbone 'resnet50' is registered twice, by model\.encoders\.resnet "):
        register_encoder("resnet50", "My ResNet")(plain_stack.PlainStack)
