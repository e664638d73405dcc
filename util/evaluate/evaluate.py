"""The loop that scores any model on any batches: integer counts on the device, by several rules at once."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from model.common.ops import resize
from model.episode import IGNORE, LabelledImages, Output
from util.data.episodes import Trial
from util.evaluate import metrics
from util.evaluate.cache import FeatureCache, ordered_by_images
from util.evaluate.calibration import Calibration, presence_inputs_in, presence_scores
from util.progress import ProgressBar
from util.report.schema import BASE, FINAL, NETWORK
from util.runtime.loading import batches, evaluation_numbers
from util.runtime.network import PreparedNetwork, check_finite
from util.runtime.processes import ProcessGroup

ALL_FOREGROUND = "all_foreground"  # a reference: every pixel called foreground
# Takes number, records and predictions by output, and maps of an episode.
Keep = Callable[[int, dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]], None]
WITHOUT_PRESENCE = "always_shown"  # the final output whatever the presence score says


class Observer(Protocol):
    """Sees every batch of a pass that this process scores: counts, inputs of a calibration, pictures."""

    def add(self, numbers: list[int], batch: Any, output: Output) -> None:
        """See one batch, a ``Trial`` or ``LabelledImages``; ``numbers`` are those of its episodes."""


def scored_outputs(output: Output) -> dict[str, Tensor]:
    """Return every output that is scored, by its key in results: ``final``, the names of ``extra``, ``base``."""
    base = {} if output.base_logits is None else {BASE: output.base_logits}
    return {FINAL: output.logits, **output.extra, **base}


@dataclass(eq=False)
class Scoreboard:
    """The observer that counts every output: against the episode's classes, a base learner's in base labels."""

    classes: int  # of the data set
    scored_on: str | None = None  # the name of the trial's label to count on; None takes the only one
    episodes: int | None = None  # only episodes with a number below it count; None counts all
    keep: Keep | None = None  # called for every counted episode
    asks_presence: bool = False  # whether queries may lack their class, so that the presence score is scored too
    calibration: Calibration | None = None  # of the network; masks of queries below its threshold are empty
    further: Sequence[str] = ()  # names of ``mask_metrics.METRICS`` that are counted too
    # what is counted: number -> query shows the class, score, mask shown; output -> the records of each episode
    presence: dict[int, tuple[bool, float, bool]] = field(default_factory=dict)
    records: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    base: list[Tensor] = field(default_factory=list)  # counts of the base classes, (3, N + 1) int64 each
    score: Callable[[np.ndarray], dict[str, Any]] | None = None  # of one output's records; None: of episodes

    def add(self, numbers: list[int], batch: Trial | LabelledImages, output: Output) -> None:
        """Count one batch; ``numbers`` are those of its episodes.

        Each output is resized to the label's size, alone, so that its batch does not affect it, and counted there.
        """
        if isinstance(batch, LabelledImages):
            logits = output.logits
            self.base.append(metrics.class_counts(metrics.predicted(logits), batch.label, logits.shape[1]))
            return
        on = self.scored_on or next(iter(batch.label))
        for item, number in enumerate(numbers):
            if self.episodes is not None and number >= self.episodes:
                continue
            label, class_id_n = batch.label[on][item], torch.stack([way.class_id[item] for way in batch.ways])
            predictions = {}
            for name, logits in scored_outputs(output).items():
                predictions[name] = metrics.predicted(resize(logits[item : item + 1].float(), label.shape))
            if self.asks_presence:
                self._decide(number, predictions, label, presence_inputs_in(output, item, batch.shown[item]))
            counted = {name: prediction[0] for name, prediction in predictions.items() if name != BASE}
            counted |= {ALL_FOREGROUND: torch.ones_like(label)} if len(class_id_n) == 1 else {}
            for name, prediction in counted.items():
                self.records[name].append(metrics.episode_records(number, class_id_n, prediction, label, self.further))
            if output.base_logits is not None and batch.base_label:
                found, channels = predictions[BASE][0], output.base_logits.shape[1]
                self.base.append(metrics.class_counts(found, batch.base_label[on][item], channels))
            if self.keep is not None:
                maps = {name: values[item] for name, values in output.maps.items()}
                self.keep(number, {name: rows[-1] for name, rows in self.records.items()}, predictions, maps)

    def _decide(self, number: int, predictions: dict[str, Tensor], label_hw: Tensor, inputs: Tensor) -> None:
        """Note an episode's presence score, and empty its final mask if the score is below the threshold."""
        mask = predictions[FINAL]
        shown = ((mask[0] > 0) & (label_hw != IGNORE)).any()  # pixels in the padding do not count
        *values, present, visible = torch.cat([inputs, torch.stack([(label_hw == 1).any(), shown])]).tolist()
        score = values[0]  # without a calibration: the largest quantile of the margin
        if self.calibration is not None:
            score, predictions[WITHOUT_PRESENCE] = self.calibration.presence(np.array(values, np.float32)), mask
            if score < self.calibration.threshold:
                for name in {FINAL, NETWORK} & predictions.keys():
                    predictions[name] = torch.zeros_like(mask)
                visible = 0.0
        self.presence[number] = bool(present), score, bool(visible)

    def gather(self, world: ProcessGroup) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
        """Return the scores of every output, and the records of its episodes, of all processes together.

        Records are sorted by number, then by class. ``presence`` then is of all episodes.
        """
        own = {name: torch.cat(rows).cpu().numpy() for name, rows in self.records.items()}
        parts = world.gather((own, torch.stack(self.base).sum(0).cpu().numpy() if self.base else None, self.presence))
        joined = {n: np.concatenate([of[n] for of, *_ in parts if n in of]) for of, *_ in parts for n in of}
        records = {name: rows[np.argsort(rows[:, metrics.NUMBER], kind="stable")] for name, rows in joined.items()}
        score = self.score or partial(metrics.episode_scores, classes=self.classes, further=self.further)
        scores = {name: score(rows) for name, rows in records.items()}
        if base := [counts for _, counts, _ in parts if counts is not None]:
            scores[BASE] = metrics.class_scores(np.sum(base, axis=0))
            scores |= {
                name: scores.pop(name) for name in (WITHOUT_PRESENCE, ALL_FOREGROUND) if name in scores
            }  # come last
        self.presence = dict(sorted(entry for *_, presence in parts for entry in presence.items()))
        if self.asks_presence:
            scores[FINAL] |= presence_scores(*zip(*self.presence.values(), strict=True))
        return scores, records


