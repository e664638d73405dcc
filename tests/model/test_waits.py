"""A pretended GPU sees waits and uploads; frozen norms are folded once, there and in bf16, anew after every change."""

import copy
from collections.abc import Callable, Iterator
from weakref import ref

import pytest
import torch
from torch import Tensor

from model.encoders.encoder import Encoder, folded
from model.encoders.settings import EncoderSettings, build_encoder
from model.encoders.variant import EncoderVariant
from tests.helpers.narrow import NARROW
from tests.helpers.pretend import GPU, PretendCuda, on_gpu, pretend_cuda
from tests.model.varied import vary_norms


def counted(gpu: PretendCuda, call: Callable[[], object]) -> tuple[int, int]:
    gpu.waits.clear(), gpu.uploads.clear()
    call()
    return sum(gpu.waits.values()), sum(gpu.uploads.values())


def test_a_wait_and_an_upload_are_seen() -> None:
    with pretend_cuda() as gpu:
        x = torch.arange(6.0).to(GPU)
        assert on_gpu(x)
        for wait in (x.sum().item, lambda: x[x > 2], x.tolist):
            assert counted(gpu, wait) == (1, 0)
        for upload in (lambda: torch.tensor([1.0], device=x.device), lambda: x.new_tensor([1.0])):
            assert counted(gpu, upload) == (0, 1)
        with pytest.raises(RuntimeError, match="two devices"):
            x + torch.ones(6)
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()


@pytest.fixture(params=["cuda", "cpu"])
def keeps(request) -> Iterator[str]:
    """Return a device that keeps folds: a GPU, or a CPU in automatic mixed precision."""
    with pretend_cuda() if request.param == "cuda" else torch.autocast("cpu", torch.bfloat16):
        yield request.param


def test_frozen_norms_are_folded_once_and_anew_after_every_change(keeps: str) -> None:
    encoder, image = frozen_encoder(keeps)
    with torch.inference_mode():
        encoder(image)  # a fold that is made here serves training, too
    conv, norm = encoder.layer1[0].conv1, encoder.layer1[0].bn1
    before = encoder.state_dict()
    assert is_right(encoder, image)
    assert folded(conv, norm)[0] is folded(conv, norm)[0]
    halved = {name: 0.5 * x if x.is_floating_point() else x for name, x in before.items()}
    for change in (
        torch.no_grad()(lambda: conv.weight.mul_(2)),
        lambda: norm.running_var.mul_(3),
        torch.inference_mode()(lambda: norm.bias.add_(1)),
        lambda: encoder.load_state_dict(halved),
        lambda: encoder.load_state_dict(copy.deepcopy(before), assign=True),
        lambda: encoder.bfloat16().float(),
        lambda: (norm.train(), encoder(image), norm.eval()),  # changes the statistics
    ):
        change()
        assert is_right(encoder, image)
    other = copy.deepcopy(encoder)
    with torch.no_grad():
        other.layer1[0].conv1.weight.mul_(3)
    assert is_right(other, image)
    assert is_right(encoder, image)


def test_a_norm_is_folded_anew_after_a_step_of_its_convolution(keeps: str) -> None:
    encoder, image = frozen_encoder(keeps)
    conv, norm = encoder.layer1[0].conv1, encoder.layer1[0].bn1
    weight = conv.weight
    assert is_right(encoder, image)
    weight.requires_grad_(True)
    with torch.no_grad():
        assert folded(conv, norm)[0] is folded(conv, norm)[0]
        assert is_right(encoder, image)
    encoder(image).stage[4].sum().backward()
    assert weight.grad.abs().sum() > 0
    torch.optim.SGD([weight], lr=0.1, fused=True).step()
    weight.requires_grad_(False)
    assert is_right(encoder, image)


def test_a_network_in_float32_keeps_no_folds_on_a_cpu() -> None:
    encoder, image = frozen_encoder("cpu")
    conv, norm = encoder.layer1[0].conv1, encoder.layer1[0].bn1
    with torch.autocast("cpu", torch.bfloat16):
        half = ref(folded(conv, norm)[0])
        assert half().dtype == torch.bfloat16
    encoder(image)
    assert half() is None
    assert folded(conv, norm)[0] is not folded(conv, norm)[0]


def frozen_encoder(place: str) -> tuple[Encoder, Tensor]:
    """Return an encoder and an image on a device."""
    torch.manual_seed(0)
    encoder = build_encoder(EncoderSettings(NARROW, "plain"), variant=EncoderVariant()).eval()
    vary_norms(encoder)
    encoder.requires_grad_(False).to(place)
    return encoder, torch.rand(1, 3, 33, 33).to(place)


def is_right(encoder: Encoder, image: Tensor) -> bool:
    """Say whether the encoder does what a copy does, of which nothing is kept yet."""
    with torch.no_grad():
        want = copy.deepcopy(encoder)(image).stage[4]
        return torch.allclose(encoder(image).stage[4].cpu(), want.cpu(), atol=1e-4)
