"""Calls that are recorded once for each shape of their input and replayed: CUDA graphs.

A GPU is as fast as the slower of two: its arithmetic, and Python, which launches its kernels one by one. A replayed
graph is one launch. It reads and writes the memory that it was recorded with, so inputs are copied to where it reads,
and no shape inside depends on values (``model/common/fixed_shapes.py``). A call whose recording fails, or gives other
numbers than the call itself, is never recorded again, and the log says why. Processes that train together exchange
values inside the calls, so all of them record a call or none does.
"""

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.common.fixed_shapes import fixed_shapes
from model.episode import Batch, Episode, LabelledImages
from util.runtime.device import CUDA
from util.runtime.processes import ProcessGroup

log = logging.getLogger("symnet")
CALLS_BEFORE = 3  # of a shape until it is recorded, so that a smaller last batch is not
MOST = 2  # recordings, as each holds the memory of a call
WARM_UP = 3  # calls before a recording, in which libraries choose their kernels
# Largest difference of a replayed tensor from the called one, relative to its norm: sums are in another order.
TOLERANCE = {"float32": 0.01, "tf32": 0.02, "bf16": 0.1, "fp16": 0.1}
ANOTHER_PROCESS = "another process could not record it"
NEGLIGIBLE = 1e-3  # share of the largest tensor's norm that no difference is relative to less of

Call = Callable[[Sequence[Batch]], Batch]


@dataclass
class Recording:
    """A recorded call."""

    inputs: list[Batch]  # whose memory it reads
    output: Batch  # whose memory it writes
    replay: Callable[[], object]
    weights: Hashable = None  # the frozen weights that it was recorded with

    def run(self, batches: Sequence[Batch]) -> Batch:
        """Return the output for other values, which stays true until the next run."""
        for recorded, batch in zip(self.inputs, batches, strict=True):
            for target, source in zip(recorded.tensors(), batch.tensors(), strict=True):
                target.copy_(source, non_blocking=True)
        self.replay()
        return self.output