@torch.inference_mode()
def run_pass(
    prepared: PreparedNetwork,
    dataset: Any,
    episodes: int,
    observers: Sequence[Observer],
    world: ProcessGroup,
    title: str,
    batch: int = 1,
    workers: int = 0,
    cache: FeatureCache | None = None,
) -> None:
    """Run a network once over items 0..episodes - 1 of a data set, shared out over processes, for several observers.

    The first prediction, every hundredth and the last must be finite: a look at each would wait for a GPU.

    With ``cache``, of this network and this data set's view, images that it holds are not encoded again, and episodes
    that share images follow each other; their order affects no count. Images of their original sizes come one by one,
    whatever ``batch`` is; ``title`` is the label of the progress bar.
    """
    network: Any = prepared.network
    was_training = network.training
    network.eval()
    order = range(episodes) if cache is None else ordered_by_images(dataset.sampler, episodes)
    numbers = evaluation_numbers(order, 1 if getattr(dataset, "one_by_one", False) else batch, world.rank, world.size)
    if cache is not None:
        cache.expect(dataset.sampler, numbers)
    with ProgressBar(total=episodes, desc=title, unit="item", disable=not world.is_main, leave=False) as bar:
        for these, item in zip(numbers, batches(dataset, numbers, workers, world.device), strict=True):
            inputs = item.ways if isinstance(item, Trial) else [item]
            if cache is not None:
                with prepared.autocast():
                    inputs = cache.fill(item)
            output = prepared.predict(inputs)
            if these[0] % 100 == 0 or these is numbers[-1] or these is numbers[0]:
                check_finite(output)
            if cache is not None:
                cache.evict()
            for observer in observers:
                observer.add(these, item, output)
            bar.update(min(len(these) * world.size, episodes - bar.n))
    network.train(was_training)
