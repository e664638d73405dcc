"""One pass of a network over a batch of noise: its time, memory, operations and what it stores can be measured.

The plan of a command, the check of a GPU's memory and ``benchmark.py`` take it.
"""

from __future__ import annotations

import math
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from model.common.fixed_shapes import fixed_shapes
from model.contract import Trainable
from model.episode import Episode, LabelledImages
from model.registry import class_of
from util.checkpoints.checkpoint import Stored
from util.config.settings import Config
from util.data.words.text import NAME_VECTOR_WIDTH
from util.runtime.network import build_model


@dataclass(frozen=True)
class BenchmarkPass:
    """A pass of a network or its base stage over a batch: a training step without the optimiser, or an evaluation."""

    config: Config  # with ``data.size`` as the side of the images
    batch: int
    base: bool
    trains: bool

    def __str__(self) -> str:
        config, what = self.config, "base stage " if self.base else ""
        name = f"{class_of(config.model).title} {config.model.backbone() or ''}, {config.data.size} px"
        kind = "training" if self.trains else "evaluation"
        return f"{name}, {config.data.shot}-shot {what}{kind}, batch {self.batch}"

    def network(self, device: torch.device) -> Trainable:
        """Return the network on a device, with random weights, in evaluation."""
        model = build_model(self.config, NAME_VECTOR_WIDTH if class_of(self.config.model).reads_text else 0)
        return (model.base_stage() if self.base else model).eval().to(device)

    def episodes(self, device: torch.device) -> Episode:
        """Return a batch of noise with a brighter rectangle as the object of each image, on a device."""
        random, size = torch.Generator().manual_seed(0), self.config.data.size
        shape, one = (self.batch, self.config.data.shot + 1), torch.ones(self.batch, dtype=torch.int64)
        label = torch.zeros(*shape, size, size, dtype=torch.uint8)
        label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
        images = torch.randint(0, 128, (*shape, 3, size, size), dtype=torch.uint8, generator=random)
        images += 100 * label.unsqueeze(2)
        pixels = images[:, 0], label[:, 0], images[:, 1:], label[:, 1:]  # of queries and supports
        text = torch.randn(self.batch, NAME_VECTOR_WIDTH, generator=random)
        return Episode(*pixels, one, one, torch.arange(self.batch), label[:, 0].clone(), text).to(device)

    def run(self, network: Trainable, episodes: Episode) -> None:
        """Do the pass."""
        with nullcontext() if self.trains else torch.no_grad():
            seen = LabelledImages(episodes.query, episodes.query_label) if self.base else episodes
            losses = network.train(self.trains)(seen).losses
            if self.trains:
                sum(losses.values(), torch.zeros(())).backward()

    def counted(self) -> tuple[float, Stored]:
        """Return the operations of an image or episode, NaN if the network asks for values, and what is stored."""
        flops, device, stored = FlopCounterMode(display=False), torch.device("meta"), Stored(0, 0)
        with suppress(NotImplementedError, RuntimeError), device, fixed_shapes():
            network = self.network(device)
            stored = Stored.of(network, (self.config.base_stage if self.base else None) or self.config.meta_stage)
            episodes = self.episodes(device)
            with flops:
                self.run(network, episodes)
            return flops.get_total_flops() / self.batch, stored
        return math.nan, stored