def record_graph(call: Call, batches: Sequence[Batch]) -> Recording:
    """Return a call as a CUDA graph; RuntimeError: it cannot be captured."""
    inputs = [batch.each(torch.clone) for batch in batches]
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    with fixed_shapes():
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                call(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # loaders pin memory in another thread
            output = call(inputs)
    return Recording(inputs, output, graph.replay)


class Replayed:
    """A call of a network that is replayed where its input has a shape that came before; else it is called.

    Args:
        call: returns new tensors, from batches alone.
        network: whose weights it reads.
        precision: that it computes in, a key of ``TOLERANCE``.
        copies: whether the caller keeps outputs beyond the next call.
        record: how a call is recorded.
        world: the processes that make the same calls, None: this process alone.
    """

    def __init__(
        self,
        call: Call,
        network: nn.Module,
        precision: str,
        *,
        copies: bool,
        record: Callable[[Call, Sequence[Batch]], Recording] = record_graph,
        world: ProcessGroup | None = None,
    ):
        self.call = call
        self.network = network
        self.precision = precision
        self.copies = copies
        self.record = record
        self.world = world or ProcessGroup(0, 1, torch.device("cpu"))
        self.calls = Counter[Hashable]()
        self.recordings = dict[Hashable, Recording]()
        self.works = True

    def __call__(self, batches: Sequence[Batch]) -> Batch:
        """Return the output for some batches; without ``copies`` it is true until the next call."""
        if not self.works or not all(map(can_be_recorded, batches)):
            return self.call(batches)
        shape = _shape_of(batches)
        recording = self.recordings.get(shape)
        if recording is not None and recording.weights == weights_of(self.network):
            return self._replay(recording, batches)
        self.calls[shape] += 1
        is_full = recording is None and len(self.recordings) == MOST
        if self.calls[shape] < CALLS_BEFORE or is_full:
            return self.call(batches)
        return self._record(shape, batches)

    def _replay(self, recording: Recording, batches: Sequence[Batch]) -> Batch:
        output = recording.run(batches)
        torch.autograd.graph.increment_version(list(_learning_buffers(self.network)))  # as Python's calls do
        return output.each(torch.clone) if self.copies else output

    def _record(self, shape: Hashable, batches: Sequence[Batch]) -> Batch:
        """Return the output of a call, and record it."""
        self.recordings.pop(shape, None)
        device = batches[0].tensors()[0].device
        random_before = _random_state(device)
        output = self.call(batches)
        random_after = _random_state(device)
        with _buffers_kept(self.network):
            recording, problem = self._recorded(batches)
            if recording is not None:
                _set_random_state(device, random_before)
                problem = self._compared(recording.run(batches), output)
        _set_random_state(device, random_after)
        if self.world.any(problem is not None):
            self._stop(problem or ANOTHER_PROCESS)
        elif recording is not None:
            recording.weights = weights_of(self.network)
            self.recordings[shape] = recording
        return output

    def _recorded(self, batches: Sequence[Batch]) -> tuple[Recording | None, str | None]:
        """Return a recording of a call, or None and the problem of this process or another."""
        recording = None
        problem = None
        try:
            recording = self.record(self.call, batches)
        except Exception as error:  # a capture may raise anything; the call itself still serves
            if self.world.size > 1 and isinstance(error, torch.OutOfMemoryError):
                raise  # the other processes wait inside the call
            problem = _first_line(error)
        if self.world.any(problem is not None):
            return None, problem or ANOTHER_PROCESS
        return recording, None

    def _compared(self, replayed: Batch, called: Batch) -> str | None:
        """Return what is wrong with the numbers of a replay, None: nothing."""
        difference = _difference(replayed, called)
        if difference <= TOLERANCE[self.precision]:
            return None
        return f"its numbers differ by {difference:.2g} of their norm"

    def _stop(self, problem: str) -> None:
        """Record and replay nothing from now on."""
        self.works = False
        self.recordings.clear()
        log.info("run.graphs: no CUDA graph of %s: %s", type(self.network).__name__, problem)


def can_be_recorded(batch: Batch) -> bool:
    """Return whether a call of a batch depends on its tensors alone: no names, sizes of its own or kept features."""
    if type(batch) is Episode:
        return batch.cached_query is None and batch.cached_support is None
    return type(batch) is LabelledImages


def weights_of(network: nn.Module) -> Hashable:
    """Return the addresses of a network's weights and the versions of those that no training changes.

    A recording keeps the values that are computed once from frozen weights, such as folded norms.
    """
    weights = []
    for module in network.modules():
        for x in (*module._parameters.values(), *module._buffers.values()):
            if x is not None:
                changes = x.requires_grad or module.training or x.is_inference()
                weights.append((x.data_ptr(), 0 if changes else x._version))
    return module_modes(network), tuple(weights)


def module_modes(network: nn.Module) -> tuple[bool, ...]:
    """Return which modules of a network are in training."""
    return tuple(module.training for module in network.modules())


def _shape_of(batches: Sequence[Batch]) -> Hashable:
    shapes = list[Any]()
    for batch in batches:
        shapes.append(type(batch))
        shapes += [(x.shape, x.dtype, x.device) for x in batch.tensors()]
    return tuple(shapes)


def _learning_buffers(network: nn.Module) -> Iterator[Tensor]:
    """Yield the statistics of norms in training, which a replay writes."""
    for module in network.modules():
        if module.training:
            yield from (x for x in module._buffers.values() if x is not None and not x.is_inference())


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """Give the statistics of norms in training the values that they had before the block."""
    buffers = list(_learning_buffers(network))
    values = [x.clone() for x in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for x, value in zip(buffers, values, strict=True):
                x.copy_(value)


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == CUDA else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == CUDA:
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)


@torch.no_grad()
def _difference(replayed: Batch, called: Batch) -> float:
    """Return the largest difference of a replayed tensor from the called one, of its norm."""
    pairs = [(a.double(), b.double()) for a, b in zip(replayed.tensors(), called.tensors(), strict=True)]
    norms = torch.stack([b.norm() for _, b in pairs])
    differences = torch.stack([(a - b).norm() for a, b in pairs])
    units = norms.maximum(NEGLIGIBLE * norms.max()).clamp(min=torch.finfo(norms.dtype).tiny)
    return float((differences / units).nan_to_num(torch.inf).max())


def _first_line(error: BaseException) -> str:
    """Return the message of the error that others followed, in one line."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
