"""Replayed calls give what calls give; what cannot be recorded goes on as it is. Without a GPU a stand-in records."""

import logging
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from model.common.fixed_shapes import fixed_shapes
from model.episode import Batch, LabelledImages, Output
from tests.model.small import drawn_episode, small_model
from util.runtime.graphs import CALLS_BEFORE, Call, Recording, Replayed, record_graph
from util.runtime.network import PreparedNetwork, prepare_network
from util.train.gradients import backward, replay, replayed_gradients

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


def record_here(call: Call, batches: Sequence[Batch]) -> Recording:
    """Record as a GPU does: fixed memory, fixed shapes."""
    inputs = [batch.each(torch.clone) for batch in batches]
    with fixed_shapes():
        output = call(inputs)

    def again() -> None:
        with fixed_shapes():
            for old, new in zip(output.tensors(), call(inputs).tensors(), strict=True):
                old.copy_(new)

    return Recording(inputs, output, again)


def prepared_with(network: nn.Module, record=record_here, device: torch.device = CPU) -> PreparedNetwork:
    """Return a network whose predictions are replayed, as ``record`` has it."""
    plain = prepare_network(network, device)
    replayed = Replayed(plain.predict, network, "float32", copies=True, record=record)
    return PreparedNetwork(network, network, device, "float32", replayed)


@torch.no_grad()
def test_replayed_predictions_are_those_of_calls_and_smaller_batches_are_called() -> None:
    network = small_model("symnet", 2)
    plain = prepare_network(network, CPU)
    prepared = prepared_with(network)
    recordings = prepared.replayed.recordings
    episodes = [drawn_episode("symnet", 2, 2, seed) for seed in range(CALLS_BEFORE + 2)]
    outputs = [prepared.predict([episode]) for episode in episodes]
    assert len(recordings) == 1 and prepared.replayed.works
    prepared.predict([drawn_episode("symnet", 2, 1)])
    assert len(recordings) == 1
    for output, episode in zip(outputs, episodes, strict=True):
        torch.testing.assert_close(output.logits, plain.predict([episode]).logits, **CLOSE)


@torch.no_grad()
def test_a_changed_frozen_weight_is_not_replayed() -> None:
    """A recording may hold what was made of it."""
    network = small_model("symnet", 1)
    plain = prepare_network(network, CPU)
    prepared = prepared_with(network)
    recordings = prepared.replayed.recordings
    episode = drawn_episode("symnet", 1, 1)
    for _ in range(CALLS_BEFORE):
        prepared.predict([episode])
    (before,) = recordings.values()
    network.encoder.layer1[0].conv1.weight.mul_(2)
    output = prepared.predict([episode])
    assert all(recording is not before for recording in recordings.values())
    torch.testing.assert_close(output.logits, plain.predict([episode]).logits, **CLOSE)


def steps(network: nn.Module, batches: Sequence[Batch], replayed: bool, device: torch.device = CPU) -> None:
    """Train for a step a batch, as ``optimiser_step``."""
    record = record_graph if device.type == "cuda" else record_here
    prepared = prepared_with(network.train(), record, device)
    step = replayed_gradients(prepared, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    assert step is not None and replayed_gradients(prepared, 2) is None
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        optimizer.zero_grad(set_to_none=True)
        if replayed:
            replay(step, batch.to(device))
        else:
            backward(prepared, torch.amp.GradScaler(device.type, enabled=False), batch.to(device), 1, last=True)
        optimizer.step()
    assert step.works and len(step.recordings) == replayed


@pytest.mark.parametrize("name", ["pfenet", "base stage"])
def test_a_training_of_replayed_steps_learns_the_same(name: str) -> None:
    """Dropout included; the base stage's norms learn."""
    method = "bam" if name == "base stage" else name
    batches: list[Batch] = [drawn_episode(method, 1, 2, seed) for seed in range(CALLS_BEFORE + 1)]
    if name == "base stage":
        replayed, called = (small_model("bam", 1).base_stage() for _ in range(2))
        batches = [LabelledImages(episode.query, episode.query_label) for episode in batches]
    else:
        replayed, called = (small_model(name, 1) for _ in range(2))
    steps(replayed, batches, replayed=True)
    steps(called, batches, replayed=False)
    torch.testing.assert_close(replayed.state_dict(), called.state_dict(), **CLOSE)


def wrong(call: Call, batches: Sequence[Batch]) -> Recording:
    """Record what replays other numbers."""
    recording = record_here(call, batches)
    replay_rightly = recording.replay

    def replay_wrongly() -> None:
        replay_rightly()
        recording.output.tensors()[0].add_(1)

    recording.replay = replay_wrongly
    return recording


def failing(call: Call, batches: Sequence[Batch]) -> Recording:
    raise RuntimeError("operation not permitted\nwhen stream is capturing")


@pytest.mark.parametrize(("record", "said"), [(wrong, "differ"), (failing, "not permitted when stream is capturing")])
@torch.inference_mode()
def test_a_recording_that_fails_is_said_once_and_calls_go_on(record, said: str, caplog) -> None:
    network = small_model("prototype", 1)
    prepared, episode = prepared_with(network, record), drawn_episode("prototype", 1, 1)
    with caplog.at_level(logging.INFO):
        outputs = [prepared.predict([episode]) for _ in range(CALLS_BEFORE + 2)]
    lines = [r.message for r in caplog.records if r.message.startswith("run.graphs: no CUDA graph of")]
    assert len(lines) == 1 and said in lines[0] and "\n" not in lines[0]
    for output in outputs:
        torch.testing.assert_close(output.logits, network(episode).logits)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["symnet", "ssp", "hsnet", "sccan", "hdmnet", "dcama", "bam", "pfenet", "pocket"])
def test_a_gpu_captures_every_method(name: str) -> None:
    network = small_model(name, 2).to(GPU)
    prepared = prepare_network(network, GPU, graphs="auto")
    episodes = [drawn_episode(name, 2, 2, seed) for seed in range(CALLS_BEFORE + 2)]
    with torch.inference_mode():
        outputs: list[Output] = [prepared.predict([episode.to(GPU)]) for episode in episodes]
        assert prepared.replayed.works and prepared.replayed.recordings
        for output, episode in zip(outputs, episodes, strict=True):
            torch.testing.assert_close(output.logits, network(episode.to(GPU)).logits, rtol=1e-2, atol=1e-3)
    replayed, called = small_model(name, 2), small_model(name, 2)
    steps(replayed, episodes, replayed=True, device=GPU)
    steps(called, episodes, replayed=False, device=GPU)
    for parameter, expected in zip(replayed.parameters(), called.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-2, atol=1e-4)


def test_gradients_have_memory_of_their_own() -> None:
    network = small_model("hsnet", 1).train()  # a convolution adds two biases, whose gradients are one tensor
    step = replayed_gradients(prepared_with(network), 1)
    assert step is not None
    replay(step, drawn_episode("hsnet", 1, 2))
    given = [p.grad for p in network.parameters() if p.grad is not None]
    assert given and len({x.data_ptr() for x in given}) == len(given)
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.stride() == parameter.stride()
