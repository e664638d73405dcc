"""Devices and precision as a user meets them, and the network that is prepared for them, with the same results."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.utils.data import Dataset

from model.contract import FewShotMethod, Trainable
from model.episode import Episode, EpisodeOfOriginalSizes, LabelledImages, Output
from model.registry import methods
from tests.helpers.pretend import pretend_cuda
from tests.helpers.read import config_of
from tests.model.small import drawn_episode, small_model
from util.files.errors import PeerLost, UserError
from util.loop import device
from util.loop.network import check_prediction, prepare_network
from util.loop.processes import ProcessGroup, explained_memory_errors
from util.loop.score import score
from util.run import build
from util.run.build import build_model

FEW_GRAPHS = 30  # of a step and a prediction
MOST_GRAPHS = {"hmnet": 45, "pfenet": 8}  # HMNet has two breaks; PFENet had 30 with shapes that follow values
MORE_GRAPHS = 4  # of further sizes, where shapes follow values
NEVER_COMPILED = ("gfsam", "sam3")  # networks that come whole
SIZES = [((37, 51), (45, 40)), ((41, 33), (52, 56)), ((56, 43), (33, 48)), ((50, 35), (49, 53))]  # query, support
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
FLAGS = torch.backends.cuda.matmul, torch.backends.cudnn


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Compile the methods that ``--compiled`` names."""
    if "compiled_method" in metafunc.fixturenames:
        named = metafunc.config.getoption("--compiled")
        metafunc.parametrize("compiled_method", list(methods()) if named == "all" else named.split(","))


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
    with pytest.raises(UserError, match=f"run.device = {name}, GPU 0: .+; take cpu, cuda or another number of GPUs"):
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


@pytest.mark.parametrize(("bf16", "inside"), [(True, "medium"), (False, "highest")])
def test_float32_inside_is_rounded_where_the_rest_is(monkeypatch, bf16: bool, inside: str) -> None:
    a_card(monkeypatch, (8, 0))
    for precision in ("tf32", "float32", "bf16", "fp16"):
        device.take_precision(precision, GPU)
        assert all(flag.allow_tf32 == (precision != "float32") for flag in FLAGS)
    monkeypatch.setattr(device, "fast_bf16", lambda _: bf16)
    for precision, want in (("bf16", inside), ("fp16", "highest"), ("float32", "highest")):
        device.take_precision(precision, CPU)
        assert torch.get_float32_matmul_precision() == want and not torch.backends.cudnn.allow_tf32


CLOSE = {"atol": 1e-5, "rtol": 1e-5}


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


