"""A network that is ready to be called: device, precision and processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from model.checked import checked
from model.contract import Trainable
from model.encoders.encoder import MEMORY_FORMAT
from model.episode import Output
from util.files.errors import UserError
from util.loop.device import CUDA, HALF, take_precision
from util.loop.processes import ProcessGroup


def check_prediction(finite: Tensor) -> None:
    """Refuse (UserError) predictions that are not all finite, as a flag says; their classes would be background."""
    if not finite:
        raise UserError(
            "the network's prediction is not finite",
            fix="restore its weights, mend a division by 0 in its code, or set run.precision: float32",
        )


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass at a resolved precision: automatic mixed precision in bf16 or fp16."""
    return torch.autocast(device.type, dtype=HALF.get(precision, torch.bfloat16), enabled=precision in HALF)


@dataclass(frozen=True)
class PreparedNetwork:
    """A network on its device; every call is inside ``autocast()``, at a fixed precision."""

    network: Trainable  # the network itself, whose state dict a checkpoint holds
    learner: nn.Module  # the module that a training step calls: the network, or its DistributedDataParallel wrapper
    device: torch.device
    precision: str  # float32, tf32, bf16 or fp16

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass at this precision."""
        return autocast(self.device, self.precision)

    def predict(self, inputs: Sequence[Any]) -> Output:
        """Return the output for the episodes of one class, or of several that compete, or for labelled images."""
        network: Any = self.network
        with self.autocast():
            output = network(inputs[0]) if len(inputs) == 1 else network.forward_classes(inputs)
        return checked(output, network, inputs)


def prepare_network(
    network: Trainable,
    device: torch.device,
    precision: str = "float32",
    trained_by: ProcessGroup | None = None,
) -> PreparedNetwork:
    """Move a network to a device, in place, and return it ready to be called; state-dict names do not change.

    No other place decides on device, SyncBatchNorm and DistributedDataParallel.

    Args:
        network: whose parameters stay the same objects.
        device: that it computes on.
        precision: float32, tf32, bf16 or fp16; its float32 is that of the whole process.
        trained_by: the processes that train it together; in evaluation each has its own batches.
    """
    take_precision(precision, device)
    network = network.to(device)
    if device.type == CUDA:  # else its convolutions lay their kernels anew in every call
        # Full float32 is slower, and takes gigabytes, in the encoders' layout
        network.to(memory_format=torch.contiguous_format if precision == "float32" else MEMORY_FORMAT)
    learner: nn.Module = network
    if trained_by is not None and trained_by.size > 1:
        on_gpu = device.type != "cpu"
        if on_gpu:  # a CPU has no SyncBatchNorm
            synchronise_norms(network)
        learner = DistributedDataParallel(network, device_ids=[device] if on_gpu else None)
        learner.broadcast_buffers = not on_gpu  # norms' statistics that are not synchronised: the first process's count
    return PreparedNetwork(network, learner, device, precision)


def _synchronised_kind(norm: nn.Module) -> type[nn.Module]:
    """Return the class of a norm of torch or of timm that takes its statistics over all processes."""
    if not type(norm).__module__.startswith("timm."):
        return nn.SyncBatchNorm
    from timm.layers import BatchNormAct2d  # takes seconds
    from timm.layers.norm_act import SyncBatchNormAct

    return SyncBatchNormAct if isinstance(norm, BatchNormAct2d) else nn.SyncBatchNorm


def synchronise_norms(network: nn.Module) -> None:
    """Let batch norms that learn take their statistics over all processes, in place; frozen ones stay as they are.

    A norm becomes one of another class and stays the same object, which convolutions before it may hold.
    """
    was_training = network.training
    network.train()  # frozen norms stay in evaluation
    for norm in network.modules():
        if isinstance(norm, _BatchNorm) and norm.training and not isinstance(norm, nn.SyncBatchNorm):
            kind: Any = getattr(norm, "synchronised", None) or _synchronised_kind(norm)
            norm.__class__ = kind
            vars(norm)["process_group"] = None  # all processes
    network.train(was_training)
