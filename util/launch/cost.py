"""Passes of networks over noise: what they cost, counted on tensors without memory, and how fast a device is."""

import math
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet50

from model.common.fixed_shapes import fixed_shapes
from model.contract import Trainable
from model.episode import Episode, LabelledImages
from model.registry import class_of
from util.checkpoints.space import Stored
from util.config.settings import Config
from util.data.words.text import NAME_VECTOR_WIDTH
from util.run.device import autocast, resolved
from util.run.network import build_model

UNIT_SIDE, UNIT_FLOPS = 224, 8.18e9  # ResNet-50's, a multiplication and an addition being two


@dataclass(frozen=True)
class Case:
    """A pass of a network, or of its base stage, over a batch: a training step without the optimiser, or an evaluation.

    Attributes:
        config: with ``data.size`` as the side of the images.
    """

    config: Config
    batch: int
    base: bool
    trains: bool

    def __str__(self) -> str:
        config, what = self.config, "base stage " if self.base else ""
        size, kind = config.data.size, "training" if self.trains else "evaluation"
        name = f"{class_of(config.model).title} {config.model.backbone() or ''}"
        return f"{name}, {size} px, {config.data.shot}-shot {what}{kind}, batch {self.batch}"

    def network(self, device: torch.device) -> Trainable:
        """Return the network on a device, with random weights, in evaluation."""
        model = build_model(self.config, NAME_VECTOR_WIDTH if class_of(self.config.model).reads_text else 0)
        return (model.base_stage() if self.base else model).eval().to(device)

    def episodes(self, device: torch.device) -> Episode:
        """Return a batch of noise with a brighter rectangle as the object of each image, on a device."""
        random, data = torch.Generator().manual_seed(0), self.config.data
        size, shape = data.size, (self.batch, data.shot + 1)
        label = torch.zeros(*shape, size, size, dtype=torch.uint8)
        label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
        images = torch.randint(0, 128, (*shape, 3, size, size), dtype=torch.uint8, generator=random)
        images += 100 * label.unsqueeze(2)
        one = torch.ones(self.batch, dtype=torch.int64)
        return Episode(
            query=images[:, 0],
            query_label=label[:, 0],
            support=images[:, 1:],
            support_label=label[:, 1:],
            class_id=one,
            base_id=one,
            number=torch.arange(self.batch),
            query_base_label=label[:, 0].clone(),
            text=torch.randn(self.batch, NAME_VECTOR_WIDTH, generator=random),
        ).to(device)

    def run(self, network: Trainable, episodes: Episode) -> None:
        """Do the pass."""
        with nullcontext() if self.trains else torch.inference_mode():
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


def images_a_second(device: torch.device, precision: str) -> float:
    """Return how many images of 224 px a device takes through ResNet-50 in a second, at a ``run.precision``."""
    network, took = resnet50().eval().to(device), list[float]()
    images = torch.zeros(1 if device.type == "cpu" else 32, 3, UNIT_SIDE, UNIT_SIDE, device=device)
    with torch.inference_mode(), autocast(device, resolved(precision, device)):
        for _ in range(3):
            started = time.perf_counter()
            network(images).sum().item()  # which waits for a GPU
            took.append(time.perf_counter() - started)
    return len(images) / min(took)
