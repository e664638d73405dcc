"""One pass of a network over a batch of noise: its time, memory, operations and what it stores can be measured.

The plan of a command, the check of a GPU's memory and ``benchmark.py`` take it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.contract import Trainable
from model.episode import Episode, LabelledImages
from model.registry import class_of
from model.tensors.object_windows import fixed_shapes
from util.checkpoints.checkpoint import Stored
from util.config.settings import Config
from util.data.words.text import NAME_VECTOR_WIDTH
from util.runtime.network import build_model


def _of_convolution_backward(
    grad_shape: Sequence[int], input_shape: Sequence[int], weight_shape: Sequence[int], *others: Any, **_out: Any
) -> int:
    """Return the operations of a convolution's gradients: each of them takes as many as the convolution.

    torch counts a gradient of the weights as if each group saw all channels: 64 times too many of 64 depthwise ones.
    """
    *_, transposed, _, _, wanted = others
    positions = math.prod((input_shape if transposed else grad_shape)[2:])
    of_input, of_weight, _ = wanted
    return (of_input + of_weight) * 2 * input_shape[0] * positions * math.prod(weight_shape)


BACKWARD = {torch.ops.aten.convolution_backward: _of_convolution_backward}


@dataclass(frozen=True)
class BenchmarkPass:
    """A pass of a network or its base stage over a batch: a training step without the optimiser, or an evaluation."""

    config: Config  # with ``data.size`` as the side of the images
    batch: int
    base: bool
    trains: bool

    def __str__(self) -> str:
        config = self.config
        method = f"{class_of(config.model).title} {config.model.backbone() or ''}"
        stage = "base stage " if self.base else ""
        kind = "training" if self.trains else "evaluation"
        return f"{method}, {config.data.size} px, {config.data.shot}-shot {stage}{kind}, batch {self.batch}"

    def network(self, device: torch.device) -> Trainable:
        """Return the network on a device, with random weights, in evaluation."""
        text_width = NAME_VECTOR_WIDTH if class_of(self.config.model).reads_text else 0
        model = build_model(self.config, text_width)
        network = model.base_stage() if self.base else model
        return network.eval().to(device)

    def episodes(self, device: torch.device) -> Episode:
        """Return a batch of noise with a brighter rectangle as the object of each image, on a device."""
        random = torch.Generator().manual_seed(0)
        size = self.config.data.size
        images_of_episode = self.config.data.shot + 1
        labels = torch.zeros(self.batch, images_of_episode, size, size, dtype=torch.uint8)
        labels[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
        shape = (self.batch, images_of_episode, 3, size, size)
        images = torch.randint(0, 128, shape, dtype=torch.uint8, generator=random)
        images += 100 * labels.unsqueeze(2)
        ids = torch.ones(self.batch, dtype=torch.int64)
        episodes = Episode(
            query=images[:, 0],
            query_label=labels[:, 0],
            support=images[:, 1:],
            support_label=labels[:, 1:],
            class_id=ids,
            base_id=ids,
            number=torch.arange(self.batch),
            query_base_label=labels[:, 0].clone(),
            text=torch.randn(self.batch, NAME_VECTOR_WIDTH, generator=random),
        )
        return episodes.to(device)

    def run(self, network: Trainable, episodes: Episode) -> None:
        """Do the pass."""
        with nullcontext() if self.trains else torch.no_grad():
            batch = LabelledImages(episodes.query, episodes.query_label) if self.base else episodes
            losses = network.train(self.trains)(batch).losses
            if self.trains:
                sum(losses.values(), torch.zeros(())).backward()

    def counted(self) -> tuple[float, Stored]:
        """Return the operations of an image or episode, NaN if the network asks for values, and what is stored."""
        stage = (self.config.base_stage if self.base else None) or self.config.meta_stage
        device = torch.device("meta")
        operations = FlopCounterMode(display=False, custom_mapping=BACKWARD)
        stored = Stored(0, 0)
        with suppress(NotImplementedError, RuntimeError), device, fixed_shapes():
            network = self.network(device)
            stored = Stored.of(network, stage)
            episodes = self.episodes(device)
            with operations:
                self.run(network, episodes)
            return operations.get_total_flops() / self.batch, stored
        return math.nan, stored
