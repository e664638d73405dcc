"""One pass of a network over a batch of noise: its time and memory can be measured.

The plan of a command, the check of a GPU's memory and ``benchmark.py`` take it.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch

from model.contract import Trainable
from model.episode import Episode, LabelledImages
from model.registry import class_of
from util.config.settings import Config
from util.data.words.text import NAME_VECTOR_WIDTH
from util.run.network import build_model


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
