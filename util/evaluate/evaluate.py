"""The loop that scores any model on any batches: integer counts on the device, by several rules at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.common.ops import resize
from model.episode import IGNORE, LabelledImages, Output
from util.data.trials import Trial
from util.evaluate.cache import FeatureCache, ordered_by_images
from util.evaluate.calibration import NO_CALIBRATION, Calibration, evidence_in, presence_scores
from util.evaluate.metrics import (
    BACKGROUND,
    FOREGROUND,
    BinaryCounts,
    ClassCounts,
    count_binary,
    count_values,
    predicted,
)
from util.report.scores import FINAL
from util.run.loading import batches, evaluation_numbers
from util.run.network import PreparedNetwork, check_finite
from util.run.processes import World

BASE = "base"  # the score of logits over the base classes
ALL_FOREGROUND = "all_foreground"  # a reference: every pixel called foreground
UNGATED = "always_shown"  # the final output whatever the presence score says
POSTFIX_EVERY = 10  # batches between updates of the running score
# Columns of a record: an episode has one for each of its classes. The last four are the same in all of them; with one
# class the foreground is that class.
NUMBER, CLASS, INTERSECTION, UNION = range(4)
BACKGROUND_INTERSECTION, BACKGROUND_UNION, FOREGROUND_INTERSECTION, FOREGROUND_UNION = range(4, 8)

# Sees every episode once it is counted: number, IoU of the final output in percent, predictions and maps.
Keeper = Callable[[int, float, dict[str, Tensor], dict[str, Tensor]], None]
Counts = TypeVar("Counts", BinaryCounts, ClassCounts)


class Observer(Protocol):
    """Sees every batch of a pass that this process scores: counts, evidence of a calibration, pictures."""

    def add(self, numbers: list[int], batch: Any, output: Output) -> None:
        """See one batch, a ``Trial`` or ``LabelledImages``; ``numbers`` are those of its episodes."""

    def running(self) -> str:
        """Return what is known so far in words, for the progress bar."""


def iou_of(records: np.ndarray) -> float:
    """Return the IoU of an episode's records in percent, its classes' pixels counted together."""
    records = np.atleast_2d(records)
    return 100.0 * int(records[:, INTERSECTION].sum()) / max(int(records[:, UNION].sum()), 1)


def scored_outputs(output: Output) -> dict[str, Tensor]:
    """Return every output that is scored, by its key in results: ``final``, the names of ``extra``, ``base``."""
    base = {} if output.base_logits is None else {BASE: output.base_logits}
    return {FINAL: output.logits, **output.extra, **base}


class Scoreboard:
    """Counts for every output of a model: against the episode's classes, of the base learner against base labels.

    Args:
        classes: of the data set.
        scored_on: the name of the trial's label to count on; None takes the only one.
        episodes: only episodes with a number below it count; None counts all.
        keep: called with the predictions of every counted episode.
        asks_presence: whether queries may lack their class, so that the presence score is scored too.
        calibration: of the network; masks of queries below its threshold are empty.
    """

    def __init__(
        self,
        classes: int,
        device: torch.device,
        scored_on: str | None = None,
        episodes: int | None = None,
        keep: Keeper | None = None,
        asks_presence: bool = False,
        calibration: Calibration | None = None,
    ):
        self.classes, self.device, self.scored_on, self.episodes = classes, device, scored_on, episodes
        self.keep, self.asks_presence, self.calibration = keep, asks_presence, calibration
        self.presence: dict[int, tuple[bool, float, bool]] = {}  # number -> query shows the class, score, mask shown
        self.counts: dict[str, BinaryCounts | ClassCounts] = {}  # by output
        self.records: dict[str, list[Tensor]] = {}  # output -> (N, 8) int64 of each episode

    def add(self, numbers: list[int], batch: Trial | LabelledImages, output: Output) -> None:
        """Count one batch; ``numbers`` are those of its episodes."""
        if isinstance(batch, LabelledImages):
            self._counts(BASE, ClassCounts, output.logits.shape[1]).add(predicted(output.logits), batch.label)
            return
        on = self.scored_on or next(iter(batch.label))
        for item, number in enumerate(numbers):
            if self.episodes is None or number < self.episodes:
                base_label = batch.base_label[on][item] if batch.base_label else None
                self._add_episode(number, batch, item, batch.label[on][item], base_label, output)

    def _add_episode(
        self, number: int, batch: Trial, item: int, label: Tensor, base_label: Tensor | None, output: Output
    ) -> None:
        """Resize each output to the label's size, alone, so that its batch does not affect it, and count it there."""
        class_id_n = torch.stack([way.class_id[item] for way in batch.ways])
        predictions = {}
        for name, logits in scored_outputs(output).items():
            predictions[name] = predicted(resize(logits[item : item + 1].float(), label.shape))
        if self.asks_presence:
            evidence = evidence_in(output, item, batch.shown[item])[0].cpu().numpy()
            self._decide(number, predictions, label, evidence)
        for name, prediction in predictions.items():
            if name != BASE:
                self._add_classes(name, number, prediction, label, class_id_n)
            elif base_label is not None:
                channels = scored_outputs(output)[BASE].shape[1]
                self._counts(name, ClassCounts, channels).add(prediction, base_label[None])
        if len(class_id_n) == 1:
            self._add_classes(ALL_FOREGROUND, number, torch.ones_like(label)[None], label, class_id_n)
        if self.keep is not None:
            iou = iou_of(self.records[FINAL][-1].cpu().numpy())
            self.keep(number, iou, predictions, {name: values[item] for name, values in output.maps.items()})

    def _decide(self, number: int, predictions: dict[str, Tensor], label_hw: Tensor, evidence: np.ndarray) -> None:
        """Note an episode's presence score, and empty its final mask if the score is below the threshold.

        Pixels of the mask in the padding do not count as shown.
        """
        mask = predictions[FINAL]
        score = float(evidence[NO_CALIBRATION])
        if self.calibration is not None:
            score, predictions[UNGATED] = self.calibration.presence(evidence), mask
            if score < self.calibration.threshold:
                predictions[FINAL] = torch.zeros_like(mask)
        shown = bool((predictions[FINAL][0] > 0).logical_and(label_hw != IGNORE).any())
        self.presence[number] = bool((label_hw == 1).any()), score, shown

    def _add_classes(
        self, name: str, number: int, prediction_1hw: Tensor, label_hw: Tensor, class_id_n: Tensor
    ) -> None:
        """Count a prediction and a label in 0..N of N classes."""
        label_1hw = label_hw[None]
        sides = count_binary(
            prediction_1hw.clamp(max=1), torch.where(label_1hw == IGNORE, IGNORE, label_1hw.clamp(max=1))
        )
        foreground, background = ([x[0, side] for x in sides] for side in (FOREGROUND, BACKGROUND))
        of_class = [x[0] for x in count_values(prediction_1hw, label_1hw, len(class_id_n))]
        counts = self._counts(name, BinaryCounts, self.classes)
        counts.add_classes(of_class[0], of_class[1], class_id_n)
        counts.add_sides(*sides)
        same = [x.expand_as(class_id_n) for x in (*background, *foreground)]
        columns = [torch.full_like(class_id_n, number), class_id_n, *of_class, *same]
        self.records.setdefault(name, []).append(torch.stack(columns, 1))

    def _counts(self, name: str, kind: type[Counts], size: int) -> Counts:
        """Return the counts of an output, made at its first use."""
        counts = self.counts.setdefault(name, kind.zeros(size, self.device))
        assert isinstance(counts, kind)  # an output is of one kind throughout
        return counts

    def running(self) -> str:
        """Return the mIoU so far of the final (or the base) output in words, for the progress bar."""
        lead = FINAL if FINAL in self.counts else BASE
        return f"mIoU={self.counts[lead].scores()['miou']:.2f}" if self.counts else ""

    def scores(self, world: World) -> dict[str, dict[str, Any]]:
        """Return the scores of every output, summed over processes (also those that had no batch)."""
        for kinds in world.gather({n: (type(c), len(c.union)) for n, c in self.counts.items()}):
            for name, (kind, rows) in kinds.items():
                size = rows if kind is ClassCounts else self.classes
                self._counts(name, kind, size)
        for name in sorted(self.counts):
            for tensor in self.counts[name].tensors():
                world.sum(tensor)
        out = {name: counts.scores() for name, counts in self.counts.items()}
        if self.asks_presence:
            out[FINAL] |= presence_scores(*zip(*self.all_presence(world).values(), strict=True))
        return out

    def all_presence(self, world: World) -> dict[int, tuple[bool, float, bool]]:
        """Return the presence of the episodes of all processes, by number; see ``presence``."""
        return dict(sorted(entry for part in world.gather(self.presence) for entry in part.items()))

    def episode_records(self, world: World) -> dict[str, np.ndarray]:
        """Return the counts of all processes: output -> (episodes * N, 8) int64, sorted by number, then by class."""
        own = {name: torch.cat(rows).cpu().numpy() for name, rows in self.records.items()}
        parts = world.gather(own)
        names = dict.fromkeys(name for part in parts for name in part)
        merged = {name: np.concatenate([part[name] for part in parts if name in part]) for name in names}
        return {name: rows[np.argsort(rows[:, NUMBER], kind="stable")] for name, rows in merged.items()}


