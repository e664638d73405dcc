"""Devices and precision as a user meets them, and the network that is prepared for them, with the same results."""

import pytest
import torch
from torch import distributed, nn
from torch.utils.data import Dataset

from model.contract import Trainable
from model.episode import LabelledImages, Output
from tests.helpers.pretend import pretend_cuda
from tests.helpers.read import config_of
from util.files.errors import PeerLost, UserError
from util.loop import device
from util.loop.network import prepare_network
from util.loop.processes import ProcessGroup, explained_memory_errors
from util.loop.score import score
from util.run import build
from util.run.build import build_model

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FLAGS = torch.backends.cuda.matmul, torch.backends.cudnn


def a_card(monkeypatch, capability: tuple[int, int]) -> None:
    """Let torch say that there is a card of a compute capability."""
    answers = {
        "is_available": True,
        "device_count": 1,
        "get_device_name": "Card",
        "get_device_capability": capability,
        "set_device": None,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    device.fast_bf16.cache_clear()


@pytest.mark.parametrize("name", ["gpu", "hpu:0", "cuda:99"])
def test_a_device_that_does_not_work_is_refused_in_torchs_words(name: str) -> None:
    with pytest.raises(UserError, match=f"run.device = {name}, GPU 0: .+; take the CPU: 0"):
        device.pick_device(name)


NCCL = distributed.DistBackendError
ERRORS = [
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    RuntimeError("unable to mmap 8 bytes from file <a>: Cannot allocate memory (12)"),
    MemoryError("std::bad_alloc"),
    RuntimeError("Storage size calculation overflowed with sizes=[9, 9]"),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
]
LOST = [
    NCCL("ncclRemoteError: a call failed possibly due to a network error or a remote process exiting prematurely"),
    distributed.DistNetworkError("The client socket has timed out"),
    RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer"),
    NCCL("ncclSystemError: Last error: Bootstrap : no socket interface found"),
]


@pytest.mark.parametrize("error", [*ERRORS, *LOST])
def test_the_machines_errors_are_one_line(error: Exception) -> None:
    said = "cannot reach the others of the run" if error in LOST else "out of memory .*; lower it"
    with pytest.raises(UserError, match=said) as raised, explained_memory_errors("it"):
        raise error
    assert type(raised.value) is (PeerLost if error in LOST else UserError)


PRECISIONS = [  # run.precision, device, compute capability, and what it is in trainings and in tests
    (None, GPU, (8, 0), "tf32", "float32"),
    (None, GPU, (7, 5), "float32", "float32"),
    (None, CPU, (8, 0), "float32", "float32"),
    ("auto", GPU, (8, 0), "bf16", "float32"),
    ("auto", GPU, (7, 5), "float32", "float32"),
    ("auto", CPU, (8, 0), "bf16" if device.fast_bf16(CPU) else "float32", "float32"),
    ("tf32", GPU, (8, 0), "tf32", "tf32"),
    ("tf32", CPU, (8, 0), "float32", "float32"),
    ("float32", GPU, (8, 0), "float32", "float32"),
    ("bf16", CPU, (8, 0), "bf16", "bf16"),
    ("fp16", GPU, (7, 5), "fp16", "fp16"),
]


@pytest.mark.parametrize(("asked", "place", "capability", "training", "test"), PRECISIONS)
def test_a_choice_of_the_device_is_for_trainings_alone(
    monkeypatch, *, asked: str | None, place: torch.device, capability: tuple[int, int], training: str, test: str
) -> None:
    a_card(monkeypatch, capability)
    changes = [] if asked is None else [f"run.precision={asked}"]
    config = config_of("split0", "mini", "ssp", overrides=changes)
    assert build.precision_of_training(config, place) == training
    assert build.precision_of_test(config, place) == test
    device.fast_bf16.cache_clear()


def test_float32_inside_is_rounded_on_a_gpu_alone(monkeypatch) -> None:
    a_card(monkeypatch, (8, 0))
    for precision in ("tf32", "float32", "bf16", "fp16"):
        device.take_precision(precision, GPU)
        assert all(flag.allow_tf32 == (precision != "float32") for flag in FLAGS)
        device.take_precision(precision, CPU)
        assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32


class Tiny(Trainable):
    """Two layers that learn."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, batch: LabelledImages) -> Output:
        logits = self.last(self.first(batch.image).relu())
        return Output(logits, losses={"main": logits.square().mean()} if self.training else {})


def test_a_network_leaves_the_callers_random_numbers_alone(mini_config) -> None:
    config = mini_config()
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        weights.append(build_model(config, 300).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_it_is_the_network_itself_and_precision_is_that_of_its_calls() -> None:
    network, batch = Tiny(), LabelledImages(torch.linspace(-2, 2, 15).view(5, 3), torch.zeros(5))
    full, half = prepare_network(network, CPU), prepare_network(network, CPU, "bf16")
    assert full.network is full.learner is half.network is network
    with full.autocast():
        expected = network(batch).logits
    with half.autocast():
        logits = network(batch).logits
    assert expected.dtype == torch.float32 and logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.02, rtol=0.02)


def test_a_gpu_takes_as_many_episodes_at_once_as_its_memory_holds(monkeypatch) -> None:
    assert device.episodes_at_once("auto", CPU, 2, 473) == 1 and device.episodes_at_once(5, GPU, 2, 473) == 5
    for gib, images, count in ((140, 2, 8), (140, 6, 8), (24, 2, 7), (24, 6, 2), (4, 6, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, gib=gib: (gib * 2**30, gib * 2**30))
        assert device.episodes_at_once("auto", GPU, images, 473) == count


class Places(Dataset):
    """Images whose one pixel is their place."""

    def __getitem__(self, place: int) -> LabelledImages:
        return LabelledImages(torch.tensor([float(place)]), torch.zeros(1))


class Reciprocal(Trainable):
    """A network on the pretended GPU, whose prediction of one place alone is not finite; in training it drops half."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: LabelledImages) -> Output:
        return Output(1 / (self.dropout(batch.image.to(GPU)) - self.place))


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_prediction_that_is_not_finite_in_the_middle_of_a_pass_is_refused(batch_size: int) -> None:
    """And a GPU is waited for at the first batch, every hundredth and the last, and a network in training stays so."""

    def run(place: int) -> None:
        prepared = prepare_network(Reciprocal(place), GPU)
        score(prepared, Places(), 150 * batch_size, [], ProcessGroup(0, 1, CPU), title="test", batch=batch_size)
        assert prepared.network.training

    with pretend_cuda() as gpu:
        run(place=-1)
        assert sum(gpu.waits.values()) == 3
        for place in (1, 103, 150 * batch_size - 2):
            with pytest.raises(UserError, match="not finite"):
                run(place)
