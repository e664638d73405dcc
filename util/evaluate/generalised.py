"""The test of generalised segmentation: all runs are fitted, then each photo passes the encoder once for all."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from model.episode import IGNORE, LabelledImages, Output
from model.generalised import GeneralisedModel
from model.mismatch import Mismatch
from util.data.images.views import channels_first, relabelled
from util.errors import UserError
from util.evaluate.evaluate import BASE_ALONE, ChannelBoard
from util.evaluate.jobs import Job
from util.evaluate.metrics import predicted
from util.report.scores import FINAL
from util.run.loading import batches, evaluation_numbers
from util.run.network import check_finite
from util.run.processes import World


@dataclass
class WholePhotos(LabelledImages):
    """B photos with labels of channels: background, base and novel classes, and 255."""

    valid: Tensor  # (B, S, S) bool, False in the padding


class Photos(Dataset):
    """The photos of some rows of a job's list, by number."""

    def __init__(self, job: Job, rows: Sequence[int]):
        self.rows, self.index, self.view, self.table = rows, job.images.index, job.view, np.zeros(256, np.uint8)
        self.table[job.context.fold.channels] = np.arange(len(job.context.fold.channels))
        self.table[IGNORE] = IGNORE

    def __getitem__(self, number: int) -> WholePhotos:
        image, classes = self.index.pair(self.rows[number])
        sized, ids = self.view.apply(image, classes)
        (height, width), valid = self.view.shown(image.shape), torch.zeros(ids.shape, dtype=torch.bool)
        valid[:height, :width] = True
        return WholePhotos(channels_first(sized), relabelled(ids, self.table), valid)


def run_generalised(job: Job, world: World) -> None:
    """Fit every run of a job to its supports, and count each run's labels of its queries.

    Raises:
        UserError: a class's supports do not cover enough cells of the grid.
    """
    started, network = time.monotonic(), cast(GeneralisedModel, job.prepared.network.eval())
    config, channels = job.context.config, job.context.fold.channels
    states, wanted = {}, defaultdict[int, list[tuple[int, int]]](list)  # photo -> seed and number of its queries
    with tqdm(job.samplers.items(), desc="fit", unit="run", disable=not world.is_main, leave=False) as runs:
        for seed, sampler in runs:
            states[seed] = _fitted(job, network, seed, world)
            keep = None if job.kept is None else partial(job.kept.add, seed)
            job.boards[seed] = ChannelBoard(channels, len(job.context.fold.base), keep)
            for key in map(sampler, range(job.episodes[seed])):
                wanted[key.query].append((seed, key.number))
    rows = sorted(wanted)
    numbers = evaluation_numbers(range(len(rows)), 1, world.rank, world.size)
    photos = batches(Photos(job, rows), numbers, config.data.workers, world.device)
    for (place,), photo in zip(numbers, tqdm(photos, job.name, len(numbers), disable=not world.is_main, leave=False)):
        with torch.no_grad():
            with job.prepared.autocast():
                features = network.features(photo.image)
            alone = predicted(network.base_alone(features, photo.valid.shape[-2:]))
        for seed, number in wanted[rows[place]]:
            check_finite(Output(logits := network.label(features, photo.valid, states[seed])))
            job.boards[seed].add(number, photo.label, {FINAL: predicted(logits), BASE_ALONE: alone})
    job.seconds += time.monotonic() - started


def _fitted(job: Job, network: GeneralisedModel, seed: int, world: World) -> Any:
    """Return the state of a run; base objects of its supports are background."""
    key, config = job.samplers[seed](0), job.context.config
    data, base = Photos(job, key.rows[1:]), len(job.context.fold.base)
    photos = list(batches(data, [[n] for n in range(len(data.rows))], config.data.workers, world.device))
    images = torch.cat([photo.image for photo in photos]).unflatten(0, (len(key.ways), -1))
    labels = torch.cat([photo.label for photo in photos]).unflatten(0, (len(key.ways), -1))
    try:
        with job.prepared.autocast():
            return network.fit(images, labels.masked_fill(labels <= base, 0))
    except Mismatch as error:
        names = ", ".join(f"{i} {config.data.classes[way.class_id - 1]}" for i, way in enumerate(key.ways, 1))
        raise UserError(f"protocol {job.name}, run {seed}: {error} (novel classes: {names})") from None