def test_a_gpu_takes_as_many_episodes_at_once_as_its_memory_holds(monkeypatch) -> None:
    assert device.episodes_at_once("auto", CPU, 2, 473) == 1 and device.episodes_at_once(5, GPU, 2, 473) == 5
    for gib, images, count in ((140, 2, 8), (140, 6, 8), (24, 2, 7), (24, 6, 2), (4, 6, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, gib=gib: (gib * 2**30, gib * 2**30))
        assert device.episodes_at_once("auto", GPU, images, 473) == count


def test_finite_weights_whose_prediction_overflows_are_refused(batch: LabelledImages) -> None:
    network = Tiny()
    check_prediction(network(batch).logits.isfinite().all())
    network.last.weight.data.fill_(1e38)
    network.first.bias.data.fill_(1e3)
    with pytest.raises(UserError, match="not finite"):
        check_prediction(network(batch).logits.isfinite().all())


class Places(Dataset):
    """Images whose one pixel is their place."""

    def __getitem__(self, place: int) -> LabelledImages:
        return LabelledImages(torch.tensor([float(place)]), torch.zeros(1))


class Reciprocal(Trainable):
    """A network on the pretended GPU, whose prediction of one place alone is not finite."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def forward(self, batch: LabelledImages) -> Output:
        return Output(1 / (batch.image.to(GPU) - self.place))


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_prediction_that_is_not_finite_in_the_middle_of_a_pass_is_refused(batch_size: int) -> None:
    """And a GPU is waited for at the first batch, every hundredth and the last."""

    def run(place: int) -> None:
        prepared = prepare_network(Reciprocal(place), GPU)
        score(prepared, Places(), 150 * batch_size, [], ProcessGroup(0, 1, CPU), title="test", batch=batch_size)

    with pretend_cuda() as gpu:
        run(place=-1)
        assert sum(gpu.waits.values()) == 3
        for place in (1, 103, 150 * batch_size - 2):
            with pytest.raises(UserError, match="not finite"):
                run(place)


@pytest.mark.compile
def test_a_network_that_cannot_be_compiled_runs_uncompiled(batch: LabelledImages, monkeypatch) -> None:
    compile_module = nn.Module.compile

    def refuse(*_: object) -> None:
        raise TypeError("no such operator")

    monkeypatch.setattr(nn.Module, "compile", lambda network: compile_module(network, backend=refuse))
    prepared = prepare_network(Tiny(), CPU, compile=True)
    torch.testing.assert_close(prepared.network(batch).logits, Tiny()(batch).logits, **CLOSE)


def test_a_network_is_compiled_where_the_config_says_so(mini_config, monkeypatch) -> None:
    called = []
    monkeypatch.setattr(nn.Module, "compile", lambda network: called.append(network))
    for value in (True, False):
        prepare_network(Tiny(), CPU, compile=mini_config(run={"compile": value}).run.compile)
    assert len(called) == 1


@pytest.mark.compile
def test_a_method_is_compiled_for_a_step_and_a_validation(compiled_method: str, monkeypatch, caplog) -> None:
    """The numbers stay; and no shape follows values, as each new shape would be compiled again."""
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda network: compile_module(network, backend="eager"))  # no minutes
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    plain = small_model(compiled_method, 1)
    prepared = prepare_network(small_model(compiled_method, 1), CPU, compile=True)
    episode = drawn_episode(compiled_method, 1, 2)
    if plain.learns:
        with prepared.autocast():  # as a training does: with fixed shapes
            step_of(plain, episode)
            step_of(prepared.network, episode)
    close = {"rtol": 1e-3, "atol": 1e-5} if compiled_method == "hdmnet" else CLOSE
    for parameter, plain_parameter in zip(prepared.network.parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (plain_parameter.grad is None)
        if plain_parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, plain_parameter.grad, **close)
    graphs = []
    for photo in (episode, *photos_of_a_validation(plain, compiled_method)):
        with torch.inference_mode():
            logits = prepared.predict([photo]).logits
            torch.testing.assert_close(logits, plain(photo).logits, rtol=1e-3, atol=1e-4)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    of_sides, *of_sizes = graphs
    assert of_sides <= MOST_GRAPHS.get(compiled_method, FEW_GRAPHS)
    is_compiled = compiled_method not in NEVER_COMPILED
    assert (of_sides > 0) == is_compiled == ("run.compile has no effect" not in caplog.text)
    assert of_sizes[-1] - of_sizes[0] <= (MORE_GRAPHS if plain.shapes_follow_values else 0)


def step_of(network: nn.Module, episode: Episode) -> None:
    """Compute the gradients of a step, with the same dropout for any network, and leave training mode."""
    network.train()
    torch.manual_seed(0)
    sum(network(episode).losses.values()).backward()
    network.eval()


def photos_of_a_validation(network: FewShotMethod, method: str) -> Iterator[Episode]:
    """Yield the episodes of a validation on original sizes, which a network gets letterboxed unless it takes any."""
    if not network.takes_any_size(network.settings):
        yield drawn_episode(method, 1, 2, seed=1)
        return
    for seed, (query, support) in enumerate(SIZES):
        drawn = drawn_episode(method, 1, 1, seed, size=57)
        images = {
            "query": part_of(drawn.query, query),
            "query_label": part_of(drawn.query_label, query),
            "support": [part_of(drawn.support[:, 0], support)],
            "support_label": [part_of(drawn.support_label[:, 0], support)],
        }
        yield EpisodeOfOriginalSizes(**vars(drawn) | images)


def part_of(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the top left of images, in memory of its own as a loader gives it."""
    return x[..., : size[0], : size[1]].clone(memory_format=torch.contiguous_format)
