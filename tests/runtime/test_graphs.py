"""Replayed calls give what calls give; what cannot be recorded goes on as it is. Without a GPU one is pretended."""

import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing import start_processes

from model.common.loss import batch_mean
from model.episode import Batch, LabelledImages, Output
from model.registry import models
from tests.helpers.pretend import GPU, pretend_cuda
from tests.model.small import drawn_episode, small_model, without_dropout
from util.runtime import graphs
from util.runtime.graphs import CALLS_BEFORE, Call, Recording, Replayed, record_graph
from util.runtime.network import PreparedNetwork, prepare_network
from util.runtime.processes import ProcessGroup
from util.train.gradients import backward, replay, replayed_gradients

CLOSE = {"rtol": 1e-3, "atol": 1e-5}
REPLAYED = sorted(name for name, model_class in models().items() if getattr(model_class, "replays", False))


@pytest.fixture
def recorded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first call be recorded, after one call more."""
    monkeypatch.setattr(graphs, "CALLS_BEFORE", 1)
    monkeypatch.setattr(graphs, "WARM_UP", 1)


def prepared_with(network: nn.Module, record=record_graph) -> PreparedNetwork:
    """Return a network whose predictions are replayed, as ``record`` has it."""
    plain = prepare_network(network, GPU)
    replayed = Replayed(plain.predict, network, "float32", copies=True, record=record)
    return PreparedNetwork(network, network, GPU, "float32", replayed)


@torch.no_grad()
@pytest.mark.compile
@pytest.mark.usefixtures("gpu", "recorded_at_once")
@pytest.mark.parametrize("name", REPLAYED)
def test_replayed_predictions_of_every_method_are_those_of_calls(name: str) -> None:
    network = small_model(name, 2).to(GPU)
    prepared = prepare_network(network, GPU, graphs="auto")
    replayed = prepared.replayed
    assert replayed is not None
    episodes = [drawn_episode(name, 2, 1, seed).to(GPU) for seed in range(2)]
    outputs: list[Output] = [prepared.predict([episode]) for episode in episodes]
    assert len(replayed.recordings) == 1
    for output, episode in zip(outputs, episodes, strict=True):
        torch.testing.assert_close(output.logits, network(episode).logits, **CLOSE)


@torch.no_grad()
def test_smaller_batches_are_called(gpu) -> None:
    network = small_model("pfenet", 1).to(GPU)
    prepared = prepare_network(network, GPU, graphs="auto")
    for _ in range(CALLS_BEFORE):
        prepared.predict([drawn_episode("pfenet", 1, 2).to(GPU)])
    smaller = drawn_episode("pfenet", 1, 1).to(GPU)
    output = prepared.predict([smaller])
    assert prepared.replayed is not None and len(prepared.replayed.recordings) == 1
    torch.testing.assert_close(output.logits, network(smaller).logits, **CLOSE)


@torch.no_grad()
def test_a_changed_frozen_weight_is_not_replayed(gpu) -> None:
    """A recording may hold what was made of it."""
    network = small_model("symnet", 1).to(GPU)
    prepared = prepared_with(network)
    assert prepared.replayed is not None
    recordings = prepared.replayed.recordings
    episode = drawn_episode("symnet", 1, 1).to(GPU)
    for _ in range(CALLS_BEFORE):
        prepared.predict([episode])
    (before,) = recordings.values()
    network.encoder.layer1[0].conv1.weight.mul_(2)
    output = prepared.predict([episode])
    assert all(recording is not before for recording in recordings.values())
    torch.testing.assert_close(output.logits, network(episode).logits, **CLOSE)


def steps(network: nn.Module, batches: Sequence[Batch], replayed: bool, world: ProcessGroup | None = None) -> None:
    """Train for a step a batch, as ``optimiser_step``."""
    processes = world.size if world else 1
    prepared = prepare_network(network.train(), GPU, processes=processes, graphs="auto")
    step = replayed_gradients(prepared, 1, world)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    assert step is not None and replayed_gradients(prepared, 2) is None
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        optimizer.zero_grad(set_to_none=True)
        if replayed:
            replay(step, batch.to(GPU))
        else:
            backward(prepared, torch.amp.GradScaler(GPU.type, enabled=False), batch.to(GPU), 1, last=True)
        optimizer.step()
    assert step.works and len(step.recordings) == replayed


@pytest.mark.compile
@pytest.mark.usefixtures("gpu", "recorded_at_once")
@pytest.mark.parametrize("name", [*(name for name in REPLAYED if models()[name].learns), "base stage"])
def test_a_training_of_replayed_steps_learns_the_same(name: str) -> None:
    """Dropout included; the base stage's norms learn."""
    method = "bam" if name == "base stage" else name
    batches: list[Batch] = [drawn_episode(method, 1, 2, seed) for seed in range(2)]
    if name == "base stage":
        replayed, called = (small_model("bam", 1).base_stage() for _ in range(2))
        batches = [LabelledImages(episode.query, episode.query_label) for episode in batches]
    else:
        replayed, called = (small_model(name, 1) for _ in range(2))
    steps(replayed, batches, replayed=True)
    steps(called, batches, replayed=False)
    torch.testing.assert_close(replayed.state_dict(), called.state_dict(), **CLOSE)


class Recolour(nn.Module):
    """A network of a few operators, and what it does beside them."""

    replays = True

    def __init__(self, beside=lambda x: x):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 1, 1))
        self.beside = beside

    def forward(self, images: LabelledImages) -> Output:
        scaled = self.beside(self.weight * images.image.float())
        total = scaled.sum((1, 2, 3)).square().sum()
        return Output(scaled, losses={"square": batch_mean(total, (images.label == 1).sum())})


