"""prepare_network: the network itself on its device, at a precision, compiled or not, with the same results."""

import pytest
import torch
from torch import nn

from model.contract import Trainable
from model.episode import LabelledImages, Output
from util.config.read import read_config
from util.errors import UserError
from util.run.network import build_model, check_finite, prepare_network

CPU = torch.device("cpu")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


class Tiny(Trainable):
    """Two layers that learn."""

    masks_supports = False

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, batch: LabelledImages) -> Output:
        logits = self.last(self.first(batch.image).relu())
        return Output(logits, losses={"main": logits.square().mean()} if self.training else {})


def test_a_network_leaves_the_callers_random_numbers_alone(mini_yaml) -> None:
    config = read_config(mini_yaml())
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        drawn.append(build_model(config, 300).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(*(weights.values() for weights in drawn), strict=True))


@pytest.fixture
def batch() -> LabelledImages:
    return LabelledImages(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(5))


def test_it_is_the_network_itself_and_precision_is_that_of_its_calls(batch: LabelledImages) -> None:
    network = Tiny()
    full, half = prepare_network(network, CPU), prepare_network(network, CPU, "bf16")
    assert full.network is full.learner is half.network is network
    with full.autocast():
        expected = network(batch).logits
    with half.autocast():
        logits = network(batch).logits
    assert expected.dtype == torch.float32 and logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.02, rtol=0.02)


def test_finite_weights_whose_prediction_overflows_are_refused(batch: LabelledImages) -> None:
    network = Tiny()
    check_finite(network(batch))
    network.last.weight.data.fill_(1e38)
    network.first.bias.data.fill_(1e3)
    with pytest.raises(UserError, match="not finite"):
        check_finite(network(batch))


@pytest.mark.compile
def test_a_compiled_network_gives_the_same_outputs_and_gradients(batch: LabelledImages, monkeypatch) -> None:
    from torch._inductor import config  # seconds

    monkeypatch.setattr(config.cpp, "vec_isa_ok", True)  # without programs that try the processor, which take seconds
    plain, network = Tiny(), Tiny()
    prepared = prepare_network(network, CPU, compile=True)
    try:
        prepared.network(batch)
    except Exception as error:
        if "Compiler" in f"{type(error).__name__} {error}":
            pytest.skip(f"no working compiler: {str(error).splitlines()[0]}")
        raise
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert network.state_dict().keys() == plain.state_dict().keys()
    ours, expected = prepared.network(batch), plain(batch)
    torch.testing.assert_close(ours.logits, expected.logits, **CLOSE)
    for output in (ours, expected):
        output.losses["main"].backward()
    for own, other in zip(network.parameters(), plain.parameters(), strict=True):
        assert other.grad.abs().max() > 0
        torch.testing.assert_close(own.grad, other.grad, **CLOSE)
