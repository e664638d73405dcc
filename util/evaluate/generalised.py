"""The test of generalised segmentation: all runs are fitted, then each photo passes the encoder once for all."""

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch.utils.data import Dataset

from model.episode import LabelledImages, Output
from model.generalised import GeneralisedModel
from util.data.images.views import channels_first, numbered
from util.evaluate.evaluate import Scoreboard
from util.evaluate.jobs import TestJob
from util.evaluate.metrics import class_counts, generalised_scores, predicted
from util.evaluate.test import Test
from util.progress import ProgressBar
from util.report.schema import FINAL
from util.runtime.loading import batches, evaluation_numbers
from util.runtime.network import check_finite
from util.runtime.processes import ProcessGroup


class Photos(Dataset):
    """Photos of a test's list by number, with labels of channels: background, base and novel classes, and 255."""

    def __init__(self, test: Test, rows: Sequence[int]):
        self.rows, self.index, self.view = rows, test.images.index, test.view
        self.classes = test.context.fold.channels[1:]

    def __getitem__(self, number: int) -> LabelledImages:
        image, ids = self.view.apply(*self.index.pair(self.rows[number]))
        return LabelledImages(channels_first(image), numbered(ids, self.classes))


def run_generalised(job: TestJob, world: ProcessGroup) -> None:
    """Fit every run of a job to its supports, and count each run's labels of its queries."""
    started, test = time.monotonic(), job.test
    network = cast(GeneralisedModel, job.prepared.network.eval())
    states, wanted = {}, defaultdict[int, list[tuple[int, int]]](list)  # photo -> seed and number of its queries
    bar = partial(ProgressBar, disable=not world.is_main, leave=False)
    fold, data = test.context.fold, test.config.data
    score = partial(generalised_scores, base=fold.base, novel=fold.novel)
    for seed, sampler in bar(test.samplers.items(), desc=f"{test.name}: fit", unit="run"):
        supports = Photos(test, sampler(0).rows[1:])
        numbers = evaluation_numbers(range(len(supports.rows)), data.shot, 0, 1)
        images, labels = zip(*((p.image, p.label) for p in batches(supports, numbers, data.workers, world.device)))
        novel = [label.masked_fill(label <= len(fold.base), 0) for label in labels]  # base objects are background
        with job.prepared.autocast():
            states[seed] = network.fit(images, novel, [data.classes[way.class_id - 1] for way in sampler(0).ways])
        keep = None if job.kept is None else partial(job.kept.add, seed)
        job.boards[seed] = Scoreboard(fold.classes, keep=keep, score=score)
        for key in map(sampler, range(test.episodes[seed])):
            wanted[key.query].append((seed, key.number))
    rows, ids = sorted(wanted), torch.tensor(fold.channels, device=world.device)
    numbers = evaluation_numbers(range(len(rows)), 1, world.rank, world.size)
    photos = batches(Photos(test, rows), numbers, data.workers, world.device)
    for (place,), photo in zip(numbers, bar(photos, desc=test.name, total=len(numbers), unit="photo")):
        height, width = test.view.shown(tuple(test.images.index.sizes[rows[place]]))
        valid = torch.zeros_like(photo.label, dtype=torch.bool)
        valid[:, :height, :width] = True
        with torch.no_grad(), job.prepared.autocast():
            features = network.base_features(photo.image)
            check_finite(Output(features))
            alone = predicted(network.base_probability(features, valid.shape[1:]))
        for seed, number in wanted[rows[place]]:
            board, found = job.boards[seed], network.channels(features, valid, states[seed], alone)
            for name, prediction in (predictions := {FINAL: found, "base_alone": alone}).items():
                hit, union, _ = class_counts(prediction, photo.label, len(ids))
                records = torch.stack([torch.full_like(ids, number), ids, hit, union], 1)
                board.records[name].append(records[union > 0])  # of each channel that occurs
            if board.keep is not None:
                of_outputs = {n: rows[-1] for n, rows in board.records.items()}
                board.keep(number, of_outputs, {n: ids[p] for n, p in predictions.items()}, {})
    job.seconds += time.monotonic() - started