@dataclass(frozen=True)
class PassOptions:
    """The options of a pass of a network over a data set.

    Attributes:
        batch: items that the network sees together; images of their original sizes come one by one.
        workers: loader processes, 0 for none.
        title: the label of the progress bar.
        progress: whether there is a progress bar.
    """

    batch: int = 1
    workers: int = 0
    title: str = ""
    progress: bool = True


@torch.inference_mode()
def run_pass(
    prepared: PreparedNetwork,
    dataset: Any,
    episodes: int,
    observers: Sequence[Observer],
    world: World,
    options: PassOptions,
    cache: FeatureCache | None = None,
) -> None:
    """Run a network once over items 0..episodes - 1 of a data set, shared out over processes, for several observers.

    With ``cache``, of this network and this data set's view, images that it holds are not encoded again, and episodes
    that share images follow each other; their order affects no count.
    """
    network: Any = prepared.network
    was_training = network.training
    network.eval()
    batch = 1 if getattr(dataset, "one_by_one", False) else options.batch
    order = range(episodes) if cache is None else ordered_by_images(dataset.sampler, episodes)
    numbers = evaluation_numbers(order, batch, world.rank, world.size)
    if cache is not None:
        cache.expect(dataset.sampler, numbers)
    hidden = not (options.progress and world.is_main)
    with tqdm(total=episodes, desc=options.title, unit="item", disable=hidden, leave=False) as bar:
        items = batches(dataset, numbers, options.workers, world.device)
        for step, (these, item) in enumerate(zip(numbers, items, strict=True)):
            inputs = item.ways if isinstance(item, Trial) else [item]
            with prepared.autocast():
                seen = inputs if cache is None else cache.fill(item)
                output = network(seen[0]) if len(seen) == 1 else network.forward_classes(seen)
            check_finite(output)
            if cache is not None:
                cache.settle()
            for observer in observers:
                observer.add(these, item, output)
            bar.update(min(len(these) * world.size, episodes - bar.n))
            if step % POSTFIX_EVERY == 0:
                bar.set_postfix_str(observers[0].running(), refresh=False)
    network.train(was_training)


def evaluate(
    prepared: PreparedNetwork,
    dataset: Any,
    episodes: int,
    classes: int,
    world: World,
    options: PassOptions,
    others: Sequence[Observer] = (),
) -> dict[str, dict[str, Any]]:
    """Score a network on items 0..episodes - 1 of a data set, which ``others`` see too.

    Returns:
        output name -> ``miou``, ``fb_iou``, ``per_class`` in percent; batch and processes do not affect them.
    """
    board = Scoreboard(classes, world.device)
    run_pass(prepared, dataset, episodes, [board, *others], world, options)
    return board.scores(world)