def _images(seed: int) -> LabelledImages:
    episode = drawn_episode("prototype", 1, 2, seed)
    return LabelledImages(episode.query, episode.query_label)


class _WaitsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient[gradient == gradient].view(gradient.shape)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (lambda x: x * x.mean().item(), "not permitted when stream is capturing"),
        (lambda x: x * torch.tensor([2.0], device=x.device), "not permitted when stream is capturing"),
        (_WaitsBackward.apply, "not permitted when stream is capturing"),
        (lambda x: x * random.random(), "differ"),  # a number of Python's stays what it was
    ],
    ids=["wait", "upload", "wait in the backward pass", "Python's number"],
)
def test_what_cannot_be_replayed_is_said_once_and_calls_go_on(beside, said: str, gpu, caplog) -> None:
    prepared = prepare_network(Recolour(beside), GPU, graphs="auto")
    step = replayed_gradients(prepared, 1)
    assert step is not None
    with caplog.at_level(logging.INFO):
        for seed in range(CALLS_BEFORE + 2):
            losses = replay(step, _images(seed).to(GPU))
            assert losses["square"].isfinite()
    lines = [r.message for r in caplog.records if r.message.startswith("run.graphs: no CUDA graph of")]
    assert len(lines) == 1 and said in lines[0] and "\n" not in lines[0]
    assert not step.works and not step.recordings


def wrong(call: Call, batches: Sequence[Batch]) -> Recording:
    """Record what replays other numbers."""
    recording = record_graph(call, batches)
    replay_rightly = recording.replay

    def replay_wrongly() -> None:
        replay_rightly()
        recording.output.tensors()[0].mul_(3)

    recording.replay = replay_wrongly
    return recording


def failing(call: Call, batches: Sequence[Batch]) -> Recording:
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


def failing_at_the_end(call: Call, batches: Sequence[Batch]) -> Recording:
    record_graph(call, batches)
    raise RuntimeError("out of luck")


@pytest.mark.parametrize(("record", "said"), [(wrong, "differ"), (failing, "not permitted when stream is capturing")])
@torch.inference_mode()
def test_a_recording_that_fails_is_said_once_and_calls_go_on(record, said: str, gpu, caplog) -> None:
    network = small_model("prototype", 1).to(GPU)
    prepared, episode = prepared_with(network, record), drawn_episode("prototype", 1, 1).to(GPU)
    with caplog.at_level(logging.INFO):
        outputs = [prepared.predict([episode]) for _ in range(CALLS_BEFORE + 2)]
    lines = [r.message for r in caplog.records if r.message.startswith("run.graphs: no CUDA graph of")]
    assert len(lines) == 1 and said in lines[0] and "\n" not in lines[0]
    for output in outputs:
        torch.testing.assert_close(output.logits, network(episode).logits)


def test_gradients_have_memory_of_their_own(gpu) -> None:
    network = small_model("hsnet", 1).train()  # a convolution adds two biases, whose gradients are one tensor
    step = replayed_gradients(prepare_network(network, GPU, graphs="auto"), 1)
    assert step is not None
    replay(step, drawn_episode("hsnet", 1, 2).to(GPU))
    given = [p.grad for p in network.parameters() if p.grad is not None]
    assert given and len({x.data_ptr() for x in given}) == len(given)
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.stride() == parameter.stride()


def _be_one_of_two_processes(rank: int, folder: Path) -> None:
    """Train with replayed steps and without, and write the weights of both; then fail to record in one process."""
    with pretend_cuda():
        distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
        world = ProcessGroup(rank, 2, GPU)
        batches = [drawn_episode("pfenet", 1, 2, seed=2 * step + rank) for step in range(CALLS_BEFORE + 1)]
        for replayed in (True, False):
            network = small_model("pfenet", 1)
            without_dropout(network)
            steps(network, batches, replayed, world)
            weights = {name: x.cpu() for name, x in network.state_dict().items()}
            torch.save(weights, folder / f"{rank}_{replayed}.pt")
        for record in (failing_at_the_end, wrong):
            _check_that_one_stops_both(world, record)
        distributed.destroy_process_group()


def _check_that_one_stops_both(world: ProcessGroup, record: Callable[..., Recording]) -> None:
    """Check that both processes go on without graphs, and together, when one cannot record."""
    prepared = prepare_network(Recolour(), GPU, processes=2, graphs="auto")
    step = replayed_gradients(prepared, 1, world)
    assert step is not None
    if not world.is_main:
        step.record = record
    for number in range(CALLS_BEFORE + 2):
        losses = replay(step, _images(2 * number + world.rank).to(GPU))
    assert losses["square"].isfinite()
    assert not step.works and not step.recordings


@pytest.mark.process
def test_two_processes_replay_steps_of_the_whole_batch(tmp_path: Path) -> None:
    """The losses divide by the pixels of both, and the gradients are the means of both; one that fails stops both."""
    start_processes(_be_one_of_two_processes, (tmp_path,), nprocs=2, start_method="spawn")
    expected = torch.load(tmp_path / "0_False.pt")
    untrained = small_model("pfenet", 1).state_dict()
    assert any((untrained[name] - x).abs().max() > 1e-3 for name, x in expected.items() if x.is_floating_point())
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}_True.pt"), expected, rtol=1e-4, atol=1e-6)
