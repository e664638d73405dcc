"""The test of generalised segmentation: all runs are fitted, then each photo passes the encoder once for all."""

import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from model.episode import LabelledImages, Output
from model.kinds.generalised import GeneralisedModel
from util.data.images.views import channels_first, numbered
from util.evaluate.jobs import TestJob
from util.evaluate.metrics import class_counts, predicted
from util.evaluate.schema import FINAL
from util.evaluate.test import Test
from util.files.progress import ProgressBar
from util.run.loading import batches, evaluation_numbers
from util.run.network import check_finite
from util.run.processes import ProcessGroup

BASE_ALONE = "base_alone"  # the output of the base classes before any novel one is known


class Photos(Dataset):
    """Photos of a test's list by number, with labels of channels: background, base and novel classes, and 255."""

    def __init__(self, test: Test, rows: Sequence[int]):
        self.rows = rows
        self.index = test.images.index
        self.view = test.view
        self.classes = test.run.context.fold.channels[1:]

    def __getitem__(self, number: int) -> LabelledImages:
        image, ids = self.view.apply(*self.index.pair(self.rows[number]))
        return LabelledImages(channels_first(image), numbered(ids, self.classes))


def run_in_one_map(job: TestJob, world: ProcessGroup) -> None:
    """Fit every run of a job to its supports, and count each run's labels of its queries."""
    started = time.monotonic()
    test = job.test
    bar = partial(ProgressBar, disable=not world.is_main, leave=False)
    runs = Runs(job, world.device)
    for seed in bar(test.samplers, desc=f"{test.name}: fit", unit="run"):
        runs.fit(seed)
        job.boards[seed] = job.scoreboard(seed)
    queries = _queries_by_photo(test)
    rows = sorted(queries)
    numbers = evaluation_numbers(range(len(rows)), 1, world.rank, world.size)
    with closing(batches(Photos(test, rows), numbers, test.config.data.workers, world.device)) as photos:
        for (place,), photo in zip(numbers, bar(photos, desc=test.name, total=len(numbers), unit="photo")):
            row = rows[place]
            runs.predict(row, photo, queries[row])
    job.seconds += time.monotonic() - started


class Runs:
    """The runs of a job: each is fitted to the supports of its seed, and labels photos."""

    def __init__(self, job: TestJob, device: torch.device):
        self.job = job
        self.test = job.test
        self.device = device
        self.network = cast(GeneralisedModel, job.prepared.network.eval())
        self.class_ids = torch.tensor(job.test.run.context.fold.channels, device=device)  # of the channels of a label
        self.states: dict[int, Any] = {}  # seed -> what the network learnt

    def fit(self, seed: int) -> None:
        """Fit the run of a seed."""
        data = self.test.config.data
        key = self.test.samplers[seed](0)  # all episodes of a run have its supports
        supports = Photos(self.test, key.rows[1:])
        numbers = evaluation_numbers(range(len(supports.rows)), data.shot, rank=0, processes=1)
        last_base = len(self.test.run.context.fold.base)
        shots = []
        with closing(batches(supports, numbers, data.workers, self.device)) as stream, self.job.prepared.autocast():
            for batch in stream:
                label = batch.label.masked_fill(batch.label <= last_base, 0)  # base objects are background
                shots.append(self.network.encode(batch.image, label))
            names = [data.classes[way.class_id - 1] for way in key.ways]
            self.states[seed] = self.network.fit(shots, names)

    def predict(self, row: int, photo: LabelledImages, episodes: Sequence[tuple[int, int]]) -> None:
        """Label the photo of a row, which passes the encoder once, for the (seed, number) of its episodes."""
        height, width = self.test.view.shown(tuple(self.test.images.index.sizes[row]))
        valid = torch.zeros_like(photo.label, dtype=torch.bool)
        valid[:, :height, :width] = True
        with torch.no_grad(), self.job.prepared.autocast():
            features = self.network.base_features(photo.image)
            check_finite(Output(features))
            base_prediction = predicted(self.network.base_probability(features, valid.shape[1:]))
        for seed, number in episodes:
            prediction = self.network.channels(features, valid, self.states[seed], base_prediction)
            predictions = {FINAL: prediction, BASE_ALONE: base_prediction}
            self._count(seed, number, predictions, photo.label)

    def _count(self, seed: int, number: int, predictions: dict[str, Tensor], label: Tensor) -> None:
        """Count an episode's predictions and label (1, H, W), which hold channels."""
        board = self.job.boards[seed]
        class_ids = self.class_ids
        for name, prediction in predictions.items():
            intersection, union, _ = class_counts(prediction, label, len(class_ids))
            records = torch.stack([torch.full_like(class_ids, number), class_ids, intersection, union], 1)
            board.records[name].append(records[union > 0])  # of each channel that occurs
        if board.keep is not None:
            records_by_output = {name: records_so_far[-1] for name, records_so_far in board.records.items()}
            as_classes = {name: class_ids[prediction] for name, prediction in predictions.items()}
            board.keep(number, records_by_output, as_classes, {})


def _queries_by_photo(test: Test) -> dict[int, list[tuple[int, int]]]:
    """Return the row of each photo -> seed and number of the episodes whose query it is."""
    queries = defaultdict[int, list[tuple[int, int]]](list)
    for seed, sampler in test.samplers.items():
        for key in map(sampler, range(test.episodes[seed])):
            queries[key.query].append((seed, key.number))
    return queries
