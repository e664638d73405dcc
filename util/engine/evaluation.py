"""The tester: one loop that scores any model on any batches, on the device, in integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from model.contract import Episode, LabelledImages, Output
from util.engine.device import autocast
from util.engine.loading import batches, evaluation_numbers
from util.engine.metrics import BinaryCounts, ClassCounts
from util.engine.processes import World

FINAL = "final"  # the score of a model's prediction
BASE = "base"  # the score of logits over the base classes
ALL_FOREGROUND = "all_foreground"  # a reference: every pixel called foreground
BINARY = 2
POSTFIX_EVERY = 10  # batches between updates of the running score

Watcher = Callable[[Episode | LabelledImages, Output], None]


class Scoreboard:
    """Counts for every output of a model: two-channel logits against the episode, others against the base labels."""

    def __init__(self, classes: int, device: torch.device):
        self.classes, self.device = classes, device
        self.counts: dict[str, BinaryCounts | ClassCounts] = {}

    def add(self, batch: Episode | LabelledImages, output: Output) -> None:
        """Count one batch."""
        if isinstance(batch, LabelledImages):
            self._class_counts(BASE, output.logits.shape[1]).add(output.logits.argmax(1), batch.label)
            return
        for name, logits in {FINAL: output.logits, **output.extra}.items():
            prediction = logits.argmax(1)
            if name != BASE and logits.shape[1] == BINARY:
                self._binary_counts(name).add(prediction, batch.query_label, batch.class_id)
            elif batch.query_base_label is not None:
                self._class_counts(name, logits.shape[1]).add(prediction, batch.query_base_label)
        everything = torch.ones_like(batch.query_label)
        self._binary_counts(ALL_FOREGROUND).add(everything, batch.query_label, batch.class_id)

    def _binary_counts(self, name: str) -> BinaryCounts:
        return self.counts.setdefault(name, BinaryCounts.zeros(self.classes, self.device))

    def _class_counts(self, name: str, channels: int) -> ClassCounts:
        return self.counts.setdefault(name, ClassCounts.zeros(channels, self.device))

    def running(self) -> str:
        """Return the leading score so far, for the progress bar."""
        lead = FINAL if FINAL in self.counts else BASE
        return f"{self.counts[lead].scores()['miou']:.2f}" if self.counts else "-"

    def scores(self, world: World) -> dict[str, dict[str, Any]]:
        """Return the scores of every output, summed over processes (also those that had no batch)."""
        for kinds in world.gather({n: (type(c), len(c.union)) for n, c in self.counts.items()}):
            for name, (kind, rows) in kinds.items():
                size = rows if kind is ClassCounts else self.classes
                self.counts.setdefault(name, kind.zeros(size, self.device))
        for name in sorted(self.counts):
            for tensor in self.counts[name].tensors():
                world.sum(tensor)
        return {name: counts.scores() for name, counts in self.counts.items()}


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    dataset: Any,
    episodes: int,
    *,
    classes: int,
    batch: int,
    workers: int,
    world: World,
    precision: str,
    title: str,
    watch: Watcher | None = None,
    progress: bool = True,
) -> dict[str, dict[str, Any]]:
    """Score a network on items 0..episodes - 1 of a data set, shared out over processes.

    Returns:
        output name -> ``miou``, ``fb_iou``, ``per_class`` in percent; always the same, whatever batch and processes.
    """
    was_training = network.training
    network.eval()
    board = Scoreboard(classes, world.device)
    numbers = evaluation_numbers(episodes, batch, world.rank, world.size)
    with tqdm(total=episodes, desc=title, unit="item", disable=not (progress and world.is_main), leave=False) as bar:
        for step, item in enumerate(batches(dataset, numbers, workers, world.device)):
            with autocast(world.device, precision):
                output = network(item)
            board.add(item, output)
            if watch is not None and world.is_main:
                watch(item, output)
            bar.update(min(batch * world.size, episodes - bar.n))
            if step % POSTFIX_EVERY == 0:
                bar.set_postfix(mIoU=board.running(), refresh=False)
    network.train(was_training)
    return board.scores(world)
